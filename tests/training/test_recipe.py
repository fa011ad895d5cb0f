from __future__ import annotations

import copy
import json
import math
import pickle
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from cfcd.errors import UsageError
from cfcd.training.named_recipes import named_recipe
from cfcd.training.recipe import (
    AugmentRecipe,
    FineRecipe,
    ModelRecipe,
    OptimizerRecipe,
    PhaseRecipe,
    Recipe,
    RunRecipe,
    WhiteningRecipe,
)
from cfcd.training.recipe_file import load_recipe
from cfcd.training.recipe_head import HeadRecipe
from tests.training.recipe_strategies import recipes

SMALL = named_recipe("small")
COARSE: dict[str, Any] = {"epochs": 1, "batch": 8, "lr": 0.1}


def infinities(value: Any) -> Any:
    """Turn ".inf" into infinity, as YAML does."""
    if isinstance(value, dict):
        return {key: infinities(item) for key, item in value.items()}
    return math.inf if value == ".inf" else value


@settings(max_examples=100, deadline=None)
@given(recipes())
def test_every_way_there_and_back_ends_where_it_began(recipe: Recipe) -> None:
    data = recipe.to_dict()
    assert Recipe.from_dict(data) == recipe
    assert Recipe.from_dict(json.loads(json.dumps(data, allow_nan=False))) == recipe
    text = recipe.to_yaml()
    # With the rules of YAML 1.1 too, except for the text that stands for infinity in a name.
    assert infinities(yaml.safe_load(text)) == infinities(data)
    assert replace(recipe) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe


@settings(max_examples=50, deadline=None)
@given(recipes())
def test_files_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    path.write_text(recipe.to_yaml(), "utf-8")
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (PhaseRecipe, {"lr": 0}, "coarse.lr is 0. Give a number above 0 and at most 100."),
        (PhaseRecipe, {"lr": -1e-5}, "coarse.lr is -1.0e-05. Give a number above 0 and at most 100."),
        (PhaseRecipe, {"lr": math.nan}, "coarse.lr is .nan. Give a number above 0 and at most 100."),
        (PhaseRecipe, {"lr": math.inf}, "coarse.lr is .inf. Give a number above 0 and at most 100."),
        (PhaseRecipe, {"lr": True}, "coarse.lr is true. Give a number above 0 and at most 100."),
        (PhaseRecipe, {"lr": "1"}, "coarse.lr is '1'. Give a number above 0 and at most 100."),
        (PhaseRecipe, {"lr": None}, "coarse.lr is null. Give a number above 0 and at most 100."),
        (PhaseRecipe, {"epochs": -1}, "coarse.epochs is -1. Give a whole number from 0 to 1000000."),
        (PhaseRecipe, {"epochs": 5.0}, "coarse.epochs is 5.0. Give a whole number from 0 to 1000000."),
        (PhaseRecipe, {"epochs": False}, "coarse.epochs is false. Give a whole number from 0 to 1000000."),
        (PhaseRecipe, {"batch": 1}, "coarse.batch is 1. Give a whole number from 2 to 1000000."),
        (PhaseRecipe, {"warmup": 1.1}, "coarse.warmup is 1.1. Give a number from 0 to 1."),
        (PhaseRecipe, {"warmup_from": -0.1}, "coarse.warmup_from is -0.1. Give a number from 0 to 1."),
        (FineRecipe, {"lr": 0}, "fine.lr is 0. Give a number above 0 and at most 100."),
        (FineRecipe, {"tuple_size": 2}, "fine.tuple_size is 2. Give a whole number from 3 to 1000."),
        (FineRecipe, {"batch": 12}, "fine.batch is 12. Give a multiple of fine.tuple_size, 8."),
        (FineRecipe, {"weight": -1}, "fine.weight is -1. Give a number from 0 to 1000000."),
        (FineRecipe, {"margin": 5}, "fine.margin is 5. Give a number from 0 to 4."),
        (FineRecipe, {"ratio": 0}, "fine.ratio is 0. Give a number above 0 and at most 1."),
        (
            FineRecipe,
            {"reduction": "meen"},
            "fine.reduction is 'meen'. Did you mean 'mean'? Give one of sum, mean.",
        ),
        (FineRecipe, {"mine_every": -1}, "fine.mine_every is -1. Give a whole number from 0 to 1000000."),
        (ModelRecipe, {"backbone": ""}, "model.backbone is ''. Give text of 1 to 1000 printable characters."),
        (
            ModelRecipe,
            {"weights": "a\nb"},
            r"model.weights is 'a\nb'. Give text of 1 to 1000 printable characters.",
        ),
        (
            ModelRecipe,
            {"weights": None},
            "model.weights is null. Give text of 1 to 1000 printable characters.",
        ),
        (ModelRecipe, {"p": 0}, "model.p is 0. Give a number above 0 and at most 100."),
        (
            ModelRecipe,
            {"long_side": "defalt"},
            "model.long_side is 'defalt'. Did you mean 'default'? Give a whole number from 16 to 16384, "
            "or null or default.",
        ),
        (
            ModelRecipe,
            {"long_side": 15},
            "model.long_side is 15. Give a whole number from 16 to 16384, or null or",
        ),
        (
            ModelRecipe,
            {"scales": ()},
            "model.scales is []. Give a list of 1 to 16 numbers, each a number from 0.05 to 8.",
        ),
        (ModelRecipe, {"scales": [1, 9]}, "model.scales is [1, 9]. Give a list of 1 to 16 numbers"),
        (ModelRecipe, {"scales": 1.0}, "model.scales is 1.0. Give a list of 1 to 16 numbers"),
        (ModelRecipe, {"freeze": 1.5}, "model.freeze is 1.5. Give a whole number from 0 to 1000."),
        (ModelRecipe, {"batchnorm": True}, "model.batchnorm is true. Give one of frozen, trained."),
        (AugmentRecipe, {"size": 16}, "augment.size is 16. Give a whole number from 32 to 4096."),
        (
            AugmentRecipe,
            {"area": (1, 0.3)},
            "augment.area is [1, 0.3]. Give a list of two numbers, the smaller one first, each a "
            "number above 0 and at most 1.",
        ),
        (AugmentRecipe, {"area": (0, 1)}, "augment.area is [0, 1]."),
        (AugmentRecipe, {"area": (0.5,)}, "augment.area is [0.5]."),
        (AugmentRecipe, {"area": 0.5}, "augment.area is 0.5."),
        (AugmentRecipe, {"aspect": (0, 1)}, "augment.aspect is [0, 1]."),
        (AugmentRecipe, {"flip": 2}, "augment.flip is 2. Give a number from 0 to 1."),
        (AugmentRecipe, {"colour": 1}, "augment.colour is 1. Give a number of at least 0 and below 1."),
        (AugmentRecipe, {"lighting": -1}, "augment.lighting is -1. Give a number from 0 to 10."),
        (
            OptimizerRecipe,
            {"momentum": 1},
            "optimizer.momentum is 1. Give a number of at least 0 and below 1.",
        ),
        (
            OptimizerRecipe,
            {"momentum": 0},
            "optimizer.nesterov is true. Give false with an optimizer.momentum of 0.",
        ),
        (OptimizerRecipe, {"nesterov": 1}, "optimizer.nesterov is 1. Give true or false."),
        (OptimizerRecipe, {"weight_decay": -1}, "optimizer.weight_decay is -1. Give a number from 0 to 1."),
        (
            OptimizerRecipe,
            {"clip": 0},
            "optimizer.clip is 0. Give a number above 0 and at most 1000000, or null.",
        ),
        (
            OptimizerRecipe,
            {"accumulate": 0},
            "optimizer.accumulate is 0. Give a whole number from 1 to 1000000.",
        ),
        (OptimizerRecipe, {"ema": 1}, "optimizer.ema is 1. Give a number above 0 and below 1, or null."),
        (RunRecipe, {"precision": "fp8"}, "run.precision is 'fp8'. Did you mean 'fp"),
        (RunRecipe, {"channels_last": "yes"}, "run.channels_last is 'yes'. Give true or false."),
        (RunRecipe, {"checkpoint_minutes": 0}, "run.checkpoint_minutes is 0. Give a number above 0"),
        (RunRecipe, {"monitor": -1}, "run.monitor is -1."),
        (RunRecipe, {"workers": 0}, "run.workers is 0. Give a whole number from 1 to 1024, or null."),
        (
            WhiteningRecipe,
            {"kind": "metrik"},
            "whitening.kind is 'metrik'. Did you mean 'metric'? Give one of metric,",
        ),
        (
            WhiteningRecipe,
            {"kind": "metric", "dim": 1},
            "whitening.dim is 1. Give a whole number from 2 to 65536, or null.",
        ),
        (
            WhiteningRecipe,
            {"kind": "metric", "within": 0},
            "whitening.within is 0. Give a number above 0 and at",
        ),
        (
            WhiteningRecipe,
            {"kind": "metric", "centre": 2},
            "whitening.centre is 2. Give a number from 0 to 1, or null.",
        ),
        (
            WhiteningRecipe,
            {"kind": "metric", "gain": -1},
            "whitening.gain is -1. Give a number from 0 to 1000, or null.",
        ),
        (
            WhiteningRecipe,
            {"kind": "learned", "gain": 1},
            "whitening.gain is 1.0, but a whitening of kind learned has no such value. Leave it out, or",
        ),
        (
            WhiteningRecipe,
            {"kind": "none", "dim": 64},
            "whitening.dim is 64, but a whitening of kind none has no such",
        ),
        (
            HeadRecipe,
            {"kind": "arcfase"},
            "head.kind is 'arcfase'. Did you mean 'arcface'? Give one of madacos,",
        ),
        (HeadRecipe, {"kind": ["arcface"]}, "head.kind is [arcface]. Give one of madacos,"),
        (
            HeadRecipe,
            {"kind": "arcface", "options": {"margn": 1}},
            "A head of kind arcface has no option head.options.margn. Did you mean 'margin'? It takes scale, "
            "margin.",
        ),
        (
            HeadRecipe,
            {"kind": "adacos", "options": {"scale": 1}},
            "A head of kind adacos has no option head.options.scale. It takes none.",
        ),
        (HeadRecipe, {"kind": "adacos", "options": 3}, "head.options is 3. Give keys and values: none."),
        (
            HeadRecipe,
            {"kind": "madacos", "options": {"ceiling": 16}},
            "head.options.floor is 32.0. Give one of at most head.options.ceiling, 16.0.",
        ),
        (
            HeadRecipe,
            {"kind": "madacos", "options": {"rho": 1}},
            "head.options.rho is 1. Give a number above 0 and below 1.",
        ),
        (
            HeadRecipe,
            {"kind": "madacos", "options": {"ceiling": 0}},
            "head.options.ceiling is 0. Give a number above 0, or .inf.",
        ),
        (
            HeadRecipe,
            {"kind": "arcface", "options": {"margin": 1.6}},
            "head.options.margin is 1.6. Give a number from 0 to 1.5707963267948966.",
        ),
        (
            HeadRecipe,
            {"kind": "softmax", "options": {"learn_scale": 1}},
            "head.options.learn_scale is 1. Give true or false.",
        ),
    ],
)
def test_what_is_not_allowed_is_named_with_its_range(
    section: Any, values: dict[str, Any], message: str
) -> None:
    given = COARSE | values if section in (PhaseRecipe, FineRecipe) else values
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        section(**given)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "a b"},
            "name is 'a b'. Give 1 to 100 letters, digits and . _ + -, the first a letter or digit.",
        ),
        ({"name": "../a"}, "name is '../a'."),
        ({"name": "x" * 101}, f"name is '{'x' * 76}...."),
        ({"seed": -1}, "seed is -1. Give a whole number from 0 to 4294967295."),
        ({"distill": -1}, "distill is -1. Give a number from 0 to 1000000."),
        ({"fine": None}, "fine is null. Give a FineRecipe."),
        ({"coarse": SMALL.fine}, "coarse is FineRecipe("),
        ({"fine": SMALL.coarse}, "fine is PhaseRecipe("),
        ({"head": {"kind": "adacos"}}, "head is {'kind': 'adacos'}. Give a HeadRecipe."),
        (
            {"coarse": replace(SMALL.coarse, epochs=0), "fine": replace(SMALL.fine, epochs=0)},
            "coarse.epochs and fine.epochs are both 0. Give one of them at least 1.",
        ),
        (
            {"coarse": PhaseRecipe(epochs=1, batch=30, lr=1), "optimizer": OptimizerRecipe(accumulate=4)},
            "optimizer.accumulate is 4. Give a divisor of coarse.batch, 30, that leaves 2 pictures or more.",
        ),
        (
            {"coarse": PhaseRecipe(epochs=1, batch=4, lr=1), "optimizer": OptimizerRecipe(accumulate=4)},
            "optimizer.accumulate is 4. Give a divisor of coarse.batch, 4, that leaves 2 pictures or more.",
        ),
        (
            {
                "coarse": replace(SMALL.coarse, epochs=0),
                "fine": FineRecipe(epochs=1, batch=24, lr=1),
                "optimizer": OptimizerRecipe(accumulate=2),
            },
            "optimizer.accumulate is 2. Give a divisor of the 3 tuples of fine.batch.",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        replace(SMALL, **values)


def test_a_phase_that_is_skipped_does_not_bind_the_accumulation() -> None:
    odd = PhaseRecipe(epochs=0, batch=31, lr=1)
    recipe = replace(
        SMALL,
        coarse=odd,
        fine=replace(SMALL.fine, epochs=1, batch=32),
        optimizer=OptimizerRecipe(accumulate=4),
    )
    assert recipe.optimizer.accumulate == 4
    fine = FineRecipe(epochs=0, batch=8, lr=1)
    recipe = replace(recipe, coarse=PhaseRecipe(epochs=1, batch=32, lr=1), fine=fine)
    assert recipe.fine.batch == 8


def test_equal_settings_are_equal_objects_of_one_type() -> None:
    phase = PhaseRecipe(epochs=1, batch=8, lr=1, warmup=0)
    assert phase == PhaseRecipe(epochs=1, batch=8, lr=1.0, warmup=0.0)
    assert [type(value) for value in phase.values().values()] == [int, int, float, int, float, float]
    augment = AugmentRecipe(area=[0.3, 1])  # type: ignore[arg-type]
    assert augment.area == (0.3, 1.0)
    assert type(augment.area) is tuple and type(augment.area[1]) is float
    head = HeadRecipe("softmax", {"scale": 30})
    assert head == HeadRecipe("softmax") and type(head.options["scale"]) is float
    assert hash(SMALL) == hash(replace(SMALL))
    with pytest.raises(FrozenInstanceError):
        SMALL.seed = 1  # type: ignore[misc]


def test_a_whitening_has_the_values_of_its_kind_only() -> None:
    assert WhiteningRecipe("metric").values() == {
        "kind": "metric",
        "dim": None,
        "within": 1.0,
        "between": 1.0,
        "centre": 0.5,
        "gain": 1.0,
    }
    assert WhiteningRecipe("metric", gain=0, within=2).values()["gain"] == 0.0
    learned = WhiteningRecipe("learned", dim=64)
    assert learned.values() == {"kind": "learned", "dim": 64}
    assert learned.within is learned.between is learned.centre is learned.gain is None
    assert WhiteningRecipe("none").values() == {"kind": "none"}


def test_a_long_text_does_not_push_the_comments_aside() -> None:
    recipe = replace(SMALL, model=ModelRecipe(weights="w" * 300))
    lines = recipe.to_yaml().splitlines()
    line = next(line for line in lines if line.startswith("  p: "))
    assert len(line) < 140
    assert load_recipe(SMALL, {"model.weights": "w" * 300}).model.weights == "w" * 300


def test_showing_a_recipe_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "yaml", "PIL", "transformers", "openvino")
    program = (
        "import sys; from cfcd.training.recipe_file import load_recipe; load_recipe('paper').to_yaml();"
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
