"""Queries made of several descriptors: pictures of one object, plus and minus, and query expansion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cfcd.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ALPHA = 3.0
MINUS = 0.5


def combine(
    positives: ArrayLike, negatives: ArrayLike | None = None, *, minus: float = MINUS
) -> NDArray[np.float32]:
    """Make one query of the descriptors of several pictures.

    q = normalise(mean(p_i) - minus * mean(n_j)), over unit vectors p_i and n_j.
    Source: Rocchio, "Relevance feedback in information retrieval" (1971), with the weights 1 for what is
    wanted and `minus` for what is not; cosines make the lengths of his document vectors 1.

    Args:
        positives: (P, D) descriptors of what is wanted, such as one object from several sides, of any
            length each; one (D,) descriptor will do.
        negatives: (M, D) or (D,) descriptors of what is not wanted.
        minus: How much the negatives count.

    Returns:
        (D,) float32, a unit vector for `Gallery.search_vector`.

    Raises:
        UsageError: There is no positive, a descriptor is zero or not finite, or what is wanted and what is
            not cancel each other.
    """
    query = _unit_rows(positives, "wanted").mean(axis=0)
    if negatives is not None and np.size(negatives):
        unwanted = _unit_rows(negatives, "unwanted")
        if unwanted.shape[1] != len(query):
            raise UsageError(
                f"Descriptors of {len(query)} and of {unwanted.shape[1]} numbers cannot be combined.",
                "Encode all of them with one model.",
            )
        query = query - minus * unwanted.mean(axis=0)
    length = np.linalg.norm(query)
    if length < 1e-6:
        raise UsageError(
            "What is wanted and what is not cancel each other.", "Leave out pictures that are on both sides."
        )
    return np.asarray(query / length, np.float32)


def expand_query(
    query: NDArray[np.float32], hits: NDArray[np.float32], *, alpha: float = ALPHA
) -> NDArray[np.float32]:
    """Move a query towards its best hits: alpha-weighted query expansion.

    q' = normalise(q + sum_i max(0, q . x_i)**alpha x_i)
    Source: Radenovic, Tolias & Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation" (TPAMI
    2019; arXiv 1711.02512), section 4.3 there with alpha = 3. The query has weight 1, its cosine with itself.

    Args:
        query: (D,) unit vector.
        hits: (N, D) unit rows, its best hits.
        alpha: 0 averages plainly; the greater, the less do doubtful hits count.

    Returns:
        (D,) float32 unit vector.
    """
    weights = np.maximum(0.0, hits @ query) ** alpha
    moved = query + weights @ hits
    return np.asarray(moved / np.linalg.norm(moved), np.float32)


def _unit_rows(vectors: ArrayLike, what: str) -> NDArray[np.float64]:
    rows = np.atleast_2d(np.asarray(vectors, np.float64))
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    if rows.ndim != 2 or not rows.size or not np.isfinite(lengths).all() or not lengths.all():
        raise UsageError(
            f"The {what} descriptors, of shape {rows.shape}, are none, or one is zero or not finite.",
            "Give one descriptor of the gallery's model per picture.",
        )
    return np.asarray(rows / lengths)
