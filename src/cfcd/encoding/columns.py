"""The further columns of a catalog as Parquet: whatever a user's table holds must not fail a shard."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any


def free_name(name: str, taken: Collection[str]) -> str:
    """Give the name, with as many "_" behind it as make it differ from those that are taken."""
    while name in taken:
        name += "_"
    return name


def to_array(values: Sequence[Any]) -> Any:
    """Make a `pyarrow.Array` of any values; those that Parquet does not give back become JSON text.

    None stays None either way.
    """
    import pyarrow

    # OverflowError: integers past 64 bits. ValueError: text that is no UTF-8, nanoseconds without pandas.
    try:
        array = pyarrow.array(values)
        _write_and_read(array)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        return pyarrow.array(
            [None if value is None else _to_json(value) for value in values], pyarrow.string()
        )
    return array


def _write_and_read(array: Any) -> None:
    """Try the column alone: some types can be made but not written, or written but not read."""
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"column": array}), sink)
    pyarrow.parquet.read_table(pyarrow.BufferReader(sink.getvalue()))["column"].to_pylist()


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError):  # keys that are no text, a value that holds itself
        return json.dumps(str(value))


def same_table(one: Any, other: Any) -> bool:
    """Tell whether two `pyarrow.Table`s hold the same values under the same names."""
    return bool(one.column_names == other.column_names) and all(
        # Arrow's own comparison is fast; it also tells NaN from NaN and names of list items apart.
        mine.equals(theirs) or repr(mine.to_pylist()) == repr(theirs.to_pylist())
        for mine, theirs in zip(one.columns, other.columns, strict=True)
    )
