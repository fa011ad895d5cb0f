from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from cfcd.catalog import Catalog, read_catalog
from cfcd.errors import CatalogError

pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")


def read(tmp_path: Path, columns: dict[str, Any]) -> Catalog:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return read_catalog(tmp_path / "t.parquet")


def test_types_of_known_and_further_columns(tmp_path: Path) -> None:
    day = datetime.date(2024, 5, 1)
    catalog = read(
        tmp_path,
        {
            "path": pa.array([b"a.jpg", b"b.jpg", b"c.jpg"], pa.binary()),
            "label": pa.array([0, 7, None], pa.int64()),
            "split": pa.array(["train", "test", "train"]).dictionary_encode(),
            "is_query": [True, False, None],
            "x_1": [0, 1, None],
            "y_1": [0.5, 1, None],
            "x_2": pa.array([5, 6, None], pa.int16()),
            "y_2": [5, 6, None],
            "day": [day, None, day],
            "sizes": [[1, 2], [], None],
        },
    )
    assert (catalog.kind, list(catalog.rows or ()), catalog.problems) == ("parquet", [1, 2, 3], ())
    assert catalog.ids == ["a.jpg", "b.jpg", "c.jpg"]
    assert catalog.labels == ["0", "7", None]
    assert catalog.splits == ["train", "test", "train"]
    assert catalog.is_query == [True, False, None]
    assert catalog.boxes == [(0.0, 0.5, 5.0, 5.0), (1.0, 1.0, 6.0, 6.0), None]
    assert catalog.extra == {"day": [day, None, day], "sizes": [[1, 2], [], None]}


def test_labels_as_floats_with_gaps_lose_their_point(tmp_path: Path) -> None:
    catalog = read(tmp_path, {"path": ["a", "b", "c"], "label": [3.0, float("nan"), 4.5], "id": [1, 2, 3]})
    assert catalog.labels == ["3", None, "4.5"]
    assert catalog.ids == ["1", "2", "3"]


def test_bad_rows(tmp_path: Path) -> None:
    catalog = read(tmp_path, {"path": ["a", None, "c", "d"], "id": [1, 2, 1, None], "is_query": [1, 0, 1, 5]})
    assert catalog.ids == ["1"]
    found = [(problem.row, problem.kind) for problem in catalog.problems]
    assert found == [(2, "bad-path"), (3, "duplicate-id"), (4, "bad-flag"), (4, "bad-id")]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    (tmp_path / "year=2024").mkdir()
    catalog = read(tmp_path / "year=2024", {"path": ["a"]})
    assert catalog.extra == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a"]}, "rename 'image' to path"),
        ({"path": [["a"]]}, "'path' of type list"),
        ({"path": ["a"], "x_1": [1]}, "lacks y_1, x_2, y_2"),
        ({"path": pa.array([], pa.string())}, "has no rows"),
        ({"path": pa.array([b"\xff"], pa.binary())}, "not UTF-8"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, columns)


def test_damaged_files(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"path": ["a"] * 100}), file)
    content = file.read_bytes()
    for cut in (content[: len(content) // 2], b"", b"PAR1nonsensePAR1"):
        file.write_bytes(cut)
        with pytest.raises(CatalogError, match="cannot be read as Parquet"):
            read_catalog(file)


def test_times_finer_than_python_knows_are_kept_as_text(tmp_path: Path) -> None:
    times = pa.array([1_234_567_891_234_567_891, None], pa.timestamp("ns"))
    pq.write_table(pa.table({"path": ["a.jpg", "b.jpg"], "taken": times}), tmp_path / "t.parquet")
    assert read_catalog(tmp_path / "t.parquet").extra["taken"] == ["2009-02-13 23:31:31.234567891", None]
