from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from cfcd.training.recipe import (
    Recipe,
)
from cfcd.training.recipe_values import Section, as_yaml, sections


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (1.0, "1.0"),
        (1e-5, "1.0e-05"),
        (1.5e-7, "1.5e-07"),
        (1e22, "1.0e+22"),
        (math.inf, ".inf"),
        (-math.inf, "-.inf"),
        (math.nan, ".nan"),
        ("microsoft/resnet-50", "microsoft/resnet-50"),
        ("no", '"no"'),
        ("Null", '"Null"'),
        ("1e-4", '"1e-4"'),
        ("a b", '"a b"'),
        ((1.0, "x"), "[1.0, x]"),
    ],
)
def test_values_are_written_for_any_yaml_reader(value: Any, text: str) -> None:
    assert as_yaml(value) == text
    read = yaml.safe_load(text)
    expected = list(value) if isinstance(value, tuple) else value
    assert read == expected or (math.isnan(read) and math.isnan(expected))


def test_every_section_knows_its_name() -> None:
    for name, (kind, about) in sections(Recipe).items():
        assert name == kind.KEY
        assert issubclass(kind, Section) and about.endswith(".")
