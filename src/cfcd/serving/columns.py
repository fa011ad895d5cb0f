"""The columns of a gallery and their frequent values, for people who filter."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from cfcd.gallery import Gallery
from cfcd.gallery.truth.healing import healing
from cfcd.gallery.where_sql import database_of
from cfcd.serving.holding import HeldGallery

MOST_VALUES = 50
MOST_LABELS = 200
MOST_COLUMNS = 100
# Of a larger gallery so many items are looked at, in runs spread over it.
SAMPLE = 20_000
_RUN = 10
_FRESH_SECONDS = 30.0

_Cells = Mapping[str, Any]


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
        return {**asdict(self), "values": values}


@dataclass(frozen=True)
class Columns:
    """The columns, and the most frequent labels."""

    columns: tuple[Column, ...]
    labels: tuple[str, ...]


class ColumnsCache:
    """Look columns up when the gallery has changed; those of a large one at most twice a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Columns | None = None
        self._state: tuple[str, int] | None = None
        self._until = 0.0

    def of(self, gallery: Gallery, identity: str, items: int, generation: int) -> Columns:
        """Give the columns of a gallery.

        Args:
            gallery: For this thread alone.
            identity: What tells it from one that had its name before.
            items: How many it holds.
            generation: Its state.
        """
        state = (identity, generation)
        with self._lock:
            fresh = self._state is not None and self._state[0] == identity and time.monotonic() < self._until
            if self._held is None or not (self._state == state or fresh):
                self._held, self._state = read_columns(gallery), state
                self._until = time.monotonic() + (_FRESH_SECONDS if items > SAMPLE else 0.0)
            return self._held


@healing
def read_columns(gallery: Gallery) -> Columns:
    """Read the columns of all items, or of a sample of a large gallery."""
    counters: dict[str, Counter[str | int | float]] = {"label": Counter(), "split": Counter()}
    kinds: dict[str, set[str]] = {}
    for cells in _rows(gallery):
        for name, value in cells.items():
            if value in (None, "") or not isinstance(value, str | int | float):
                continue
            if isinstance(value, float) and not math.isfinite(value):
                continue
            if name not in counters:
                if len(counters) >= MOST_COLUMNS:
                    continue
                counters[name] = Counter()
            kinds.setdefault(name, set()).add("text" if isinstance(value, str | bool) else "number")
            counters[name][value] += 1
    columns = tuple(
        Column(name, _kind(kinds[name]), _frequent(counter), len(counter))
        for name, counter in counters.items()
        if counter
    )
    return Columns(columns, tuple(str(label) for label, _ in counters["label"].most_common(MOST_LABELS)))


def _rows(gallery: Gallery) -> Iterator[_Cells]:
    store = gallery._store
    with store.reading():
        if not isinstance(gallery, HeldGallery):
            for stored in islice(store.items(), SAMPLE):
                yield {"label": stored.item.label, "split": stored.item.split, **stored.item.extra}
            return
        connection = database_of(store)
        # By number: whoever counts or skips rows reads all of them.
        chosen = "SELECT label, split, extra FROM items WHERE number >= ? ORDER BY number LIMIT ?"
        if len(store) <= SAMPLE:
            rows = connection.execute(chosen, (0, SAMPLE))
            yield from (_cells(*row) for row in rows)
            return
        first, last = connection.execute(
            "SELECT (SELECT min(number) FROM items), (SELECT max(number) FROM items)"
        ).fetchone()
        step = -(-(last + 1 - first) * _RUN // SAMPLE)
        anywhere = random.Random(0)  # equal steps would miss what comes back in equal steps
        for start in range(first, last + 1, step):
            for row in connection.execute(chosen, (start + anywhere.randrange(step - _RUN + 1), _RUN)):
                yield _cells(*row)


def _cells(label: str | None, split: str | None, extra: str) -> _Cells:
    if extra == "{}":
        return {"label": label, "split": split}
    return {**json.loads(extra), "label": label, "split": split}


def _kind(kinds: set[str]) -> str:
    return "number" if kinds == {"number"} else "text"


def _frequent(counter: Counter[str | int | float]) -> tuple[str | int | float, ...] | None:
    if len(counter) > MOST_VALUES and len(counter) > 0.9 * counter.total():
        return None
    return tuple(value for value, _ in counter.most_common(MOST_VALUES))
