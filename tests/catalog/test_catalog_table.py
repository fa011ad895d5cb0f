from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cfcd.catalog import Catalog, Item, Problem
from cfcd.errors import CatalogError

ROOT = Path("/photos")


def catalog_of(count: int = 4, **columns: Any) -> Catalog:
    names = [f"{number}.jpg" for number in range(count)]
    return Catalog(ROOT / "catalog.csv", ROOT, "csv", names, names, **columns)


def test_items_have_absolute_files_and_their_cells() -> None:
    catalog = catalog_of(
        2,
        labels=["a", None],
        boxes=[None, (1.0, 2.0, 3.0, 4.0)],
        rows=[2, 3],
        extra={"city": ["Nice", "Aix"]},
    )
    assert list(catalog) == [
        Item("0.jpg", ROOT / "0.jpg", "a", None, None, None, None, 2, {"city": "Nice"}),
        Item("1.jpg", ROOT / "1.jpg", None, None, None, None, (1.0, 2.0, 3.0, 4.0), 3, {"city": "Aix"}),
    ]
    assert catalog[-1] == catalog[1]
    with pytest.raises(IndexError):
        catalog[2]


def test_absolute_paths_ignore_the_root_and_dots_are_resolved_by_their_letters() -> None:
    catalog = Catalog(ROOT, ROOT, "csv", ["x", "y"], ["/elsewhere/x.jpg", "a/../y.jpg"])
    assert [item.path for item in catalog] == [Path("/elsewhere/x.jpg"), ROOT / "y.jpg"]


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(CatalogError, match="'labels' has 1 values for 4"):
        catalog_of(labels=["a"])
    with pytest.raises(CatalogError, match="'city' has 5 values"):
        catalog_of(extra={"city": ["x"] * 5})


def test_select_takes_rows_in_the_given_order_and_keeps_problems() -> None:
    problem = Problem("bad-box", True, "half a box", "5.jpg", 7)
    catalog = catalog_of(
        labels=["a", "b", "c", "d"],
        splits=["train", "test", "train", "test"],
        is_query=[True, False, None, True],
        is_gallery=[False, True, True, None],
        boxes=[None, (0.0, 0.0, 1.0, 1.0), None, None],
        rows=[2, 3, 4, 5],
        extra={"n": [10, 11, 12, 13]},
        problems=(problem,),
    )
    chosen = catalog.select([3, 1])
    assert list(chosen) == [catalog[3], catalog[1]]
    assert chosen.problems == (problem,)
    assert len(catalog.select([])) == 0


def test_has_labels() -> None:
    assert not catalog_of().has_labels
    assert not catalog_of(labels=[None] * 4).has_labels
    assert catalog_of(labels=[None, None, None, "a"]).has_labels


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, None),
        ({"splits": ["train"] * 4}, None),
        ({"splits": ["train", "test", "val", "train"]}, ([1], [0, 3])),
        ({"splits": ["Train", " TEST", None, "test"]}, ([1, 3], [0])),
        ({"splits": ["query", "gallery", "train", "query"]}, ([0, 3], [1])),
        ({"splits": ["query", "index", "index", "val"]}, ([0], [1, 2])),
        ({"splits": ["test", "index", "index", "val"]}, ([0], [1, 2])),
        ({"splits": ["test", "test", "val", "val"]}, None),
        ({"is_query": [True, False, None, True]}, ([0, 3], [1, 2])),
        ({"is_gallery": [True, False, None, True]}, ([1, 2], [0, 3])),
        ({"is_query": [True] * 4, "is_gallery": [True] * 4}, ([0, 1, 2, 3], [0, 1, 2, 3])),
        (
            {"is_query": [True, None, False, False], "is_gallery": [False, None, True, False]},
            ([0], [2]),
        ),
        # The flags decide even where there are splits.
        (
            {"is_query": [True, False, False, False], "splits": ["train", "test", "test", "test"]},
            ([0], [1, 2, 3]),
        ),
    ],
)
def test_query_gallery(columns: dict[str, Any], expected: object) -> None:
    assert catalog_of(**columns).query_gallery() == expected


def test_flags_that_leave_a_side_empty_are_an_error() -> None:
    with pytest.raises(CatalogError, match="0 images as queries and 4 as gallery"):
        catalog_of(is_query=[False] * 4).query_gallery()


def test_identity_depends_on_the_rows_and_not_on_the_root() -> None:
    base = catalog_of(labels=["a", "b", "a", "b"], rows=[2, 3, 4, 5])
    moved = Catalog(Path("/b/t.csv"), Path("/b"), "csv", base.ids, tuple(base.paths), labels=tuple("abab"))
    assert base.identity() == moved.identity() == base.select(range(4)).identity()
    others = [
        base.select([1, 0, 2, 3]),
        base.select([0, 1, 2]),
        catalog_of(labels=["a", "b", "a", "c"]),
        catalog_of(labels=["a", "b", "a", None]),
        catalog_of(labels=["a", "b", "a", "b"], boxes=[None, None, None, (0.0, 0.0, 1.0, 1.0)]),
        catalog_of(labels=["a", "b", "a", "b"], splits=["train", "train", "train", "test"]),
        catalog_of(),
    ]
    assert len({catalog.identity() for catalog in (base, *others)}) == len(others) + 1


def test_identity_of_large_catalogs_sees_every_row() -> None:
    many = [str(number) for number in range(70_000)]
    changed = [*many[:-1], "other"]
    first, second = (Catalog(ROOT, ROOT, "csv", ids, many) for ids in (many, changed))
    assert first.identity() != second.identity()


def test_the_catalog_loads_no_numerical_library() -> None:
    heavy = ("numpy", "PIL", "pyarrow", "torch", "pandas")
    program = f"import sys, cfcd.catalog; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
