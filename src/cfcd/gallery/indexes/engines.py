"""What finds candidates: codes of the descriptors, by position, made by faiss or turbovec.

An engine only adds. Row numbers, removed rows, filters and exact scores are the business of `CodedIndex`.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cfcd.errors import MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

# k-means for 16 centroids looks at no more than 4,096 rows; ranges of bytes and drift want more.
_SAMPLE = 65_536


class Engine(Protocol):
    """Codes that can be scanned for the rows most like a query."""

    def sample_size(self, count: int) -> int:
        """Tell how many of `count` descriptors training is to see."""
        ...

    def train(self, sample: NDArray[np.float32], count: int) -> None:
        """Learn from (n, R) float32 rows what `count` rows will be coded with."""
        ...

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Code (n, R) float32 rows; they get the next positions."""
        ...

    def candidates(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Give (Q, count) positions, the most promising first, -1 where there are no more."""
        ...

    def depth(self, k: int) -> int:
        """Tell how many candidates are to be scored exactly for k hits."""
        ...

    def error(self, vectors: NDArray[np.float32]) -> float | None:
        """Measure the mean squared error of the codes; None when nothing was learnt."""
        ...

    def resident_bytes(self) -> int:
        """Give the bytes the codes take in memory."""
        ...

    def write(self, path: Path) -> None:
        """Save the codes to a file."""
        ...

    def read(self, path: Path) -> None:
        """Load what `write` has saved; OSError, RuntimeError or ValueError when it cannot be."""
        ...


def make_engine(kind: str, dim: int) -> Engine:
    """Make the empty engine of a kind for rows of `dim` components."""
    return TurbovecEngine(dim) if kind == "turbovec" else FaissEngine(kind, dim)


def subquantizers(dim: int) -> int:
    """Give how many parts a row is cut into for product quantisation: of 4 components, or a few more."""
    return next(parts for parts in range(max(1, dim // 4), 0, -1) if dim % parts == 0)


class FaissEngine:
    """Codes of a faiss index.

    Args:
        kind: "exact" (fp16; for reduced rows), "codes", "pq", "ivf" or "hnsw".
        dim: Components of a row, R.
    """

    def __init__(self, kind: str, dim: int) -> None:
        self.kind = kind
        self.dim = dim
        self._faiss: Any = None

    def sample_size(self, count: int) -> int:
        """Tell how many of `count` descriptors training is to see."""
        # k-means wants at least 39 rows for each list.
        return max(_SAMPLE, 40 * _lists(count)) if self.kind == "ivf" else _SAMPLE

    def train(self, sample: NDArray[np.float32], count: int) -> None:
        """Learn the codes."""
        import faiss

        parts = subquantizers(self.dim)
        recipe = {
            "exact": "SQfp16",
            "codes": f"PQ{parts}x4fs",
            "pq": f"PQ{parts}x4fs,Refine(SQ8)",
            "ivf": f"IVF{_lists(count)},PQ{parts}x4fs,Refine(SQ8)",
            "hnsw": "HNSW32,SQ8",
        }[self.kind]
        self._faiss = faiss.index_factory(self.dim, recipe, faiss.METRIC_INNER_PRODUCT)
        # Fewer rows than k-means wants are shown several times; it would complain on stderr.
        least = 40 * max(16, _lists(count) if self.kind == "ivf" else 0)
        self._faiss.train(np.resize(sample, (max(least, len(sample)), self.dim)))

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Code more rows."""
        self._faiss.add(np.ascontiguousarray(vectors, np.float32))

    def candidates(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Scan the codes."""
        count = min(count, int(self._faiss.ntotal))
        _, found = self._faiss.search(
            np.ascontiguousarray(queries, np.float32), count, params=self._parameters(count)
        )
        return np.asarray(found, np.int64)

    def _parameters(self, count: int) -> Any:
        import faiss

        library: Any = faiss  # whose type stubs lack the constructors that take names
        if self.kind == "hnsw":
            return library.SearchParametersHNSW(efSearch=max(200, 2 * count))
        if self.kind in ("pq", "ivf"):
            # The bytes of the second stage sort out at least 400 candidates of the first.
            total = int(self._faiss.ntotal)
            factor = min(max(8.0, 400 / count), total / count)
            if self.kind == "pq":
                return library.IndexRefineSearchParameters(k_factor=factor)
            base: Any = faiss.downcast_index(self._faiss.base_index)
            lists = int(base.nlist)
            share = max(1 / 16, min(1.0, 4 * count / total))
            probes = library.SearchParametersIVF(nprobe=math.ceil(lists * share))
            return library.IndexRefineSearchParameters(k_factor=factor, base_index_params=probes)
        return None

    def depth(self, k: int) -> int:
        """Tell how many candidates are to be scored exactly."""
        return max(300, 6 * k) if self.kind == "codes" else k + max(10, k // 5)

    def error(self, vectors: NDArray[np.float32]) -> float | None:
        """Measure the squared error of product quantisation."""
        import faiss

        if self.kind not in ("pq", "codes"):
            return None
        coder: Any = faiss.downcast_index(self._faiss.base_index) if self.kind == "pq" else self._faiss
        vectors = np.ascontiguousarray(vectors, np.float32)
        decoded = coder.pq.decode(coder.pq.compute_codes(vectors))
        return float(((vectors - decoded) ** 2).sum(1).mean())

    def resident_bytes(self) -> int:
        """Give the bytes of the codes."""
        return 0 if self._faiss is None else int(self._faiss.ntotal * code_bytes(self.kind, self.dim))

    def write(self, path: Path) -> None:
        """Save with faiss."""
        import faiss

        faiss.write_index(self._faiss, str(path))

    def read(self, path: Path) -> None:
        """Load with faiss."""
        import faiss

        loaded = faiss.read_index(str(path))
        if loaded.d != self.dim:
            raise ValueError("another dimension")
        self._faiss = loaded


class TurbovecEngine:
    """Two bits per component by turbovec (TurboQuant, Zandieh et al. 2025), which learns two numbers each.

    Args:
        dim: Components of a row; they are filled up to a multiple of 8.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        try:
            self._library: Any = importlib.import_module("turbovec")
        except ImportError as error:
            raise MissingExtra(
                "The index of this gallery needs the package turbovec.",
                "pip install 'cfcd[turbovec]', or choose another with cfcd index --index.",
            ) from error
        self._codes: Any = None

    def sample_size(self, count: int) -> int:  # noqa: ARG002
        """Tell how many of `count` descriptors training is to see."""
        return 4096

    def train(self, sample: NDArray[np.float32], count: int) -> None:  # noqa: ARG002
        """Fit shift and scale of each component."""
        self._codes = self._library.TurboQuantIndex(dim=-(-self.dim // 8) * 8, bit_width=2)
        # Fewer rows, or none that differ, tell nothing of the components.
        if len(sample) >= 256 and (sample != sample[0]).any():
            self._codes.calibrate(self._padded(sample))

    def _padded(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        missing = -self.dim % 8
        return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, missing))), np.float32)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Code more rows."""
        self._codes.add(self._padded(vectors))

    def candidates(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Scan the codes."""
        _, found = self._codes.search(self._padded(queries), min(count, len(self._codes)))
        return np.asarray(found, np.int64)

    def depth(self, k: int) -> int:
        """Tell how many candidates are to be scored exactly."""
        return max(200, 2 * k)

    def error(self, vectors: NDArray[np.float32]) -> float | None:  # noqa: ARG002
        """Give None: its codes hardly depend on the rows it has seen."""
        return None

    def resident_bytes(self) -> int:
        """Give the bytes of the codes."""
        return 0 if self._codes is None else int(len(self._codes) * code_bytes("turbovec", self.dim))

    def write(self, path: Path) -> None:
        """Save with turbovec."""
        self._codes.write(str(path), durable=False)

    def read(self, path: Path) -> None:
        """Load with turbovec."""
        loaded = self._library.TurboQuantIndex.load(str(path))
        if loaded.dim != -(-self.dim // 8) * 8:
            raise ValueError("another dimension")
        self._codes = loaded
        self._codes.prepare()


def code_bytes(kind: str, dim: int) -> float:
    """Give the bytes per row that the codes of a kind take in memory."""
    half_bytes = 2 * math.ceil(subquantizers(dim) / 2) / 2
    if kind == "turbovec":
        return -(-dim // 8) * 8 / 4 + 4
    return {
        "exact": 2.0 * dim,
        "codes": half_bytes,
        "pq": half_bytes + dim,
        "ivf": half_bytes + dim + 8,
        "hnsw": dim + 4.0 * 2 * 32 + 8,
    }[kind]


def _lists(count: int) -> int:
    """Give how many lists an inverted file has: about four times the square root, a power of two."""
    return 1 << max(4, math.floor(math.log2(4 * math.sqrt(max(1, count)))))
