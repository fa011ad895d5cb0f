"""Catalog rows and the stamps of their files as one table, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from cfcd.catalog import Item
from cfcd.encoding.columns import free_name, to_array

_BOX = ("x_1", "y_1", "x_2", "y_2")
_ITEM_COLUMNS = ("id", "path", "label", "split", "is_query", "is_gallery")
# Names that no column of a user's table has; should one have it, the user's is kept with a "_" behind it.
_ROW = "_row"
_STAMP_COLUMNS = ("_file_size", "_file_mtime_ns", "_file_digest")


@dataclass(frozen=True)
class FileStamp:
    """What a file looked like when it was encoded: bytes, nanoseconds, 16-byte BLAKE2b digest."""

    size: int
    mtime_ns: int
    digest: bytes


def items_table(items: Sequence[Item], stamps: Sequence[FileStamp]) -> Any:
    """Make the `pyarrow.Table` of a shard: n catalog rows with the stamps of their files."""
    import pyarrow

    columns: dict[str, list[Any]] = {name: [getattr(item, name) for item in items] for name in _ITEM_COLUMNS}
    columns["path"] = [str(item.path) for item in items]
    columns[_ROW] = [item.row for item in items]
    for axis, name in enumerate(_BOX):
        columns[name] = [None if item.box is None else item.box[axis] for item in items]
    for name, values in zip(_STAMP_COLUMNS, zip(*map(astuple, stamps), strict=True), strict=True):
        columns[name] = list(values)
    types = {
        **dict.fromkeys(("id", "path", "label", "split"), pyarrow.string()),
        **dict.fromkeys(("is_query", "is_gallery"), pyarrow.bool_()),
        **dict.fromkeys((_ROW, *_STAMP_COLUMNS[:2]), pyarrow.int64()),
        **dict.fromkeys(_BOX, pyarrow.float64()),
        _STAMP_COLUMNS[2]: pyarrow.binary(),
    }
    arrays = {name: pyarrow.array(values, types[name]) for name, values in columns.items()}
    for name in dict.fromkeys(name for item in items for name in item.extra):
        arrays[free_name(name, arrays)] = to_array([item.extra.get(name) for item in items])
    return pyarrow.table(arrays)


def items_from_columns(columns: Mapping[str, Sequence[Any]]) -> tuple[list[Item], tuple[FileStamp, ...]]:
    """Make rows and stamps of the columns of such a table."""
    further = dict(columns)
    stamps = tuple(
        FileStamp(*stamp) for stamp in zip(*(further.pop(name) for name in _STAMP_COLUMNS), strict=True)
    )
    boxes = [
        None if box[0] is None else box for box in zip(*(further.pop(name) for name in _BOX), strict=True)
    ]
    known = {name: further.pop(name) for name in _ITEM_COLUMNS if name != "path"}
    paths, numbers = further.pop("path"), further.pop(_ROW)
    items = [
        Item(
            **{name: values[at] for name, values in known.items()},
            path=Path(paths[at]),
            box=boxes[at],
            row=numbers[at],
            extra={name: values[at] for name, values in further.items()},
        )
        for at in range(len(paths))
    ]
    return items, stamps
