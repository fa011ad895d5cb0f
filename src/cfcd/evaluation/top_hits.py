"""The exact best k of a gallery that comes in blocks and need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cfcd.evaluation.metrics import positions_of, scores_of, sort_keys

Block = tuple[NDArray[np.integer], NDArray[np.floating]]
"""(n,) positions in the gallery and their (n, D) rows."""

_NOTHING = np.uint64(2**64 - 1)
_QUERIES_AT_ONCE = 256
_LONGEST = 1.02  # of unit rows stored in float16
_GATHERED = 1 << 22  # numbers that are gathered at a time: 32 MiB


def top_hits(
    queries: NDArray[np.floating],
    gallery: Iterable[Block],
    k: int,
    *,
    queries_at_once: int = _QUERIES_AT_ONCE,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the k gallery items with the largest inner product for each query, ties by gallery position.

    Equal to a stable sort of the whole gallery by scores that are summed in float64 and rounded once to
    float32, whatever the blocks and their order. Most of the work is done in float32: what comes within the
    worst rounding error of the k-th best score is computed again.

    Args:
        queries: (Q, D) finite rows, at most 1.02 long.
        gallery: Blocks of rows, at most 1.02 long; no position comes twice.
        k: Hits to keep, at least 1.
        queries_at_once: Rows of queries that a block is multiplied with at a time; bounds the memory.

    Returns:
        (Q, k) positions, best first, and (Q, k) scores; -1 and -inf where the gallery has fewer than k.
    """
    wide = np.asarray(queries, np.float64)
    narrow = np.asarray(queries, np.float32)
    best = np.full((len(wide), k), _NOTHING)
    # |error| of a float32 sum of D products: at most about D units in the last place of the norms' product.
    margin = np.float32((wide.shape[1] + 8) * np.finfo(np.float32).eps * _LONGEST**2)
    for positions, rows in gallery:
        block = np.asarray(rows, np.float32)
        columns = np.ascontiguousarray(block.T)
        for start in range(0, len(wide), queries_at_once):
            chunk = slice(start, start + queries_at_once)
            rough = narrow[chunk] @ columns
            at = _candidates(rough, best[chunk], margin)
            scores = _exact(wide[chunk], rows, *at)
            best[chunk] = _merged(best[chunk], at[0], sort_keys(scores, positions[at[1]]))
    found = best != _NOTHING
    return (
        np.where(found, positions_of(best), -1),
        np.where(found, scores_of(np.where(found, best, 0).astype(np.uint64)), -np.inf).astype(np.float32),
    )


def _candidates(
    rough: NDArray[np.float32], best: NDArray[np.uint64], margin: np.float32
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Name (query, column) of what may be among the best k; nothing that is gets lost."""
    k = best.shape[1]
    last = best[:, -1]
    limit = np.where(last == _NOTHING, -np.inf, scores_of(np.where(last == _NOTHING, 0, last))) - margin
    if np.isinf(limit).any() and rough.shape[1] > k:
        # The k-th best of the block: its true score may be a margin lower, that of a better one as well.
        limit = np.maximum(limit, np.partition(rough, -k, axis=1)[:, -k] - 2 * margin)
    at = np.nonzero(rough >= limit[:, None].astype(np.float32))
    return at[0], at[1]


def _exact(
    queries: NDArray[np.float64],
    rows: NDArray[np.floating],
    query: NDArray[np.int64],
    column: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Sum the products of the named pairs in float64, and round once."""
    if len(query) * 16 > len(queries) * len(rows):  # so many that gathering them costs more than all pairs
        every: NDArray[np.float64] = queries @ np.asarray(rows, np.float64).T
        return every[query, column].astype(np.float32)
    scores = np.empty(len(query), np.float32)
    step = max(1, _GATHERED // queries.shape[1])
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        found = np.asarray(rows[column[part]], np.float64)
        scores[part] = np.einsum("ij,ij->i", queries[query[part]], found)
    return scores


def _merged(
    best: NDArray[np.uint64], query: NDArray[np.int64], keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Take the candidates among the best k of their queries; `query` does not decrease."""
    better = keys < best[query, -1]
    query, keys = query[better], keys[better]
    if not len(query):
        return best
    counts = np.bincount(query, minlength=len(best))
    slot = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
    offered = np.full((len(best), counts.max()), _NOTHING)
    offered[query, slot] = keys
    merged: NDArray[np.uint64] = np.sort(np.concatenate([best, offered], axis=1), axis=1)
    return merged[:, : best.shape[1]]
