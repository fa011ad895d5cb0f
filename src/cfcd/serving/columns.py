"""The columns of a gallery and their frequent values, for people who filter."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cfcd.gallery import Gallery
from cfcd.gallery.where_sql import database_of

MOST_VALUES = 50
MOST_LABELS = 200
MOST_COLUMNS = 100
SAMPLE = 20_000


@dataclass(frozen=True)
class Column:
    """One column of the items.

    Attributes:
        name: As a condition names it.
        kind: text or number.
        values: Its most frequent values, most frequent first; None where nearly every item has its own.
        count_distinct: Values seen, in all items or in the sample.
    """

    name: str
    kind: str
    values: tuple[str | int | float, ...] | None
    count_distinct: int

    def to_json(self) -> dict[str, Any]:
        """Give the column as plain data."""
        values = None if self.values is None else list(self.values)
        return {
            "name": self.name,
            "kind": self.kind,
            "values": values,
            "count_distinct": self.count_distinct,
        }


@dataclass(frozen=True)
class Columns:
    """The columns and the most frequent labels."""

    columns: tuple[Column, ...]
    labels: tuple[str, ...]


class ColumnsCache:
    """Look columns up once per generation of a gallery."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[tuple[str, int], Columns] | None = None

    def of(self, gallery: Gallery) -> Columns:
        """Give the columns of a gallery as it is now."""
        with self._lock, gallery._store.reading():
            state = (gallery.name, gallery._store.generation)
            if self._held is None or self._held[0] != state:
                self._held = state, read_columns(gallery)
            return self._held[1]


def read_columns(gallery: Gallery) -> Columns:
    """Read the columns of at most `SAMPLE` items, spread over the gallery; within `reading`."""
    connection = database_of(gallery._store)
    first, last, count = connection.execute("SELECT min(number), max(number), count(*) FROM items").fetchone()
    step = 1 if count <= SAMPLE else -(-(last - first + 1) // SAMPLE)
    counters: dict[str, Counter[str | int | float]] = {"label": Counter(), "split": Counter()}
    kinds: dict[str, set[str]] = {"label": {"text"}, "split": {"text"}}
    rows = connection.execute("SELECT label, split, extra FROM items WHERE number % ? = 0", (step,))
    for label, split, extra in rows:
        cells = {"label": label, "split": split, **json.loads(extra)}
        for name, value in cells.items():
            if value in (None, "") or not isinstance(value, str | int | float):
                continue
            if name not in counters:
                if len(counters) >= MOST_COLUMNS:
                    continue
                counters[name], kinds[name] = Counter(), set()
            kinds[name].add("text" if isinstance(value, str | bool) else "number")
            counters[name][value] += 1
    columns = []
    for name, counter in counters.items():
        if not counter:
            continue
        kind = "number" if kinds[name] == {"number"} else "text"
        own = len(counter) > MOST_VALUES and len(counter) > 0.9 * counter.total()
        values = None if own else tuple(value for value, _ in counter.most_common(MOST_VALUES))
        columns.append(Column(name, kind, values, len(counter)))
    labels = tuple(str(label) for label, _ in counters["label"].most_common(MOST_LABELS))
    return Columns(tuple(columns), labels)
