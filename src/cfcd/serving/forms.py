"""Fields of forms: boxes, uploaded pictures, rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import File, UploadFile

from cfcd.catalog import Box
from cfcd.errors import UsageError
from cfcd.serving.queries import NewItem, QueryPicture

MOST_PICTURES = 8
_OWN = ("id", "label", "split")
_RESERVED = frozenset({"path", "box", "row", "is_query", "is_gallery", "extra"})

Pictures = Annotated[list[UploadFile], File(max_length=MOST_PICTURES)]


def read_pictures(files: Sequence[UploadFile], boxes: Sequence[str] = ()) -> list[QueryPicture]:
    """Read uploaded pictures; the i-th box belongs to the i-th, and an empty one to none. Blocks.

    Raises:
        UsageError: There are more boxes than pictures, or a box is none.
    """
    if len(boxes) > len(files):
        raise UsageError(
            f"There are {len(boxes)} boxes for {len(files)} pictures.", "Give at most one box per picture."
        )
    parts = [parse_box(text) for text in boxes]
    parts += [None] * (len(files) - len(parts))
    return [QueryPicture(file.file.read(), part) for file, part in zip(files, parts, strict=True)]


def parse_box(text: str) -> Box | None:
    """Read "x1,y1,x2,y2" in pixels of the upright picture; None of an empty text.

    Raises:
        UsageError: It is not four numbers with something between them.
    """
    if not text.strip():
        return None
    try:
        x1, y1, x2, y2 = (float(number) for number in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"The box {text[:80]!r} is not four numbers.",
            "Write it as x1,y1,x2,y2 in pixels of the upright picture.",
        ) from error
    # Comparisons with NaN are false; so large a number is no pixel.
    if not (x1 < x2 and y1 < y2 and max(map(abs, (x1, y1, x2, y2))) < 1e9):
        raise UsageError(
            f"The box {text[:80]!r} has no inside.",
            "Write the upper left corner first, then the lower right.",
        )
    return x1, y1, x2, y2


def parse_row(text: str) -> NewItem:
    """Read the row of a new item: a JSON object of id, label, split and further columns.

    Raises:
        UsageError: It is something else.
    """
    try:
        row = json.loads(text or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError("The row is no JSON.", 'Send an object such as {"id": "a.jpg"}.') from error
    if not isinstance(row, dict):
        raise UsageError("The row is no JSON object.", 'Send an object such as {"id": "a.jpg"}.')
    own: dict[str, str | None] = {}
    for name in _OWN:
        value = row.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"The {name} of the row is no text.", f"Send {name} as a JSON string.")
        own[name] = value
    _check_columns(row)
    return NewItem(own["id"], own["label"], own["split"], row)


def _check_columns(columns: Mapping[str, Any]) -> None:
    if taken := sorted(_RESERVED & {name.lower() for name in columns}):
        raise UsageError(
            f"A column cannot be called {taken[0]!r}: the catalog uses that name.", "Choose another name."
        )
    for name, value in columns.items():
        if not isinstance(value, str | int | float | bool | None) or _is_odd(name) or _is_odd(value):
            raise UsageError(
                f"The column {name[:80]!a} of the row is no text, number, truth value or null.",
                "Send one value per column.",
            )


def _is_odd(value: Any) -> bool:
    """Tell a text that UTF-8 cannot write, or an integer that SQLite cannot hold."""
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _no_constant(name: str) -> Any:
    raise ValueError(name)
