"""Catalog columns as Milvus can compare them: each cell under the kinds it can be read as.

A text is kept as text ("t"), and as number ("n") and truth ("b") where it can be read so; a number as itself
("m"), and as truth ("b") if it is 0 or 1; true and false as 1 and 0 ("f"); lists and tables only as being
there ("o"). An empty cell is left out.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from cfcd.gallery.where import Value, to_number

if TYPE_CHECKING:
    from cfcd.catalog import Item

BOX = ("x_1", "y_1", "x_2", "y_2")
_TRUTHS = {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0}
_EXACT = 2**53


def to_cells(item: Item) -> dict[str, dict[str, Any]]:
    """Give the columns of an item, further ones included, that are not empty."""
    columns: dict[str, Any] = {
        **item.extra,
        **{name: getattr(item, name) for name in ("id", "label", "split", "is_query", "is_gallery")},
        "path": str(item.path),
        **dict(zip(BOX, item.box or (None,) * 4, strict=True)),
    }
    cells = {name: _cell(value) for name, value in columns.items()}
    return {name: cell for name, cell in cells.items() if cell}


def whole(number: int | float) -> int | float:
    """Write a number in the one way that others of its value are written, so that they are found equal."""
    if isinstance(number, int) and -(2**63) <= number < 2**63:
        return int(number)
    number = float(number)
    if math.isinf(number):  # which JSON lacks
        return math.copysign(sys.float_info.max, number)
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def as_truth(value: Value) -> int | None:
    """Read a value as true (1) or false (0)."""
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return int(value) if value in (0, 1) else None


def _cell(value: Any) -> dict[str, Any]:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return {}
    if isinstance(value, bool):
        return {"f": int(value)}
    if isinstance(value, list | tuple | dict):
        return {"o": 1}
    if isinstance(value, int | float):
        return _known({"m": whole(value), "b": as_truth(value)})
    text = str(value)
    number = to_number(text)
    return _known({"t": text, "n": None if number is None else whole(number), "b": as_truth(text)})


def _known(cell: dict[str, Any]) -> dict[str, Any]:
    return {kind: value for kind, value in cell.items() if value is not None}
