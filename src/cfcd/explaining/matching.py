"""Which places of two pictures are alike: mutually nearest local descriptors in the attentive half."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATIO = 0.9
_ROWS = 1024  # of distances at a time, so that large maps need little memory
_TINY = 1e-6


class Pairs(NamedTuple):
    """Hold P pairs of positions, counted row by row through their maps, the most alike first.

    Attributes:
        query: (P,) positions in the query's map.
        hit: (P,) positions in the hit's map.
        cosines: (P,) of the two local descriptors.
        distinct: (P,) whether a pair passes the ratio test too: then it is one that training would accept.
    """

    query: NDArray[np.int64]
    hit: NDArray[np.int64]
    cosines: NDArray[np.float64]
    distinct: NDArray[np.bool_]


def match_maps(query: NDArray[np.float32], hit: NDArray[np.float32], ratio: float = RATIO) -> Pairs:
    """Pair positions of two last maps.

    With every position's C numbers brought to unit length, a pair is kept if each is the other's nearest,
    and the hit's position is among the floor(half) of its map with the largest sum of absolute values. It is
    distinct if, besides, the hit's position is at most `ratio` times as far from its nearest as from its
    second nearest in the query.
    Source: Zhu, Gao, Ke, Qiao, Sun, "Coarse-to-Fine" (ICCV 2023, arXiv 2308.04008).

    Args:
        query: (C, h, w), as the network gives it: not clamped.
        hit: (C, h', w').
        ratio: Greatest nearest distance, as a part of the second nearest.
    """
    left, right = _unit(query), _unit(hit)
    nearest, first, second = _nearest_two(right, left)
    back, _, _ = _nearest_two(left, right)
    mutual = back[nearest] == np.arange(len(right))
    # Not a division: where two positions of the query equal the hit's, 0 / 0, neither is meant.
    distinct = (first <= ratio * second) & (second > 0)
    attention = np.abs(hit.astype(np.float64)).sum(0).reshape(-1)
    attended = np.zeros(len(right), bool)
    attended[np.argsort(-attention, kind="stable")[: len(right) // 2]] = True
    of_hit = np.flatnonzero(mutual & attended)
    of_query = nearest[of_hit]
    cosines = np.einsum("pc,pc->p", left[of_query], right[of_hit])
    order = np.argsort(-cosines, kind="stable")
    return Pairs(of_query[order], of_hit[order], cosines[order], distinct[of_hit][order])


def _unit(last_map: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = last_map.reshape(len(last_map), -1).T.astype(np.float64)
    unit: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    return unit


def _nearest_two(
    rows: NDArray[np.float64], among: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Find for each of (K, C) rows the nearest of (M, C), its distance, and that of the second nearest."""
    nearest = np.empty(len(rows), np.int64)
    first, second = np.empty(len(rows)), np.full(len(rows), np.inf)
    lengths = np.square(among).sum(1)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        squares = lengths + np.square(rows[part]).sum(1)[:, None] - 2 * rows[part] @ among.T
        nearest[part] = squares.argmin(1)
        first[part] = np.take_along_axis(squares, nearest[part, None], 1)[:, 0]
        np.put_along_axis(squares, nearest[part, None], np.inf, 1)
        second[part] = squares.min(1)
    # Rounding makes the distance of equal rows a little more or less than nought.
    first, second = (np.sqrt(np.where(value < 1e-12, 0, value)) for value in (first, second))
    return nearest, first, second
