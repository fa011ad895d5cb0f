"""The exact index: every stored descriptor is compared with the query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.gallery.indexes.files import Header, Spec, checked_file, matching_header, write_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.truth.store import Store


class ExactIndex:
    """Exact inner-product search over the stored fp16 descriptors, 2 D bytes per item in memory.

    Args:
        dim: Components of a descriptor.
    """

    kind = "exact"
    spec = Spec(kind)

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.measured: dict[str, Any] = {}
        self._clear()

    def _clear(self) -> None:
        import faiss

        fp16, product = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        self._faiss: Any = faiss.IndexIDMap2(faiss.IndexScalarQuantizer(self.dim, fp16, product))
        self.generation = 0
        self.token = b""
        self.highest = 0

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    @property
    def resident_bytes(self) -> int:
        """Give the bytes it takes in memory: fp16 components, row numbers, a map from them (about 32)."""
        return len(self) * (2 * self.dim + 8 + 32)

    def catch_up(self, store: Store) -> bool:
        """Bring the index to the store's generation; tell whether anything changed.

        Call it within `store.reading()`, so that what it reads is one generation.
        """
        if self.generation and store.token(self.generation) != self.token:
            # Not an ancestor of this store, which may be a restored backup: nothing in here can be trusted.
            self._clear()
        generation = store.generation
        if generation == self.generation:
            return False
        removed = store.removed_since(self.generation)
        removed = removed[removed <= self.highest]
        if len(removed):
            self._faiss.remove_ids(removed)
        for numbers, vectors in store.descriptors_above(self.highest, self.dim):
            self._faiss.add_with_ids(vectors.astype(np.float32), numbers)
            self.highest = int(numbers[-1])
        self.generation, self.token = generation, store.token(generation)
        return True

    def is_worn(self, store: Store) -> bool:  # noqa: ARG002
        """Tell whether it should be built anew: never, it has learnt nothing."""
        return False

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the k nearest items of each query; see `cfcd.gallery.indexes.search_index.SearchIndex`."""
        k = min(k, len(self) if allowed is None else len(allowed), len(self))
        if k == 0:
            empty = (np.empty(0, np.int64), np.empty(0, np.float32))
            return [empty] * len(queries)
        queries = np.ascontiguousarray(queries, np.float32)
        parameters = None if allowed is None else only_rows(allowed)
        scores, numbers = self._faiss.search(queries, k, params=parameters)
        results = []
        for row_scores, row_numbers in zip(scores, numbers, strict=True):
            # faiss fills up with -1 where fewer rows are allowed than were asked for.
            found = row_numbers >= 0
            row_scores, row_numbers = row_scores[found], row_numbers[found]  # noqa: PLW2901
            order = np.lexsort((row_numbers, -row_scores))
            results.append((row_numbers[order], row_scores[order]))
        return results

    def save(self, folder: Path) -> None:
        """Write the index beside the store."""
        import faiss

        parts = {"faiss": lambda path: faiss.write_index(self._faiss, str(path))}
        write_index(folder, Header.of(self), parts)

    @classmethod
    def load(cls, folder: Path, dim: int) -> ExactIndex:
        """Read the saved index; an empty one when it is missing or damaged, which then catches up."""
        import faiss

        index = cls(dim)
        header = matching_header(folder, cls.spec, dim)
        file = None if header is None else checked_file(folder, header, "faiss")
        if header is None or file is None:
            return index
        try:
            index._faiss = faiss.read_index(str(file))
        except (OSError, RuntimeError):
            return index
        header.restore(index)
        return index


def only_rows(allowed: NDArray[np.int64]) -> Any:
    """Give the search parameters that let faiss find only these row numbers, (n,) int64 ascending.

    The rows are a bit each up to the highest: a look-up costs the same however many there are.
    """
    import faiss

    library: Any = faiss  # whose type stubs lack the constructors that take arrays
    bits = np.zeros(int(allowed[-1]) + 1 if len(allowed) else 1, np.uint8)
    bits[allowed] = 1
    return library.SearchParameters(sel=library.IDSelectorBitmap(np.packbits(bits, bitorder="little")))
