"""Which items of a gallery are alike enough to be looked at together: components of near descriptors.

Up to 100,000 items every pair is compared, in blocks. Above, each item is compared with its nearest
neighbours in the gallery's index: what the index overlooks is overlooked here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.indexes.search_index import SearchIndex

Progress = Callable[[int, int], None]
Blocks: TypeAlias = "Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]"
"""Ascending row numbers and their (n, D) descriptors."""

EXACT_ITEMS = 100_000
NEIGHBOURS = 32
_BLOCK = 2048
# An index scores compressed descriptors: so far below the threshold a neighbour still counts as a link.
_SLACK = 0.02


class Components:
    """Join positions 0..N-1 into components; the smallest position stands for each."""

    def __init__(self, size: int) -> None:
        self._above = np.arange(size, dtype=np.int64)

    def roots(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the position that stands for the component of each."""
        found = self._above[positions]
        while True:
            higher = self._above[found]
            if np.array_equal(higher, found):
                break
            found = higher
        # Short ways for the next time.
        self._above[positions] = found
        return found

    def join(self, positions: NDArray[np.int64]) -> None:
        """Make one component of these and all that is joined to any of them."""
        if len(positions) > 1:
            found = self.roots(positions)
            self._above[found] = found.min()

    def groups(self) -> list[NDArray[np.int64]]:
        """List the components of two or more positions: by their smallest, each ascending."""
        found = self.roots(np.arange(len(self._above), dtype=np.int64))
        order = np.argsort(found, kind="stable")
        starts = np.flatnonzero(np.diff(found[order], prepend=-1))
        return [group for group in np.split(order, starts[1:]) if len(group) > 1]


def unit_rows(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Give (n, D) float32 rows of length one; fp16 rounding leaves them a little off."""
    rows = vectors.astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def places(numbers: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find where row numbers are among others, ascending; -1 for those that are not."""
    if not len(numbers):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    return np.where(numbers[at] == wanted, at, -1)


def link_all_pairs(
    blocks: Blocks,
    count: int,
    dim: int,
    threshold: float,
    joined: Components,
    progress: Progress | None = None,
) -> None:
    """Join all pairs with a cosine similarity of at least the threshold: every pair is compared.

    Memory: 2 D bytes per item, and one block of 2,048 x 2,048 similarities.

    Args:
        blocks: The items to compare.
        count: How many they are.
        dim: Components of a descriptor.
        threshold: Cosine similarity.
        joined: Positions are places in the order of row numbers.
        progress: Called with (done, total) items.
    """
    rows = np.empty((count, dim), np.float16)
    filled = 0
    for _, vectors in blocks:
        rows[filled : filled + len(vectors)] = vectors
        filled += len(vectors)
    for first in range(0, count, _BLOCK):
        ours = unit_rows(rows[first : first + _BLOCK])
        for start in range(first, count, _BLOCK):
            theirs = ours if start == first else unit_rows(rows[start : start + _BLOCK])
            near = ours @ theirs.T >= threshold
            for at in np.flatnonzero(near.any(axis=1)):
                joined.join(np.append(start + np.flatnonzero(near[at]), first + at))
        if progress:
            progress(min(first + _BLOCK, count), count)


def link_neighbours(
    index: SearchIndex,
    blocks: Blocks,
    numbers: NDArray[np.int64],
    threshold: float,
    joined: Components,
    allowed: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> None:
    """Join every item with those of its 32 nearest neighbours that reach the threshold.

    Args:
        index: Caught up with the store.
        blocks: The items to compare.
        numbers: (N,) row numbers, ascending; a position is a place in it.
        threshold: Cosine similarity.
        joined: Positions as in `numbers`.
        allowed: `numbers` where these are not all rows of the index.
        progress: Called with (done, total) items.
    """
    done = 0
    for own, vectors in blocks:
        found = index.search(unit_rows(vectors), NEIGHBOURS, allowed)
        for number, (neighbours, scores) in zip(own, found, strict=True):
            near = neighbours[scores >= threshold - _SLACK]
            at = places(numbers, np.append(near, number))
            joined.join(at[at >= 0])
        done += len(own)
        if progress:
            progress(done, len(numbers))
