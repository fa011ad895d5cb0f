from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest

from cfcd.errors import UsageError
from cfcd.training.recipe_head import HEAD_OPTIONS, HeadRecipe


def test_options_of_the_caller_are_copied() -> None:
    options = {"rho": 0.1}
    head = HeadRecipe("madacos", options)
    options["rho"] = 7
    assert head.options == {"rho": 0.1, "floor": 32.0, "ceiling": 1024.0}
    assert head.values()["options"] is not head.options


@pytest.mark.parametrize("kind", HEAD_OPTIONS)
def test_head_options_are_those_of_the_heads(kind: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from cfcd import losses

    names = {name.lower(): name for name in losses.__all__}
    head = getattr(losses, names[kind])
    taken = {
        name: parameter.default
        for name, parameter in inspect.signature(head.__init__).parameters.items()
        if name not in ("self", "dim", "classes")
    }
    recipe = HeadRecipe(kind)  # type: ignore[arg-type]
    assert recipe.options == taken
    head(4, 3, **recipe.options)
    for name, default in recipe.options.items():
        if isinstance(default, bool):
            continue
        for value in (
            -1.0,
            0.0,
            1e-9,
            0.5,
            1.0,
            math.pi / 2,
            1.6,
            1.99,
            2.0,
            31.0,
            33.0,
            1023.0,
            1025.0,
            math.nan,
        ):
            options = {**recipe.options, name: value}
            assert allowed(HeadRecipe, kind, options) == allowed(head, 4, 3, **options), options


def allowed(make: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
    try:
        make(*arguments, **options)
    except UsageError:
        return False
    return True
