"""Measures of one ranked list, and exact rankings of a gallery in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cfcd.errors import EvaluationError

ApRule = Literal["standard", "trapezoid"]
AP_RULES: tuple[ApRule, ...] = ("standard", "trapezoid")

_LEFT_OUT = np.uint64(2**64 - 1)
_ENTRIES_AT_ONCE = 1 << 22  # scores held at a time: about 32 MiB in float64 and as much again as keys


def average_precision(ranks: NDArray[np.integer], n_positives: int, rule: ApRule = "standard") -> float:
    """Average the precision over the positives of one query.

    With r the 0-based rank of the j-th positive (0-based), a positive counts (j+1)/(r+1) under "standard"
    and the mean of j/r (1 if r = 0) and (j+1)/(r+1) under "trapezoid", the rule of revisited Oxford and
    Paris. Positives that were not retrieved count 0.

    Args:
        ranks: (P,) 0-based ranks of the retrieved positives, increasing.
        n_positives: How many positives there are, at least P and at least 1.
        rule: "standard" or "trapezoid".

    Returns:
        A fraction from 0 to 1.

    Raises:
        EvaluationError: The ranks are not 0-based and increasing, or the number of positives does not fit.
    """
    found = _checked(ranks, n_positives)
    if rule not in AP_RULES:
        raise EvaluationError(f"The average precision rule {rule!r} is unknown.", f"Use one of {AP_RULES}.")
    j = np.arange(len(found))
    precision = (j + 1) / (found + 1)
    if rule == "trapezoid":
        before = np.where(found == 0, 1.0, j / np.maximum(found, 1))
        precision = (before + precision) / 2
    return float(precision.sum() / n_positives)


def average_precision_at_r(ranks: NDArray[np.integer], n_positives: int) -> float:
    """Average the precision over the top R places, R being the number of positives.

    This is MAP@R of Musgrave et al., "A Metric Learning Reality Check" (2020): the mean over i = 1..R of
    precision@i if the i-th place is right, else 0.

    Args:
        ranks: (P,) 0-based ranks of the retrieved positives, increasing.
        n_positives: R, at least P and at least 1.

    Returns:
        A fraction from 0 to 1.

    Raises:
        EvaluationError: As `average_precision`.
    """
    found = _checked(ranks, n_positives)
    within = found[found < n_positives]
    return float(((np.arange(len(within)) + 1) / (within + 1)).sum() / n_positives)


def r_precision(ranks: NDArray[np.integer], n_positives: int) -> float:
    """Compute the share of the first R places that are right, R being the number of positives.

    Source: Musgrave et al., "A Metric Learning Reality Check" (2020).

    Args:
        ranks: (P,) 0-based ranks of the retrieved positives, increasing.
        n_positives: R, at least P and at least 1.

    Returns:
        A fraction from 0 to 1, never below `average_precision_at_r`.

    Raises:
        EvaluationError: As `average_precision`.
    """
    found = _checked(ranks, n_positives)
    return float((found < n_positives).sum() / n_positives)


def _checked(ranks: NDArray[np.integer], n_positives: int) -> NDArray[np.int64]:
    found = np.asarray(ranks, dtype=np.int64)
    if found.ndim != 1 or (len(found) and (found[0] < 0 or np.any(np.diff(found) <= 0))):
        raise EvaluationError(
            "The ranks of the positives are not 0-based and increasing.", "Sort them first."
        )
    if n_positives < max(1, len(found)):
        raise EvaluationError(
            f"A query with {len(found)} ranked positives is said to have {n_positives} in all.",
            "Leave queries without a positive out of the mean.",
        )
    return found


@dataclass(frozen=True, eq=False)
class Ranking:
    """Order one query's gallery by descending score, ties by gallery order.

    Attributes:
        scores: (N,) float32 inner products by gallery position.
        keys: (N,) uint64 by gallery position; a smaller key is a better place, no two are equal.
        ordered: (N,) uint64, the keys in increasing order.
        size: Gallery items in the ranking: N, or N - 1 where the query itself is left out.
    """

    scores: NDArray[np.float32]
    keys: NDArray[np.uint64]
    ordered: NDArray[np.uint64]
    size: int

    def ranks_of(self, positions: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the (P,) 0-based ranks of gallery positions, increasing."""
        return np.sort(np.searchsorted(self.ordered, self.keys[positions])).astype(np.int64)

    def top(self, k: int) -> NDArray[np.int64]:
        """Return the gallery positions of the best k items, best first; fewer in a smaller gallery."""
        return positions_of(self.ordered[: min(k, self.size)])


def sort_keys(
    scores: NDArray[np.float32], positions: NDArray[np.integer] | None = None
) -> NDArray[np.uint64]:
    """Turn finite scores into keys whose increasing order is descending score, then position.

    The bits of a float32 read as an integer order like the number once negative ones are flipped; the
    position in the lower half makes every key unique, so an unstable (fast) sort gives the stable order.

    Args:
        scores: (Q, N) scores, or of any shape where `positions` are given.
        positions: Gallery positions below 2**32, in the shape of the scores; by default the column numbers.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 turns -0.0 into 0.0, which must tie with it
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    keys = (~ascending).astype(np.uint64) << np.uint64(32)
    keys |= (np.arange(scores.shape[1]) if positions is None else positions).astype(np.uint64)
    return keys


def positions_of(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Read the gallery positions back from keys."""
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def scores_of(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Read the scores back from keys; a score of -0.0 comes back as 0.0."""
    ascending = ~(keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ascending >> 31, ascending & np.uint32(0x7FFFFFFF), ~ascending)
    return bits.astype(np.uint32).view(np.float32)


def rankings(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    left_out: NDArray[np.integer],
    *,
    entries_at_once: int = _ENTRIES_AT_ONCE,
) -> Iterator[Ranking]:
    """Rank the whole gallery for one query after the other, exactly, in query chunks.

    Scores are summed in float64 and rounded once to float32, so that equal descriptors tie exactly and the
    order depends neither on the chunk size nor on the linear algebra library.

    Args:
        queries: (Q, D) finite rows.
        gallery: (N, D) finite rows.
        left_out: (Q,) gallery position to leave out of each query's ranking, -1 for none.
        entries_at_once: Scores held at a time; it bounds the memory.

    Yields:
        One `Ranking` per query, in order; valid for as long as it is referenced.
    """
    wide = np.asarray(gallery, dtype=np.float64)
    step = max(1, entries_at_once // max(1, len(wide)))
    for start in range(0, len(queries), step):
        chunk = np.asarray(queries[start : start + step], dtype=np.float64)
        scores = (chunk @ wide.T).astype(np.float32)
        keys = sort_keys(scores)
        skip = left_out[start : start + step]
        rows = np.flatnonzero(skip >= 0)
        keys[rows, skip[rows]] = _LEFT_OUT
        ordered = np.sort(keys, axis=1)
        for i in range(len(chunk)):
            yield Ranking(scores[i], keys[i], ordered[i], len(wide) - int(skip[i] >= 0))
