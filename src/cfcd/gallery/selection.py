"""A choice of a gallery's items that a search is limited to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cfcd.errors import UsageError
from cfcd.gallery.where import parse_where
from cfcd.gallery.where_sql import database_of, matching_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.truth.store import Store

# So few rows are scored as they are stored, at once and exactly, whatever the index.
FEW_ROWS = 1000


@dataclass(frozen=True)
class Chosen:
    """What a selection finds in one generation of a gallery.

    Attributes:
        numbers: (n,) int64 row numbers, ascending.
        vectors: (n, D) float32 stored descriptors, if they are few.
        unknown: The ids and labels asked for that no item has.
    """

    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32] | None
    unknown: tuple[str, ...]

    def nearest(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k best of few rows: their numbers and scores, equal scores by row number."""
        assert self.vectors is not None
        scores = self.vectors @ query
        order = np.lexsort((self.numbers, -scores))[:k]
        return self.numbers[order], scores[order]


class Selection:
    """The items a search may find: all that meet a condition and have one of some ids and one of some labels.

    It looks its items up once per generation of a gallery, so that many searches can share one.

    Args:
        where: A condition on catalog columns, see `cfcd.gallery.where`.
        ids: Items by id; ids that the gallery lacks find nothing.
        labels: Items by label; labels that the gallery lacks find nothing.

    Raises:
        UsageError: `where` is no condition.
    """

    def __init__(
        self,
        where: str | None = None,
        *,
        ids: Iterable[str] | None = None,
        labels: Iterable[str] | None = None,
    ) -> None:
        self.where = where
        self.ids, self.labels = _texts(ids), _texts(labels)
        self._condition = None if where is None else parse_where(where)
        self._last: tuple[tuple[str, int, bytes], Chosen] | None = None

    @classmethod
    def of(
        cls, where: str | Selection | None, ids: Iterable[str] | None, labels: Iterable[str] | None
    ) -> Selection | None:
        """Make a selection of what a search was given; None when it was given nothing.

        Raises:
            UsageError: `where` is no condition, or a selection beside ids or labels.
        """
        if isinstance(where, Selection):
            if ids is not None or labels is not None:
                raise UsageError(
                    "A search was given a selection and ids or labels as well.",
                    "Make one selection of all of them.",
                )
            return where
        return None if where is ids is labels is None else cls(where, ids=ids, labels=labels)

    def choose(self, store: Store) -> Chosen:
        """Look the items up, within `store.reading()`.

        Raises:
            UsageError: The condition names a column that no item has.
        """
        generation = store.generation
        state = (str(store.folder), generation, store.token(generation))
        last = self._last  # other threads may share this selection, in other generations
        if last is None or last[0] != state:
            last = self._last = state, self._look_up(store)
        return last[1]

    def _look_up(self, store: Store) -> Chosen:
        elsewhere = getattr(store, "look_up", None)  # a server can choose for itself, most of the time
        chosen: Chosen | None = elsewhere and elsewhere(self._condition, self.ids, self.labels)
        if chosen is not None:
            return chosen
        connection = database_of(store)
        found: list[NDArray[np.int64]] = []
        unknown: list[str] = []
        if self._condition is not None:
            found.append(matching_rows(connection, self._condition))
        for column, wanted in (("id", self.ids), ("label", self.labels)):
            if wanted is not None:
                rows = connection.execute(
                    f"SELECT number, {column} FROM items WHERE {column} IN (SELECT value FROM json_each(?))",
                    (json.dumps(wanted),),
                ).fetchall()
                found.append(np.array([row[0] for row in rows], np.int64))
                there = {row[1] for row in rows}
                unknown += [one for one in dict.fromkeys(wanted) if one not in there]
        if not found:
            found.append(
                np.array([row[0] for row in connection.execute("SELECT number FROM items")], np.int64)
            )
        numbers = np.sort(found[0])
        for more in found[1:]:
            numbers = np.intersect1d(numbers, more, assume_unique=True)
        vectors = store.descriptors(numbers) if len(numbers) <= FEW_ROWS else None
        return Chosen(numbers, vectors, tuple(unknown))


def _texts(given: Iterable[str] | None) -> tuple[str, ...] | None:
    """Take one text or several."""
    return None if given is None else (given,) if isinstance(given, str) else tuple(given)
