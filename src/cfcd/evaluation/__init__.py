"""Evaluation: how well descriptors find the right images, as numbers and as pictures."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfcd.evaluation.cells import GridCell, GridRow
    from cfcd.evaluation.folder import ClassResult, FolderReport, QueryResult, evaluate_descriptors
    from cfcd.evaluation.grid_html import write_grid_html
    from cfcd.evaluation.grid_png import write_grid_png
    from cfcd.evaluation.metrics import average_precision, average_precision_at_r
    from cfcd.evaluation.run import Evaluation, evaluate

_HOMES = {
    "Evaluation": "cfcd.evaluation.run",
    "evaluate": "cfcd.evaluation.run",
    "ClassResult": "cfcd.evaluation.folder",
    "FolderReport": "cfcd.evaluation.folder",
    "GridCell": "cfcd.evaluation.cells",
    "GridRow": "cfcd.evaluation.cells",
    "QueryResult": "cfcd.evaluation.folder",
    "average_precision": "cfcd.evaluation.metrics",
    "average_precision_at_r": "cfcd.evaluation.metrics",
    "evaluate_descriptors": "cfcd.evaluation.folder",
    "write_grid_html": "cfcd.evaluation.grid_html",
    "write_grid_png": "cfcd.evaluation.grid_png",
}

__all__ = [
    "ClassResult",
    "Evaluation",
    "FolderReport",
    "GridCell",
    "GridRow",
    "QueryResult",
    "average_precision",
    "average_precision_at_r",
    "evaluate",
    "evaluate_descriptors",
    "write_grid_html",
    "write_grid_png",
]


def __getattr__(name: str) -> Any:
    """Load a name from its file on first use: a folder's numbers need no Pillow, a grid no metrics."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cfcd.evaluation' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
