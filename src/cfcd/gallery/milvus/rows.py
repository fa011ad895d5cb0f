"""Items of a gallery as rows of a Milvus collection, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import GalleryError
from cfcd.gallery.milvus.cells import to_cells
from cfcd.gallery.milvus.client import LONGEST_TEXT, Row
from cfcd.gallery.truth.rows import ITEM_COLUMNS, StoredItem, to_item, to_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Item
    from cfcd.encoding.shards import FileStamp

# All that a search has to give back.
ITEM_FIELDS = ["number", "row"]
_NAMES = [name.strip() for name in ITEM_COLUMNS.split(",")]


def fields(dim: int) -> list[tuple[str, str, int]]:
    """List the fields of the collection: name, type and size."""
    return [
        ("number", "INT64", 0),
        ("vector", "FLOAT_VECTOR", dim),
        *((name, "VARCHAR", LONGEST_TEXT) for name in ("item", "source", "key", "label", "row")),
        ("cells", "JSON", 0),
    ]


def to_document(
    number: int, source: str, key: str, item: Item, stamp: FileStamp, vector: NDArray[np.floating[Any]]
) -> Row:
    """Make a row of an item and its (D,) descriptor, rounded to fp16 as in a folder.

    Raises:
        GalleryError: Its catalog row is too long for Milvus.
    """
    values = dict(zip(_NAMES, to_row(source, key, item, stamp), strict=True))
    values["digest"] = values["digest"].hex()
    text = json.dumps(list(values.values()), ensure_ascii=False)
    cells = to_cells(item)
    if max(len(text.encode()), len(json.dumps(cells, ensure_ascii=False).encode())) > LONGEST_TEXT:
        raise GalleryError(
            f"The catalog row of {item.id!r} is longer than the {LONGEST_TEXT:,} bytes that Milvus holds.",
            "Leave the longest columns out of the catalog.",
        )
    return {
        "number": number,
        "vector": vector.astype(np.float16).astype(np.float32).tolist(),
        "item": item.id,
        "source": source,
        "key": key,
        "label": item.label or "",
        "row": text,
        "cells": cells,
    }


def to_stored(row: Row) -> StoredItem:
    """Read `ITEM_FIELDS` of a row."""
    values = dict(zip(_NAMES, json.loads(row["row"]), strict=True))
    values["digest"] = bytes.fromhex(values["digest"])
    return to_item((int(row["number"]), *values.values()))
