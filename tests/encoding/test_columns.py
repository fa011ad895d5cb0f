"""Whatever a user's table holds goes into a shard and comes back."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.catalog import Item, read_catalog
from cfcd.encoding import encode_catalog, load_model, read_encoded
from cfcd.encoding.columns import free_name, same_table, to_array
from cfcd.encoding.rows import FileStamp, items_from_columns, items_table
from cfcd.encoding.shards import read_ids, write_shard

STAMP = FileStamp(10, 20, b"0123456789abcdef")


@pytest.mark.parametrize(
    "values",
    [
        ["a", None],
        [1, 2**62],
        [1.5, None],
        [True, False],
        [datetime.datetime(2020, 1, 2, 3, 4, 5)],
        [datetime.date(2020, 1, 2)],
        [Decimal("1.50")],
        [b"\x00\xff"],
        [[1, 2], [], None],
        [[[1.5]], [[2.5], []]],
        [{"a": 1, "b": "x"}],
        [None, None],
    ],
)
def test_values_of_one_type_keep_it(values: list[Any]) -> None:
    assert to_array(values).to_pylist() == values


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        [2**63 + 1, None],
        [2**70, -1],
        [{}],
        [[1], 2],
        [{1: 2}],
        [[("key", 1), ("other", 2)]],  # a map
        [np.datetime64("2020-01-01T00:00:00.000000001", "ns")],
        ["\ud800"],
        [{"a": [1]}, {"a": "x"}],
        [object],
        [{(1, 2): 3}],
    ],
)
def test_other_values_become_json(values: list[Any]) -> None:
    found = to_array(values).to_pylist()
    for value, text in zip(values, found, strict=True):
        if value is None:
            assert text is None
        else:
            json.loads(text)
    if values == [1, "a"]:
        assert found == ["1", '"a"']


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(values=st.lists(anything, min_size=1, max_size=4))
def test_no_value_fails_a_shard(values: list[Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    items = [Item(str(at), Path("a"), extra={"odd": value}) for at, value in enumerate(values)]
    table = items_table(items, [STAMP] * len(items))
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    back = pyarrow.parquet.read_table(pyarrow.BufferReader(sink.getvalue()))
    assert same_table(table, back)
    assert [item.id for item in items_from_columns(back.to_pydict())[0]] == [item.id for item in items]


def test_same_table_sees_every_difference() -> None:
    def table(**extra: Any) -> Any:
        return items_table([Item("a", Path("a"), extra=extra)], [STAMP])

    assert same_table(table(x=float("nan")), table(x=float("nan")))
    assert not same_table(table(x=1.0), table(x=2.0))
    assert not same_table(table(x=1), table(y=1))
    assert not same_table(table(x=1), table())
    assert not same_table(table(x=None), table(x="None"))


def test_free_name() -> None:
    assert free_name("a", {"b"}) == "a"
    assert free_name("a", {"a", "a_"}) == "a__"


def test_columns_named_like_ours_are_kept(photos: Path, tmp_path: Path) -> None:
    (photos / "table.csv").write_text(
        "path,label,row,file_size,_row,_file_size,_row_\narch/0.jpg,arch,r,s,R,S,T\nchurch/0.jpg,c,r,s,R,S,T\n"
    )
    catalog = read_catalog(photos / "table.csv")
    encoder = load_model()
    encode_catalog(catalog, encoder, tmp_path / "out")
    encoded = read_encoded(tmp_path / "out")
    extra = {"row": "r", "file_size": "s", "_row_": "R", "_file_size_": "S", "_row__": "T"}
    assert encoded.catalog[0].extra == extra
    assert encoded.catalog.rows == [2, 3]
    assert encoded.stamps[0].size == (photos / "arch/0.jpg").stat().st_size
    assert encode_catalog(catalog, encoder, tmp_path / "out").already == 2


def test_odd_columns_are_encoded_once_and_stay(photos: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {
        "path": pyarrow.array(["arch/0.jpg", "church/0.jpg"]),
        "tags": pyarrow.array([[("a", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "huge": pyarrow.array(np.array([2**63 + 1, 1], np.uint64)),
        "grid": pyarrow.array([[[1, 2]], [[3]]]),
        "ratio": pyarrow.array([float("nan"), 1.0]),
        "when": pyarrow.array(np.array([1000, 2000], "datetime64[ns]")),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), photos / "table.parquet")
    catalog, encoder, out = read_catalog(photos / "table.parquet"), load_model(), tmp_path / "out"
    assert encode_catalog(catalog, encoder, out, shard_rows=1).encoded == 2
    extra = read_encoded(out).catalog.extra
    assert json.loads(extra["tags"][0]) == [["a", 1]]
    assert str(extra["huge"][0]) == str(2**63 + 1)
    assert list(extra["grid"]) == [[[1, 2]], [[3]]]
    shards = {file.name: file.stat().st_mtime_ns for file in out.glob("*-*")}
    assert encode_catalog(catalog, encoder, out).already == 2
    assert {file.name: file.stat().st_mtime_ns for file in out.glob("*-*")} == shards


def test_ids_are_read_without_the_other_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    write_shard(tmp_path, 0, [Item("a", Path("a"))], [STAMP], np.zeros((1, 4), np.float32))
    wanted = []
    read = pyarrow.parquet.read_table

    def spy(*arguments: Any, columns: Any = None, **options: Any) -> Any:
        wanted.append(columns)
        return read(*arguments, columns=columns, **options)

    monkeypatch.setattr(pyarrow.parquet, "read_table", spy)
    assert read_ids(tmp_path) == {"a"}
    assert wanted == [["id"]]
