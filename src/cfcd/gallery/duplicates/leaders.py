"""Leader clustering: every picture of a group is a duplicate of the one that leads it, the best.

Joining whatever is alike chains A to B to C though A and C differ. Here pictures come best first; each joins
the leader it is most like, or leads a group of its own. So no group is wider than the threshold allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 256
# Of the leaders that a picture is like, at most this many are compared with it, the most alike first.
MOST_COMPARED = 16


@dataclass(frozen=True)
class Joined:
    """A picture that joined a leader: both by their place, and the cosine similarity of their descriptors."""

    place: int
    leader: int
    similarity: float


def follow_leaders(
    count: int,
    vectors: Callable[[int, int], NDArray[np.float32]],
    threshold: float,
    same: Callable[[int, int], bool],
    progress: Callable[[int], None] | None = None,
) -> list[Joined]:
    """Let each picture join the leader before it that it is most like, or lead itself.

    Args:
        count: Pictures, best first; a place is a position in this order.
        vectors: Gives the (n, D) unit descriptors of the places from the first to before the second.
        threshold: Cosine similarity from which a picture may join.
        same: Tells of a place and a leader's place whether both are one photograph; asked in the order of
            falling similarity, until it says yes or 16 leaders were compared.
        progress: Called with the number of pictures done so far.

    Returns:
        The pictures that joined, in order; the others lead, most of them nobody.
    """
    joined: list[Joined] = []
    leaders: list[int] = []
    leading: NDArray[np.float32] | None = None
    for first in range(0, count, _BLOCK):
        last = min(first + _BLOCK, count)
        block = vectors(first, last)
        if leading is None:
            leading = np.empty((_BLOCK, block.shape[1]), np.float32)
        before = len(leaders)
        with_earlier = block @ leading[:before].T
        with_each_other = block @ block.T
        for place in range(first, last):
            among = [leader - first for leader in leaders[before:]]
            scores = np.concatenate((with_earlier[place - first], with_each_other[place - first, among]))
            leader = _choose(place, leaders, scores, threshold, same)
            if leader is None:
                leaders.append(place)
                if len(leaders) > len(leading):
                    leading = np.concatenate((leading, np.empty_like(leading)))
                leading[len(leaders) - 1] = block[place - first]
            else:
                joined.append(Joined(place, leaders[leader], float(scores[leader])))
        if progress:
            progress(last)
    return joined


def _choose(
    place: int,
    leaders: list[int],
    scores: NDArray[np.float32],
    threshold: float,
    same: Callable[[int, int], bool],
) -> int | None:
    near = np.flatnonzero(scores >= threshold)
    # Equal scores in the order of the leaders: two runs give the same groups.
    for at in near[np.argsort(-scores[near], kind="stable")][:MOST_COMPARED]:
        if same(place, leaders[at]):
            return int(at)
    return None
