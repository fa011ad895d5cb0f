from __future__ import annotations

import math
import re

import pytest

from cfcd.errors import UsageError
from cfcd.training.named_recipes import RECIPES, choose_recipe, named_recipe
from cfcd.training.recipe import (
    AugmentRecipe,
    PhaseRecipe,
    Recipe,
    WhiteningRecipe,
)
from cfcd.training.recipe_file import load_recipe
from cfcd.training.recipe_head import HeadRecipe
from cfcd.training.recipe_values import knobs, sections

SMALL = named_recipe("small")


def test_every_key_is_explained_on_a_line_that_can_be_read() -> None:
    for name in RECIPES:
        lines = named_recipe(name).to_yaml().splitlines()
        for line in lines:
            assert len(line) <= 140
            if re.match(r"\s*\w+: ", line):
                assert re.search(r"  # \S.{4,}", line)
        keys = re.findall(r"^\s*(\w+):", "\n".join(lines), re.MULTILINE)
        for section in (
            Recipe,
            *(kind for kind, _ in sections(Recipe).values() if kind is not WhiteningRecipe),
        ):
            assert set(knobs(section)) <= set(keys)


def test_the_recipe_of_the_paper_is_that_of_the_authors() -> None:
    paper = named_recipe("paper")
    assert paper.model.backbone == "resnet50" and paper.model.weights == "microsoft/resnet-50"
    assert paper.model.p == 3 and paper.model.freeze == 0 and paper.model.batchnorm == "trained"
    assert paper.model.scales == (0.3535, 0.5, 0.7071, 1, 1.4142)
    assert paper.whitening == WhiteningRecipe("learned", 512)
    assert paper.head == HeadRecipe("madacos", {"rho": 0.02, "floor": 32, "ceiling": math.inf})
    assert paper.augment == AugmentRecipe(
        size=512, area=(0.08, 1), aspect=(0.75, 4 / 3), flip=0.5, colour=0, lighting=0.1
    )
    assert paper.coarse == PhaseRecipe(epochs=50, batch=128, lr=0.005, warmup=5 / 50, warmup_from=0.1)
    fine = paper.fine
    assert (fine.epochs, fine.batch, fine.lr, fine.tuple_size) == (50, 128, 0.005, 8)
    assert (fine.weight, fine.margin, fine.ratio, fine.reduction, fine.mine_every) == (
        0.05,
        0.1,
        0.9,
        "sum",
        0,
    )
    optimizer = paper.optimizer
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert optimizer.weight_decay == optimizer.head_weight_decay == 1e-4
    assert optimizer.clip is None and optimizer.ema is None and optimizer.accumulate == 1
    assert paper.distill == 0


def test_the_small_recipe_keeps_near_the_start() -> None:
    assert SMALL.model.backbone == "efficientnet_lite0" and SMALL.model.weights == "default"
    assert SMALL.model.batchnorm == "frozen"
    assert SMALL.whitening.kind == "metric" and SMALL.head.kind == "madacos"
    assert SMALL.coarse.epochs and SMALL.fine.epochs


def test_recipes_have_the_names_they_are_called_by() -> None:
    assert [named_recipe(name).name for name in RECIPES] == ["small", "paper"]
    with pytest.raises(
        UsageError,
        match=r"^There is no recipe named 'papr'. Did you mean 'paper'. Give one of small, paper.$",
    ):
        named_recipe("papr")


@pytest.mark.parametrize(
    ("images", "name"),
    [(None, "small"), (0, "small"), (49_999, "small"), (50_000, "paper"), (1_580_470, "paper")],
)
def test_the_number_of_pictures_chooses_the_recipe(images: int | None, name: str) -> None:
    assert choose_recipe(images).name == name
    assert load_recipe(images=images) is choose_recipe(images)
