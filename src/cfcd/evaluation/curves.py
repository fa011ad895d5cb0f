"""The precision-recall curve of ranked lists."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RECALL_LEVELS = 101
"""A curve is given at 0, 1, ... 100 percent recall."""


def interpolated_precision(ranks: NDArray[np.integer], n_positives: int) -> NDArray[np.float64]:
    """Give the best precision at each recall level or beyond: the usual interpolated curve.

    Source: Manning, Raghavan & Schuetze, Introduction to Information Retrieval (2008), section 8.4, with 101
    levels instead of 11. The mean over queries of such curves is what evaluations plot.

    Args:
        ranks: (P,) 0-based ranks of the retrieved positives, increasing.
        n_positives: How many positives there are, at least P and at least 1.

    Returns:
        (101,) fractions, never rising; 0 at recalls that the list does not reach.
    """
    found = np.asarray(ranks, dtype=np.int64)
    precision = (np.arange(len(found)) + 1) / (found + 1)
    best_from = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # In whole numbers: the j-th positive reaches level i/100 if 100 j >= i n.
    needed = -(-np.arange(RECALL_LEVELS) * n_positives // (RECALL_LEVELS - 1))
    first = np.minimum(np.maximum(needed - 1, 0), len(found))
    return best_from[first]
