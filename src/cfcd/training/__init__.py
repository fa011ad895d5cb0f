"""From labelled photos to a model: mining, hard-negative tuples, and what else training needs.

Names are loaded on first use: planning a run needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfcd.lazy import lazy_names

if TYPE_CHECKING:
    from cfcd.training.mining import Mined, load_mined, mine, mined_once, save_mined, should_mine
    from cfcd.training.tuples import EpochTuples, TupleSampler, epoch_tuples, share

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


__getattr__ = lazy_names(
    __name__,
    {
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
    },
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
