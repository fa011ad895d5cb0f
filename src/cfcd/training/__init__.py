"""From labelled photos to a model: recipes, the two phases, mining, tuples, and pictures of a run.

Names are loaded on first use: planning a run needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfcd.lazy import lazy_names

if TYPE_CHECKING:
    from cfcd.training.curves import draw_curves
    from cfcd.training.mining import Mined, load_mined, mine, save_mined, should_mine
    from cfcd.training.recipe import Recipe
    from cfcd.training.recipe_file import load_recipe
    from cfcd.training.run import TrainSummary, train
    from cfcd.training.tuples import EpochTuples, TupleSampler

__all__ = [
    "EpochTuples",
    "Mined",
    "Recipe",
    "TrainSummary",
    "TupleSampler",
    "draw_curves",
    "load_mined",
    "load_recipe",
    "mine",
    "save_mined",
    "should_mine",
    "train",
]


__getattr__ = lazy_names(
    __name__,
    {
        "draw_curves": "curves",
        "Mined": "mining",
        "load_mined": "mining",
        "mine": "mining",
        "save_mined": "mining",
        "should_mine": "mining",
        "Recipe": "recipe",
        "load_recipe": "recipe_file",
        "TrainSummary": "run",
        "train": "run",
        "EpochTuples": "tuples",
        "TupleSampler": "tuples",
    },
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
