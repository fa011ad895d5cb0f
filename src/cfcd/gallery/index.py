"""The search index of a gallery: derived from the store, caught up when it lags, rebuilt when it is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.files import content_digest, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.store import Store

HEADER = "index.json"
# Catching up with this many rows, or this share of them, takes a reader a few hundredths of a second.
_LAG_ROWS = 1000
_LAG_SHARE = 0.05


class ExactIndex:
    """Exact inner-product search over the stored fp16 descriptors, 2 D bytes per item in memory.

    Args:
        dim: Components of a descriptor.
    """

    kind = "exact"

    def __init__(self, dim: int) -> None:
        self.dim = dim
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

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the k nearest items of each query.

        Args:
            queries: (Q, D) float32 unit rows.
            k: At most this many.
            allowed: (n,) int64 row numbers, ascending, that alone may be found.

        Returns:
            For each query (n,) row numbers and (n,) scores, n <= k, best first, equal scores by row number.
        """
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
        """Write the index beside the store; the header comes last and makes it count."""
        import faiss

        file = folder / f"index-{self.kind}-{self.generation:09d}.faiss"
        temporary = folder / f".{file.name}.{os.getpid()}.tmp"
        try:
            faiss.write_index(self._faiss, str(temporary))
            digest = content_digest(temporary)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        header = {
            "kind": self.kind,
            "file": file.name,
            "generation": self.generation,
            "token": self.token.hex(),
            "highest": self.highest,
            "digest": digest.hex(),
        }
        write_json(folder / HEADER, header)
        for old in folder.glob("index-*.faiss"):
            if old != file:
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, dim: int) -> ExactIndex:
        """Read the saved index; an empty one when it is missing or damaged, which then catches up."""
        import faiss

        index = cls(dim)
        header = read_header(folder)
        if header is None or header["kind"] != cls.kind:
            return index
        file = folder / Path(header["file"]).name
        try:
            if content_digest(file).hex() != header["digest"]:
                return index
            loaded = faiss.read_index(str(file))
        except (OSError, RuntimeError):
            return index
        if loaded.d == dim:
            index._faiss, index.token = loaded, bytes.fromhex(header["token"])
            index.generation, index.highest = header["generation"], header["highest"]
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


def read_header(folder: Path) -> dict[str, Any] | None:
    """Read what `index.json` says of the saved index, None when it is missing or damaged."""
    try:
        header = json.loads((folder / HEADER).read_bytes())
        bytes.fromhex(header["token"])
        whole = isinstance(header["generation"], int) and isinstance(header["highest"], int)
        return header if whole and {"kind", "file", "digest"} <= header.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_outdated(folder: Path, store: Store) -> bool:
    """Tell whether the saved index lags so far behind that a reader would notice the time to catch up."""
    header = read_header(folder)
    if header is None or store.token(header["generation"]) != bytes.fromhex(header["token"]):
        return len(store) > _LAG_ROWS
    lag = store.count_above(header["highest"]) + len(store.removed_since(header["generation"]))
    return lag > max(_LAG_ROWS, _LAG_SHARE * len(store))
