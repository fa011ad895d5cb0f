"""The search index of a gallery: derived from the store, caught up when it lags, rebuilt when it is gone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cfcd.gallery.indexes.choice import KINDS
from cfcd.gallery.indexes.coded import CodedIndex
from cfcd.gallery.indexes.exact import ExactIndex
from cfcd.gallery.indexes.files import HEADER, Header, Spec, read_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfcd.gallery.truth.store import Store

__all__ = [
    "HEADER",
    "KINDS",
    "CodedIndex",
    "ExactIndex",
    "SearchIndex",
    "Spec",
    "is_outdated",
    "load_index",
    "make_index",
    "saved_header",
]
# Catching up with this many rows, or this share of them, takes a reader a few hundredths of a second.
_LAG_ROWS = 1000
_LAG_SHARE = 0.05
_TRIES = 3


class SearchIndex(Protocol):
    """What every kind of index does.

    `generation` and `token` name the state of the store it has caught up with, `highest` its highest row
    number; `measured` is what `measure_recall` found when it was built.
    """

    kind: str
    spec: Spec
    dim: int
    generation: int
    token: bytes
    highest: int
    measured: dict[str, Any]

    def __len__(self) -> int: ...

    @property
    def resident_bytes(self) -> int:
        """Give the bytes it takes in memory."""
        ...

    def catch_up(self, store: Store) -> bool:
        """Bring it to the store's generation, within `store.reading()`; tell whether anything changed.

        An index that has seen nothing yet learns and adds everything.
        """
        ...

    def is_worn(self, store: Store) -> bool:
        """Tell whether it should be built anew."""
        ...

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the k nearest items of each query.

        Call it within the same `store.reading()` as `catch_up`.

        Args:
            queries: (Q, D) float32 unit rows.
            k: At most this many.
            allowed: (n,) int64 row numbers, ascending, that alone may be found.

        Returns:
            For each query (n,) row numbers and (n,) scores, n <= k, best first, equal scores by row number.
            Scores are those of the stored descriptors, whatever the kind.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write it beside the store; the header comes last and makes it count."""
        ...


def make_index(spec: Spec, dim: int) -> SearchIndex:
    """Make an index that has seen nothing yet.

    Raises:
        MissingExtra: Its kind needs a package that is not installed.
    """
    return ExactIndex(dim) if spec == ExactIndex.spec else CodedIndex(spec, dim)


def load_index(folder: Path, spec: Spec, dim: int) -> SearchIndex:
    """Read the saved index; an empty one when it is missing, damaged or another, which then catches up."""
    for _ in range(_TRIES):
        before = read_header(folder)
        loaded: SearchIndex = (
            ExactIndex.load(folder, dim) if spec == ExactIndex.spec else CodedIndex.load(folder, spec, dim)
        )
        # A writer may have replaced the files between header and codes.
        if loaded.generation or read_header(folder) == before:
            return loaded
    return make_index(spec, dim)


def saved_header(folder: Path, store: Store) -> Header | None:
    """Read the header of the saved index; None when there is none, or it is not of this store."""
    header = read_header(folder)
    return header if header is not None and store.token(header.generation) == header.token else None


def is_outdated(folder: Path, store: Store) -> bool:
    """Tell whether the saved index lags so far behind that a reader would notice the time to catch up."""
    header = saved_header(folder, store)
    if header is None:
        return len(store) > _LAG_ROWS
    lag = store.count_above(header.highest) + len(store.removed_since(header.generation))
    return lag > max(_LAG_ROWS, _LAG_SHARE * header.items)
