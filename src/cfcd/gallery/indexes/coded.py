"""Indexes over compact codes: candidates from the codes, scores from the stored descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.gallery.indexes.engines import Engine, make_engine
from cfcd.gallery.indexes.files import Header, Spec, checked_file, matching_header, write_index
from cfcd.gallery.indexes.reduction import Reduction

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cfcd.gallery.truth.store import Store

    Found = tuple[NDArray[np.int64], NDArray[np.float32]]

# So few rows are read from the store and scored without asking the codes.
_DIRECT_ROWS = 2000
# A collection that has grown this many times, or is coded this much worse than at first, is learnt anew.
_GROWTH = 4.0
_DRIFT = 1.5
_DRIFT_ROWS = 1000
# Removed rows stay among the codes until they are this share of them.
_REMOVED_SHARE = 0.2


class CodedIndex:
    """Approximate search whose scores are exact: the codes choose, the stored descriptors decide.

    Rows are only ever added to the codes, in the order of their row numbers. Removed rows are marked and
    passed over, because fast-scan codes repack everything at each removal and HNSW cannot remove at all.

    Args:
        spec: Kind and reduction.
        dim: Components of a descriptor, D.
    """

    def __init__(self, spec: Spec, dim: int) -> None:
        self.kind = spec.kind
        self.spec = spec
        self.dim = dim
        self.measured: dict[str, Any] = {}
        self._clear()

    def _clear(self) -> None:
        self._engine: Engine = make_engine(self.spec.kind, self.spec.code_dim(self.dim))
        self._reduction: Reduction | None = None
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self._removed: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._removed_count = 0
        self._trained_items = 0
        self._trained_error: float | None = None
        self._store: Store | None = None
        self.generation = 0
        self.token = b""
        self.highest = 0

    def __len__(self) -> int:
        return len(self._numbers) - self._removed_count

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Give the row numbers of all items, (N,) int64 ascending."""
        return self._numbers[~self._removed]

    @property
    def resident_bytes(self) -> int:
        """Give the bytes it takes in memory: codes, row numbers and marks."""
        return self._engine.resident_bytes() + self._numbers.nbytes + self._removed.nbytes

    def catch_up(self, store: Store) -> bool:
        """Bring the index to the store's generation; tell whether anything changed.

        Call it within `store.reading()`, so that what it reads is one generation.
        """
        if self.generation and store.token(self.generation) != self.token:
            self._clear()  # not an ancestor of this store
        self._store = store  # where searches read the descriptors they score
        generation = store.generation
        if generation == self.generation:
            return False
        if len(self._numbers):
            self._mark_removed(store.removed_since(self.generation))
        elif (count := len(store)) > 0:
            self._train(store, count)
        self._add(store)
        self.generation, self.token = generation, store.token(generation)
        return True

    def _mark_removed(self, gone: NDArray[np.int64]) -> None:
        self._removed[self._positions(np.sort(gone))] = True
        self._removed_count = int(self._removed.sum())

    def _positions(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find where row numbers, ascending, are among the codes; unknown ones are left out."""
        at = np.searchsorted(self._numbers, numbers)
        known = at < len(self._numbers)
        at, numbers = at[known], numbers[known]
        found: NDArray[np.int64] = at[self._numbers[at] == numbers]
        return found

    def _train(self, store: Store, count: int) -> None:
        """Learn from rows spread evenly over the store: the same rows give the same index."""
        step = max(1, -(-count // self._engine.sample_size(count)))
        parts, seen = [], 0
        for _, vectors in store.descriptors_above(0, self.dim):
            parts.append(vectors[(-seen) % step :: step].astype(np.float32))
            seen += len(vectors)
        sample = np.concatenate(parts)
        if self.spec.reduce is not None:
            self._reduction = Reduction.learn(sample, self.spec.code_dim(self.dim), whiten=self.spec.whiten)
            sample = self._reduction.apply(sample)
        self._engine.train(sample, count)
        self._trained_items = count
        self._trained_error = self._engine.error(sample[:: max(1, len(sample) // _DRIFT_ROWS)])

    def _add(self, store: Store) -> None:
        parts = [self._numbers]
        for numbers, vectors in store.descriptors_above(self.highest, self.dim):
            self._engine.add(self._coded(vectors))
            parts.append(numbers)
            self.highest = int(numbers[-1])
        self._numbers = np.concatenate(parts)
        added = len(self._numbers) - len(self._removed)
        self._removed = np.concatenate([self._removed, np.zeros(added, np.bool_)])

    def _coded(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        full = vectors.astype(np.float32)
        return full if self._reduction is None else self._reduction.apply(full)

    def is_worn(self, store: Store) -> bool:
        """Tell whether the index should be built anew: many rows removed, much growth, or drift."""
        if self._removed_count > max(_DIRECT_ROWS, _REMOVED_SHARE * len(self._numbers)):
            return True
        if len(self) > _GROWTH * max(self._trained_items, _DIRECT_ROWS):
            return True
        newest = self._numbers[max(self._trained_items, len(self._numbers) - _DRIFT_ROWS) :]
        if self._trained_error is None or len(newest) < _DRIFT_ROWS:
            return False
        _, vectors = store.descriptors_of(newest)
        error = self._engine.error(self._coded(vectors)) if len(vectors) else None
        return error is not None and error > _DRIFT * self._trained_error

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[Found]:
        """Find the k nearest items of each query; see `cfcd.gallery.indexes.search_index.SearchIndex`."""
        usable: NDArray[np.bool_] | None = None if self._removed_count == 0 else ~self._removed
        if allowed is not None:
            usable = np.zeros(len(self._numbers), np.bool_)
            usable[self._positions(allowed)] = True
            usable &= ~self._removed
        count = len(self._numbers) if usable is None else int(usable.sum())
        k = min(k, count)
        if k == 0 or self._store is None:
            return [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        queries = np.ascontiguousarray(queries, np.float32)
        if usable is not None and count <= _DIRECT_ROWS:
            rows = np.flatnonzero(usable)
            return [self._score(query, rows, k) for query in queries]
        return self._search_codes(queries, k, usable, count)

    def _search_codes(
        self, queries: NDArray[np.float32], k: int, usable: NDArray[np.bool_] | None, count: int
    ) -> list[Found]:
        total, depth = len(self._numbers), self._engine.depth(k)
        if self._reduction is not None:  # what lies in the other dimensions is still to come
            depth = max(depth, 200, 4 * k)
        depth = min(depth, count)
        coded = self._coded(queries)
        wanted = depth if usable is None else min(total, depth * -(-total // count) + depth)
        results: list[Found | None] = [None] * len(queries)
        open_queries = np.arange(len(queries))
        while len(open_queries):
            found = self._engine.candidates(coded[open_queries], wanted)
            still_open = []
            for at, positions in zip(open_queries, found, strict=True):
                rows = positions[positions >= 0]
                rows = rows if usable is None else rows[usable[rows]]
                if len(rows) < depth and wanted < total and usable is not None:
                    still_open.append(at)
                    continue
                # An engine that does not look everywhere may not reach enough usable rows: look at all.
                if len(rows) < k:
                    rows = np.arange(total) if usable is None else np.flatnonzero(usable)
                else:
                    rows = rows[:depth]
                results[at] = self._score(queries[at], rows, k)
            open_queries, wanted = np.array(still_open, np.int64), min(total, 4 * wanted)
        return [result for result in results if result is not None]

    def _score(self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Found:
        """Score rows by their stored descriptors; the best k, equal scores by row number."""
        assert self._store is not None  # only `catch_up` brings rows
        wanted = self._numbers[np.sort(rows)]
        blocks = [wanted[start : start + _DIRECT_ROWS] for start in range(0, len(wanted), _DIRECT_ROWS)]
        read = [self._store.descriptors_of(block) for block in blocks]
        numbers = np.concatenate([part[0] for part in read])
        scores = np.concatenate([vectors.astype(np.float32) @ query for _, vectors in read])
        order = np.lexsort((numbers, -scores))[:k]
        return numbers[order], scores[order]

    def save(self, folder: Path) -> None:
        """Write the index beside the store."""
        arrays: dict[str, NDArray[Any]] = {"numbers": self._numbers, "removed": np.packbits(self._removed)}
        if self._reduction is not None:
            arrays |= {"mean": self._reduction.mean, "components": self._reduction.components}

        def write_rows(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)

        details = {"trained_items": self._trained_items, "trained_error": self._trained_error}
        parts: dict[str, Callable[[Path], None]] = {"npz": write_rows}
        if len(self._numbers):
            parts["faiss"] = self._engine.write
        write_index(folder, Header.of(self, details), parts)

    @classmethod
    def load(cls, folder: Path, spec: Spec, dim: int) -> CodedIndex:
        """Read the saved index; an empty one when it is missing or damaged, which is then built anew."""
        index = cls(spec, dim)
        header = matching_header(folder, spec, dim)
        if header is None:
            return index
        codes, rows = checked_file(folder, header, "faiss"), checked_file(folder, header, "npz")
        if codes is None or rows is None:
            return index
        try:
            with np.load(rows, allow_pickle=False) as arrays:
                index._numbers = arrays["numbers"]
                removed = np.unpackbits(arrays["removed"], count=len(index._numbers)).astype(np.bool_)
                if spec.reduce is not None:
                    index._reduction = Reduction(arrays["mean"], arrays["components"], spec.whiten)
            index._engine.read(codes)
        except (OSError, RuntimeError, ValueError, KeyError):
            return cls(spec, dim)
        index._removed, index._removed_count = removed, int(removed.sum())
        index._trained_items = header.details["trained_items"]
        index._trained_error = header.details["trained_error"]
        header.restore(index)
        return index
