"""How much of what an exact search finds does an index find: measured with the gallery's own items."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.gallery.indexes.coded import CodedIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.indexes.search_index import SearchIndex
    from cfcd.gallery.truth.store import Store

QUERIES = 200
DEPTHS = (10, 100)
_TIMED = 21
# Two sums of the same products in another order differ by less.
_ROUNDING = 2e-6


def measure_recall(index: CodedIndex, store: Store, queries: int = QUERIES) -> dict[str, Any]:
    """Measure recall at 10 and 100, and the time of a search.

    The queries are items spread evenly over the gallery, each left out of its own results. An item counts
    as found when its score reaches that of the k-th best: of equal ones it does not matter which came.

    Args:
        index: Caught up with the store.
        store: Within `store.reading()`.
        queries: At most this many.

    Returns:
        "recall@10", "recall@100", "queries", "items" and "search_ms" (one query for 10 hits, median).
    """
    numbers = index.numbers
    if len(numbers) < 2:
        return {}
    chosen = numbers[:: max(1, -(-len(numbers) // queries))]
    chosen, stored = store.descriptors_of(chosen)
    vectors = stored.astype(np.float32)
    deepest = min(max(DEPTHS), len(numbers) - 1)
    best = exact_scores(store, index.dim, chosen, vectors, deepest)
    recalls = {}
    for depth in DEPTHS:
        k = min(depth, deepest)
        right = 0
        for own, vector, least in zip(chosen, vectors, best[:, k - 1] - _ROUNDING, strict=True):
            # One more, for the query itself. A search for fewer hits looks at fewer candidates.
            hits, scores = index.search(vector[None], k + 1)[0]
            right += int((scores[hits != own][:k] >= least).sum())
        recalls[f"recall@{depth}"] = round(right / (k * len(chosen)), 4)
    return {
        **recalls,
        "queries": len(chosen),
        "items": len(numbers),
        "search_ms": search_milliseconds(index, vectors),
    }


def exact_scores(
    store: Store, dim: int, numbers: NDArray[np.int64], vectors: NDArray[np.float32], k: int
) -> NDArray[np.float32]:
    """Compute the k best scores of each query over all stored descriptors but its own.

    Args:
        store: Within `store.reading()`.
        dim: Components of a descriptor.
        numbers: (Q,) row numbers of the queries.
        vectors: (Q, D) float32 queries.
        k: At most the number of items less one.

    Returns:
        (Q, k) float32, best first.
    """
    best = np.full((len(vectors), k), -np.inf, np.float32)
    for block, stored in store.descriptors_above(0, dim):
        scores = vectors @ stored.astype(np.float32).T
        scores[numbers[:, None] == block] = -np.inf
        best = -np.partition(-np.concatenate([best, scores], axis=1), k - 1, axis=1)[:, :k]
    return -np.sort(-best, axis=1)


def search_milliseconds(index: SearchIndex, vectors: NDArray[np.float32]) -> float:
    """Measure what a search for 10 hits takes, one query at a time: the median in milliseconds."""
    times = []
    for vector in vectors[:_TIMED]:
        start = time.perf_counter()
        index.search(vector[None], 10)
        times.append(time.perf_counter() - start)
    return round(1000 * float(np.median(times)), 3)
