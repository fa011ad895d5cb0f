"""Rows of a gallery as Arrow tables of one schema, and back without loss."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.columns import free_name
from cfcd.encoding.rows import FileStamp, items_from_columns, items_table
from cfcd.gallery.exchange.origin import DESCRIPTOR, KEY, SOURCE
from cfcd.gallery.truth.rows import StoredItem

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INT64 = range(-(2**63), 2**63)


def extra_columns(items: Iterable[Item], taken: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Find a type for every further column that suits all rows.

    Args:
        items: All rows, read once.
        taken: Names that the file has already.

    Returns:
        Name in the file -> the catalog's name, "plain" or "json", and the Arrow type. A column of texts, of
        integers, of numbers or of truth values is plain; any other is JSON text.
    """
    kinds: dict[str, set[str]] = {}
    for item in items:
        for name, value in item.extra.items():
            kinds.setdefault(name, set()).add(_kind(value))
    columns: dict[str, tuple[str, str, str]] = {}
    reserved = set(taken)
    for name, found in kinds.items():
        found -= {"null"}
        if len(found) == 1 and found <= {"string", "int64", "double", "bool"}:
            (kind,) = found
            way = "plain"
        elif found == {"int64", "double"}:
            kind, way = "double", "plain"
        else:
            kind, way = "string", "json"
        free = free_name(name, reserved)
        reserved.add(free)
        columns[free] = (name, way, kind)
    return columns


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if value in _INT64 else "other"
    if isinstance(value, float):
        return "double"
    return "string" if isinstance(value, str) else "other"


def base_columns() -> list[str]:
    """Name the columns that every exported table has."""
    some = items_table([Item("", Path())], [FileStamp(0, 0, b"")])
    return [*some.column_names, SOURCE, KEY, DESCRIPTOR]


def rows_table(rows: Sequence[StoredItem], extra: Mapping[str, tuple[str, str, str]]) -> Any:
    """Make the `pyarrow.Table` of rows, without descriptors; the schema depends on `extra` alone."""
    import pyarrow

    table = items_table([replace(row.item, extra={}) for row in rows], [row.stamp for row in rows])
    table = table.append_column(SOURCE, pyarrow.array([row.source for row in rows], pyarrow.string()))
    table = table.append_column(KEY, pyarrow.array([row.key for row in rows], pyarrow.string()))
    for column, (name, way, kind) in extra.items():
        values = [row.item.extra.get(name) for row in rows]
        if way == "json":
            values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        table = table.append_column(column, pyarrow.array(values, pyarrow.type_for_alias(kind)))
    return table


def rows_from_columns(
    columns: Mapping[str, Sequence[Any]], extra: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str, Item, FileStamp]]:
    """Read source, key, item and stamp of each row back."""
    known = dict(columns)
    sources, keys = known.pop(SOURCE), known.pop(KEY)
    further: dict[str, Sequence[Any]] = {}
    for column, (name, way) in extra.items():
        values = known.pop(column)
        if way == "json":
            values = [None if value is None else json.loads(value) for value in values]
        further[name] = values
    items, stamps = items_from_columns(known)
    rows = []
    for at, item in enumerate(items):
        described = replace(item, extra={name: values[at] for name, values in further.items()})
        rows.append((sources[at], keys[at], described, stamps[at]))
    return rows


def descriptor_column(vectors: NDArray[Any]) -> Any:
    """Make a column of (n, D) fp16 or fp32 rows, a `pyarrow.FixedSizeListArray`."""
    import pyarrow

    flat = pyarrow.array(np.ascontiguousarray(vectors).ravel())
    return pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
