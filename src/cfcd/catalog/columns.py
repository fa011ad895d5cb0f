"""Columns as read from a table -> Catalog: every bad row is left out and named, and no row is taken twice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cfcd.catalog.header import BOX_COLUMNS, KNOWN_COLUMNS, misnamed
from cfcd.catalog.paths import path_fault
from cfcd.catalog.table import Box, Catalog, Problem

_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_BAD = object()


def catalog_from_columns(
    columns: Mapping[str, Sequence[Any]],
    rows: Sequence[int],
    *,
    source: Path,
    root: Path,
    kind: str,
    problems: Iterable[Problem] = (),
) -> Catalog:
    """Check the values of a table and make it a catalog.

    Rows with an empty or straying path, a bad number, flag or box, or an id seen before become problems and
    are left out. Without a column `id` the id is the path as written; when a path comes back with another
    box, the later ids get "#2", "#3" and so on.

    Args:
        columns: One sequence per column, names as by `normal_names`, `path` among them.
        rows: The row number in the source of each entry.
        source: The file the columns come from.
        root: The folder relative paths start from.
        kind: What to call the format.
        problems: Problems found while reading.
    """
    table = _Table(columns, rows)
    table.check_paths()
    labels, splits = table.texts("label"), table.texts("split")
    is_query, is_gallery = table.flags("is_query"), table.flags("is_gallery")
    boxes = table.boxes()
    ids = table.ids(boxes)
    catalog = Catalog(
        source=source,
        root=root,
        kind=kind,
        ids=ids,
        paths=columns["path"],
        labels=labels,
        splits=splits,
        is_query=is_query,
        is_gallery=is_gallery,
        boxes=boxes,
        rows=rows,
        extra={name: values for name, values in columns.items() if name not in KNOWN_COLUMNS},
        problems=tuple(
            sorted(
                (*misnamed(columns), *problems, *table.problems),
                key=lambda p: -1 if p.row is None else p.row,
            )
        ),
    )
    if not table.bad:
        return catalog
    return catalog.select([index for index in range(len(rows)) if index not in table.bad])


class _Table:
    """The columns of one table, with the problems found so far and the rows to leave out."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> None:
        self.columns = columns
        self.rows = rows
        self.problems: list[Problem] = []
        self.bad: set[int] = set()

    def fail(self, index: int, kind: str, message: str) -> None:
        path = self.columns["path"][index]
        file = path if isinstance(path, str) and path else None
        self.problems.append(Problem(kind, True, message, file, self.rows[index]))
        self.bad.add(index)

    def check_paths(self) -> None:
        for index, path in enumerate(self.columns["path"]):
            fault = path_fault(path) if isinstance(path, str) else "the path is not text"
            if fault:
                self.fail(index, "bad-path", fault)

    def texts(self, name: str) -> list[str | None] | None:
        values = self.columns.get(name)
        if values is None:
            return None
        # One string object per distinct value: labels repeat, and tables have millions of rows.
        known = {value: text_of(value) for value in set(values)}
        return [known[value] for value in values] if any(known.values()) else None

    def flags(self, name: str) -> list[bool | None] | None:
        values = self.columns.get(name)
        if values is None:
            return None
        known = {value: _flag_of(value) for value in set(values)}
        if _BAD in known.values():
            for index, value in enumerate(values):
                if known[value] is _BAD:
                    self.fail(index, "bad-flag", f"{name} is {value!r}, not 1, 0, true, false, yes or no")
        flags = [known[value] for value in values]
        return None if all(flag is None for flag in known.values()) else flags

    def boxes(self) -> list[Box | None] | None:
        if BOX_COLUMNS[0] not in self.columns:
            return None
        boxes: list[Box | None] = []
        for index, corners in enumerate(zip(*(self.columns[name] for name in BOX_COLUMNS), strict=True)):
            box: Box | None = None
            texts = [text_of(corner) for corner in corners]
            if any(texts):
                box = self._box(index, texts)
            boxes.append(box)
        return boxes if any(boxes) else None

    def _box(self, index: int, texts: Sequence[str | None]) -> Box | None:
        absent = [name for name, text in zip(BOX_COLUMNS, texts, strict=True) if text is None]
        if absent:
            self.fail(index, "bad-box", f"half a box: {', '.join(absent)} empty")
            return None
        try:
            x_1, y_1, x_2, y_2 = (float(text or "") for text in texts)
        except ValueError as error:
            self.fail(index, "bad-number", f"in the box: {error}")
            return None
        fault = box_fault((x_1, y_1, x_2, y_2))
        if fault:
            self.fail(index, "bad-box", fault)
        return (x_1, y_1, x_2, y_2)

    def ids(self, boxes: Sequence[Box | None] | None) -> list[str]:
        if "id" not in self.columns:
            return self._ids_from_paths(boxes)
        ids: list[str] = []
        first: dict[str, int] = {}
        for index, value in enumerate(self.columns["id"]):
            text = text_of(value)
            if text is None:
                self.fail(index, "bad-id", "the id is empty")
            elif index not in self.bad and first.setdefault(text, index) != index:
                self.fail(index, "duplicate-id", f"id {text!r} was used in row {self.rows[first[text]]}")
            ids.append(text or "")
        return ids

    def _ids_from_paths(self, boxes: Sequence[Box | None] | None) -> list[str]:
        paths = self.columns["path"]
        ids: list[str] = list(paths)
        if len(set(paths)) == len(paths):
            return ids
        first: dict[str, int] = {}
        again: dict[str, dict[Box | None, int]] = {}
        for index, path in enumerate(paths):
            if index in self.bad or first.setdefault(path, index) == index:
                continue
            start = first[path]
            seen = again.setdefault(path, {boxes[start] if boxes else None: start})
            box = boxes[index] if boxes else None
            if box in seen:
                self.fail(index, "duplicate-id", self._repeated(index, seen[box]))
                continue
            seen[box] = index
            number = len(seen)
            while (name := f"{path}#{number}") in first:
                number += 1
            first[name] = index
            ids[index] = name
        return ids

    def _repeated(self, index: int, before: int) -> str:
        message = f"the path was used in row {self.rows[before]}"
        labels = self.columns.get("label")
        if labels is not None and labels[index] != labels[before]:
            message += f", there with label {labels[before]!r}, here {labels[index]!r}"
        return message


def text_of(value: Any) -> str | None:
    """Return a cell as text: None when empty or not a number, "3" for 3 and 3.0."""
    if isinstance(value, str):
        return value if value.strip() else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def box_fault(box: Box) -> str | None:
    """Say what keeps four numbers from being a box, or None."""
    x_1, y_1, x_2, y_2 = box
    if not all(math.isfinite(corner) for corner in box):
        return "the box holds a number that is not finite"
    if x_2 <= x_1 or y_2 <= y_1:
        return f"the box {x_1:g},{y_1:g},{x_2:g},{y_2:g} has no area: x_2 and y_2 must exceed x_1 and y_1"
    return None


def _flag_of(value: Any) -> Any:
    text = text_of(value)
    return None if text is None else _FLAGS.get(text.strip().lower(), _BAD)
