"""Catalog columns as Milvus can compare them: each cell under the kinds it can be read as.

A text is kept as text ("t"), in small letters ("l"), and as number ("n") and truth ("b") where it can be
read so; a number as itself ("m"), as truth ("b") if it is 0 or 1, a whole one as text ("l"); true and false
as 1 and 0 ("f"). An empty cell is left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cfcd.gallery.where import to_number

if TYPE_CHECKING:
    from cfcd.catalog import Item

BOX = ("x_1", "y_1", "x_2", "y_2")
_TRUTHS = {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0}


def to_cells(item: Item) -> dict[str, dict[str, Any]]:
    """Give the columns of an item, further ones included, that are not empty."""
    boxes = item.box or (None,) * 4
    columns: dict[str, Any] = {
        **item.extra,
        **{name: getattr(item, name) for name in ("id", "label", "split", "is_query", "is_gallery")},
        "path": str(item.path),
        **{name: None if side is None else float(side) for name, side in zip(BOX, boxes, strict=True)},
    }
    cells = {name: _cell(value) for name, value in columns.items()}
    return {name: cell for name, cell in cells.items() if cell}


def _cell(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"f": int(value)}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"m": value, "l": str(value), **({"b": value} if value in (0, 1) else {})}
    if isinstance(value, int | float):
        exact = {"b": int(value)} if value in (0, 1) else {}
        return {} if math.isnan(value) else {"m": float(value), **exact}
    if not isinstance(value, str) or not value:
        return {}
    number, truth = to_number(value), _TRUTHS.get(value.strip().lower())
    return {
        "t": value,
        "l": value.lower(),
        **({} if number is None else {"n": number}),
        **({} if truth is None else {"b": truth}),
    }
