"""Evaluation: how well descriptors find the right images, as numbers and as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfcd.lazy import lazy_names

if TYPE_CHECKING:
    from cfcd.evaluation.cells import GridCell, GridRow
    from cfcd.evaluation.comparison import Comparison, compare
    from cfcd.evaluation.folder import ClassResult, FolderReport, QueryResult, evaluate_descriptors
    from cfcd.evaluation.grid_html import write_grid_html
    from cfcd.evaluation.grid_png import write_grid_png
    from cfcd.evaluation.intervals import bootstrap_mean, paired_difference
    from cfcd.evaluation.landmarks_v2 import (
        global_average_precision,
        landmark_recognition,
        landmark_retrieval,
    )
    from cfcd.evaluation.landmarks_v2_run import evaluate_landmarks
    from cfcd.evaluation.metrics import average_precision, average_precision_at_r, r_precision
    from cfcd.evaluation.revisited_evaluation import RevisitedEvaluation
    from cfcd.evaluation.revisited_protocol import revisited
    from cfcd.evaluation.revisited_report import RevisitedReport
    from cfcd.evaluation.robustness import RobustnessReport, evaluate_robustness
    from cfcd.evaluation.run import Evaluation, evaluate
    from cfcd.evaluation.saved import read_saved_report

__all__ = [
    "ClassResult",
    "Comparison",
    "Evaluation",
    "FolderReport",
    "GridCell",
    "GridRow",
    "QueryResult",
    "RevisitedEvaluation",
    "RevisitedReport",
    "RobustnessReport",
    "average_precision",
    "average_precision_at_r",
    "bootstrap_mean",
    "compare",
    "evaluate",
    "evaluate_descriptors",
    "evaluate_landmarks",
    "evaluate_robustness",
    "global_average_precision",
    "landmark_recognition",
    "landmark_retrieval",
    "paired_difference",
    "r_precision",
    "read_saved_report",
    "revisited",
    "write_grid_html",
    "write_grid_png",
]


__getattr__ = lazy_names(
    __name__,
    {
        "Comparison": "comparison",
        "RevisitedEvaluation": "revisited_evaluation",
        "RevisitedReport": "revisited_report",
        "bootstrap_mean": "intervals",
        "compare": "comparison",
        "paired_difference": "intervals",
        "read_saved_report": "saved",
        "RobustnessReport": "robustness",
        "evaluate_robustness": "robustness",
        "revisited": "revisited_protocol",
        "Evaluation": "run",
        "evaluate": "run",
        "ClassResult": "folder",
        "FolderReport": "folder",
        "GridCell": "cells",
        "GridRow": "cells",
        "QueryResult": "folder",
        "global_average_precision": "landmarks_v2",
        "landmark_recognition": "landmarks_v2",
        "landmark_retrieval": "landmarks_v2",
        "evaluate_landmarks": "landmarks_v2_run",
        "r_precision": "metrics",
        "average_precision": "metrics",
        "average_precision_at_r": "metrics",
        "evaluate_descriptors": "folder",
        "write_grid_html": "grid_html",
        "write_grid_png": "grid_png",
    },
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
