"""The recipes that come with the package."""

from __future__ import annotations

import math

from cfcd.errors import UsageError
from cfcd.model.config import nearest
from cfcd.training.recipe import (
    AugmentRecipe,
    FineRecipe,
    ModelRecipe,
    OptimizerRecipe,
    PhaseRecipe,
    Recipe,
    WhiteningRecipe,
)
from cfcd.training.recipe_head import HeadRecipe

MANY_IMAGES = 50_000
"""From here on a collection has enough pictures for the recipe of the paper."""

_SMALL = Recipe(
    name="small",
    distill=30.0,
    model=ModelRecipe(backbone="efficientnet_lite0", freeze=12, batchnorm="frozen"),  # stem and 11 blocks
    whitening=WhiteningRecipe("metric", dim=512, within=1.0, between=1.0, centre=0.5, gain=1.0),
    head=HeadRecipe("madacos", {"rho": 0.02, "floor": 32.0, "ceiling": 32.0}),
    augment=AugmentRecipe(size=256, area=(0.3, 1.0), flip=0.5, colour=0.3),
    # At 25 steps this lr cost 30 points of mAP on objects not trained on; from 150 on it costs none.
    coarse=PhaseRecipe(epochs=5, batch=32, lr=0.004, full_lr_steps=150, warmup=0.1),
    # The paper's margin, ratio and sum leave no triplet active here: docs/measurements.md.
    fine=FineRecipe(
        epochs=1, batch=32, lr=0.001, warmup=0.1, weight=1.0, margin=1.0, ratio=1.0, reduction="mean"
    ),
    optimizer=OptimizerRecipe(weight_decay=1e-4, head_weight_decay=0.0),
)

_PAPER = Recipe(
    name="paper",
    model=ModelRecipe(
        backbone="resnet50",
        weights="microsoft/resnet-50",  # ImageNet
        # The paper uses the original size; that of its benchmarks is 1024.
        long_side=1024,
        scales=(0.3535, 0.5, 0.7071, 1.0, 1.4142),
        batchnorm="trained",
    ),
    whitening=WhiteningRecipe("learned", dim=512),
    head=HeadRecipe("madacos", {"rho": 0.02, "floor": 32.0, "ceiling": math.inf}),
    augment=AugmentRecipe(size=512, area=(0.08, 1.0), flip=0.5, lighting=0.1),
    coarse=PhaseRecipe(epochs=50, batch=128, lr=0.005, warmup=0.1, warmup_from=0.1),
    fine=FineRecipe(epochs=50, batch=128, lr=0.005, weight=0.05),
    optimizer=OptimizerRecipe(weight_decay=1e-4, head_weight_decay=1e-4),
)

RECIPES: tuple[str, ...] = ("small", "paper")
"""Names that `named_recipe` knows."""


def named_recipe(name: str) -> Recipe:
    """Give a recipe that comes with the package: small, for few pictures and CPUs, or paper, for a cluster.

    Raises:
        UsageError: There is no recipe of this name.
    """
    for recipe in (_SMALL, _PAPER):
        if recipe.name == name:
            return recipe
    raise UsageError(
        f"There is no recipe named {name!r:.80}.{nearest(str(name), list(RECIPES))}",
        f"Give one of {', '.join(RECIPES)}.",
    )


def choose_recipe(images: int | None) -> Recipe:
    """Choose by the number of training pictures: small below 50,000 or when it is not known, else paper."""
    return _SMALL if images is None or images < MANY_IMAGES else _PAPER
