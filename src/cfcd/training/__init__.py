"""From labelled photos to a model: mining, hard-negative tuples, and what else training needs.

Names are loaded on first use: planning a run needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfcd.training.mining import Mined, load_mined, mine, mined_once, save_mined, should_mine
    from cfcd.training.tuples import EpochTuples, TupleSampler, epoch_tuples, share

_HOMES = {
    "Mined": "mining",
    "load_mined": "mining",
    "mine": "mining",
    "mined_once": "mining",
    "save_mined": "mining",
    "should_mine": "mining",
    "EpochTuples": "tuples",
    "TupleSampler": "tuples",
    "epoch_tuples": "tuples",
    "share": "tuples",
}

__all__ = [
    "EpochTuples",
    "Mined",
    "TupleSampler",
    "epoch_tuples",
    "load_mined",
    "mine",
    "mined_once",
    "save_mined",
    "share",
    "should_mine",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the file it lives in, on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cfcd.training' has no attribute {name!r}")
    return getattr(import_module(f"cfcd.training.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
