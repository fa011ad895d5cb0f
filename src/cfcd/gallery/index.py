"""The search index of a gallery: derived from the store, caught up when it lags, rebuilt when it is gone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.files import atomic_write, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.store import Store

_HEADER = "index.json"


class ExactIndex:
    """Exact inner-product search over the stored fp16 descriptors, 2 D bytes per item in memory.

    Args:
        dim: Components of a descriptor.
    """

    kind = "exact"

    def __init__(self, dim: int) -> None:
        import faiss

        codes = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._faiss: Any = faiss.IndexIDMap2(codes)
        self.dim = dim
        self.generation = 0
        self.highest = 0

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    def catch_up(self, store: Store) -> bool:
        """Bring the index to the store's generation; tell whether anything changed.

        Call it within `store.reading()`, so that what it reads is one generation.
        """
        generation = store.generation
        if generation == self.generation:
            return False
        removed = store.removed_since(self.generation)
        removed = removed[removed <= self.highest]
        if len(removed):
            self._faiss.remove_ids(removed)
        numbers, vectors = store.descriptors_above(self.highest, self.dim)
        if len(numbers):
            self._faiss.add_with_ids(vectors.astype(np.float32), numbers)
            self.highest = int(numbers[-1])
        self.generation = generation
        return True

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the k nearest items of each query.

        Args:
            queries: (Q, D) float32 unit rows.
            k: At most this many.

        Returns:
            For each query (n,) row numbers and (n,) scores, n <= k, best first, equal scores by row number.
        """
        k = min(k, len(self))
        if k == 0:
            empty = (np.empty(0, np.int64), np.empty(0, np.float32))
            return [empty] * len(queries)
        scores, numbers = self._faiss.search(np.ascontiguousarray(queries, np.float32), k)
        results = []
        for row_scores, row_numbers in zip(scores, numbers, strict=True):
            order = np.lexsort((row_numbers, -row_scores))
            results.append((row_numbers[order], row_scores[order]))
        return results

    def save(self, folder: Path) -> None:
        """Write the index beside the store; the header comes last and makes it count."""
        import faiss

        data = faiss.serialize_index(self._faiss).tobytes()
        file = folder / f"index-{self.kind}-{self.generation:09d}.faiss"
        with atomic_write(file) as out:
            out.write(data)
        header = {
            "kind": self.kind,
            "file": file.name,
            "generation": self.generation,
            "highest": self.highest,
            "digest": _digest(data),
        }
        write_json(folder / _HEADER, header)
        for old in folder.glob("index-*.faiss"):
            if old != file:
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, dim: int) -> ExactIndex:
        """Read the saved index; an empty one when it is missing or damaged, which then catches up."""
        import faiss

        index = cls(dim)
        try:
            header = json.loads((folder / _HEADER).read_bytes())
            data = (folder / Path(header["file"]).name).read_bytes()
            if header["kind"] != cls.kind or header["digest"] != _digest(data):
                return index
            loaded = faiss.deserialize_index(np.frombuffer(data, np.uint8))
            if loaded.d != dim:
                return index
            generation, highest = int(header["generation"]), int(header["highest"])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):
            return index
        index._faiss, index.generation, index.highest = loaded, generation, highest
        return index


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
