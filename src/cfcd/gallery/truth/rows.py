"""The rows of a gallery's store as objects."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp

ITEM_COLUMNS = (
    "id, source, key, path, label, split, is_query, is_gallery, row, "
    "x_1, y_1, x_2, y_2, extra, size, mtime_ns, digest"
)


@dataclass(frozen=True)
class StoredItem:
    """An item of the gallery: its row number, its catalog row, and the file it was encoded from.

    `key` is the item's id in the catalog it came from, `source`; `item.id` is its id in the gallery.
    """

    number: int
    source: str
    key: str
    item: Item
    stamp: FileStamp


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be encoded; without size and mtime it is tried again by every update."""

    path: str
    size: int | None
    mtime_ns: int | None
    box: str
    reason: str


def to_row(source: str, key: str, item: Item, stamp: FileStamp) -> tuple[Any, ...]:
    """Give the values of ITEM_COLUMNS, of the very types that SQLite gives back: checksums depend on them."""
    return (
        item.id,
        source,
        key,
        str(item.path),
        item.label,
        item.split,
        None if item.is_query is None else int(item.is_query),
        None if item.is_gallery is None else int(item.is_gallery),
        None if item.row is None else int(item.row),
        # + 0.0 makes 0.0 of -0.0, as SQLite does.
        *((None,) * 4 if item.box is None else (float(side) + 0.0 for side in item.box)),
        json.dumps(dict(item.extra), default=str, ensure_ascii=False) if item.extra else "{}",
        int(stamp.size),
        int(stamp.mtime_ns),
        bytes(stamp.digest),
    )


def row_checksum(row: tuple[Any, ...]) -> int:
    """Give the CRC-32 of a table row; for an item, of its number and the values of ITEM_COLUMNS."""
    # ascii, because what repr escapes depends on the version of Python.
    return zlib.crc32(ascii(row).encode())


def vector_checksum(number: int, vector: bytes) -> int:
    """Give the CRC-32 of a descriptor and the number of its row."""
    return zlib.crc32(vector, number & 0xFFFFFFFF)


def to_item(row: tuple[Any, ...]) -> StoredItem:
    """Read a row number and the values of ITEM_COLUMNS."""
    number, item_id, source, key, path, label, split, is_query, is_gallery, line, *rest = row
    box = None if rest[0] is None else (rest[0], rest[1], rest[2], rest[3])
    item = Item(
        id=item_id,
        path=Path(path),
        label=label,
        split=split,
        is_query=None if is_query is None else bool(is_query),
        is_gallery=None if is_gallery is None else bool(is_gallery),
        box=box,
        row=line,
        extra={} if rest[4] == "{}" else json.loads(rest[4]),
    )
    return StoredItem(number, source, key, item, FileStamp(rest[5], rest[6], rest[7]))
