from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from cfcd.catalog import Item
from cfcd.gallery.milvus.cells import as_truth, to_cells, whole


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("Nice", {"t": "Nice"}),
        ("1990", {"t": "1990", "n": 1990}),
        (" 1 ", {"t": " 1 ", "n": 1, "b": 1}),
        ("No", {"t": "No", "b": 0}),
        (5, {"m": 5}),
        (5.0, {"m": 5}),
        (0.5, {"m": 0.5}),
        (1, {"m": 1, "b": 1}),
        (True, {"f": 1}),
        ([5], {"o": 1}),
        (-math.inf, {"m": -sys.float_info.max}),
        ("", None),
        (None, None),
        (math.nan, None),
    ],
)
def test_cells_by_kind(value: Any, cell: dict[str, Any] | None) -> None:
    assert to_cells(Item("i", Path("p"), extra={"x": value})).get("x") == cell


def test_columns_of_every_catalog_stand_before_further_ones() -> None:
    item = Item("i", Path("/p"), label="a", is_query=False, box=(0, 1.5, 2, 3), extra={"label": "b"})
    assert to_cells(item) == {
        "id": {"t": "i"},
        "path": {"t": "/p"},
        "label": {"t": "a"},
        "is_query": {"f": 0},
        "x_1": {"m": 0, "b": 0},
        "y_1": {"m": 1.5},
        "x_2": {"m": 2},
        "y_2": {"m": 3},
    }


def test_numbers_are_written_in_one_way() -> None:
    assert repr(whole(5.0)) == repr(whole(5)) == "5"
    assert repr(whole(2.0**60)) == repr(2.0**60)
    assert repr(whole(2**70)) == repr(float(2**70))
    assert (as_truth("TRUE"), as_truth(0), as_truth("5"), as_truth(2.5)) == (1, 0, None, None)
