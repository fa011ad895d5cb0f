"""Exact ranks of a few known images among millions, without sorting the millions.

Average precision needs no ranking, only the places of the right images in it. The place of one is the number
of images that score higher, or the same and come earlier. So the scores of the known images are computed
first; then everything streams through in blocks, and each block adds how many of its scores lie above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfcd.errors import EvaluationError
from cfcd.evaluation.revisited_blocks import Block, Product, Reader, Stream, aligned, blocks
from cfcd.evaluation.revisited_rows import Floats, Rows

_BLOCK_NUMBERS = 1 << 23  # a block of descriptors: 32 MiB in float32
_BLOCK_ROWS = (1024, 16_384)
_COMPARISON = 0.01  # what it costs to compare a score with a target, to pick and sort it being 1 (measured)

Integers = NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Placed:
    """Known images of one query.

    Attributes:
        positions: (L,) rows of the database, increasing.
        scores: (L,) inner products with the query.
        ranks: (L,) 0-based places among all images, -1 where it was not asked for.
        best: Rows of the best images of all, best first; those of distractors go on behind the database's.
        best_scores: Their scores.
    """

    positions: Integers
    scores: Floats
    ranks: Integers
    best: Integers
    best_scores: Floats


def place_known(
    queries: Rows,
    database: Rows,
    distractors: Rows | None,
    known: Sequence[Integers],
    asked: Sequence[NDArray[np.bool_]],
    *,
    top: int = 10,
    block: int | None = None,
    normalise: bool = False,
    progress: Progress | None = None,
) -> list[Placed]:
    """Find the places that known images have when everything is ranked by descending inner product.

    Ties keep the order of the database, with the distractors behind it: the places are those of a stable
    sort of all scores. Memory is bounded by a few blocks, whatever the number of distractors.

    Args:
        queries: Q descriptors.
        database: Descriptors, in the order that breaks ties.
        distractors: Further descriptors, behind the database in order.
        known: Per query the rows of the database to score, increasing.
        asked: Per query which of these to place too.
        top: How many of the best images to name.
        block: Rows scored at a time; by default 1024 to 16384, so that a block has about 32 MiB.
        normalise: Divide rows by their lengths instead of refusing those that are not unit vectors.
        progress: Called with (done, total) rows streamed.

    Returns:
        One `Placed` per query.

    Raises:
        EvaluationError: The dimensions differ, or a row holds NaN or is no unit vector.
    """
    for rows in (database, distractors):
        if rows is not None and rows.dim != queries.dim:
            raise EvaluationError(
                f"The queries have {queries.dim} numbers each, and {rows.name} {rows.dim}.",
                "Give descriptors of one model.",
            )
    types = [rows.dtype for rows in (queries, database, distractors) if rows is not None]
    dtype = np.result_type(np.float32, *types)
    height = _block_rows(queries.dim) if block is None else max(1, block)
    read_queries = Reader(queries, len(queries), dtype, normalise)
    (first,) = blocks(queries, len(queries))
    product = Product(read_queries.read(first, aligned((len(queries), queries.dim), dtype)), height)
    stream = Stream(product, dtype, normalise)
    scores = _known_scores(stream, database, known)
    return _count(stream, database, distractors, known, scores, asked, top, progress)


def _block_rows(dim: int) -> int:
    rows = 1 << (max(1, _BLOCK_NUMBERS // dim).bit_length() - 1)
    return min(max(rows, _BLOCK_ROWS[0]), _BLOCK_ROWS[1])


def _known_scores(stream: Stream, database: Rows, known: Sequence[Integers]) -> list[Floats]:
    """Compute the scores of the known images, in the blocks they stand in when everything streams."""
    height = stream.product.height
    needed = {int(number) for positions in known for number in np.unique(positions // height)}
    found: list[list[Floats]] = [[] for _ in known]

    def pick(block: Block, scores: Floats) -> list[Floats]:
        return [
            scores[query, _within(positions, block) - block.start] for query, positions in enumerate(known)
        ]

    for _, picked in stream.run(database, pick, needed):
        for query, part in enumerate(picked):
            found[query].append(part)
    return [np.concatenate(parts) if parts else np.empty(0, stream.dtype) for parts in found]


def _within(positions: Integers, block: Block) -> Integers:
    low, high = np.searchsorted(positions, (block.start, block.start + block.rows))
    return positions[low:high]


def _count(
    stream: Stream,
    database: Rows,
    distractors: Rows | None,
    known: Sequence[Integers],
    scores: Sequence[Floats],
    asked: Sequence[NDArray[np.bool_]],
    top: int,
    progress: Progress | None,
) -> list[Placed]:
    """Stream everything past the asked images, lowest score first, and count what comes before each."""
    orders = [
        np.flatnonzero(mask)[np.argsort(values[mask], kind="stable")]
        for mask, values in zip(asked, scores, strict=True)
    ]
    targets = [
        _Targets(values[order], positions[order])
        for order, values, positions in zip(orders, scores, known, strict=True)
    ]
    before = [np.zeros(len(order), np.int64) for order in orders]
    best = [_Best(top, stream.dtype) for _ in orders]
    total = len(database) + (0 if distractors is None else len(distractors))
    done = 0

    def stream_past(rows: Rows, counter: _Counter) -> None:
        nonlocal done
        offset = done

        def work(block: Block, found: Floats) -> tuple[list[Integers], list[tuple[Integers, Floats]]]:
            counts = [counter(target, row, block) for target, row in zip(targets, found, strict=True)]
            highest = found.max(axis=1)
            return counts, [hits.candidates(*both) for hits, *both in zip(best, found, highest, strict=True)]

        for block, (counts, candidates) in stream.run(rows, work):
            for at, count in enumerate(counts):
                before[at] += count
            for hits, (places, values) in zip(best, candidates, strict=True):
                hits.add(places + (offset + block.start), values)
            done += block.rows
            if progress is not None:
                progress(done, total)

    stream_past(database, _before)
    if distractors is not None:
        targets = [
            replace(target, low=_how_many_low(count / len(database)))
            for target, count in zip(targets, before, strict=True)
        ]
        stream_past(distractors, _above)
    placed = []
    for positions, values, order, ranks, hits in zip(known, scores, orders, before, best, strict=True):
        full = np.full(len(positions), -1, np.int64)
        full[order] = ranks
        placed.append(Placed(positions, values, full, hits.rows, hits.scores))
    return placed


class _Best:
    """The best rows of one query so far: (k,) rows and scores, best first, ties by row."""

    def __init__(self, k: int, dtype: np.dtype[Any]) -> None:
        self._k = k
        self.rows, self.scores = np.empty(0, np.int64), np.empty(0, dtype)

    def candidates(self, row: Floats, highest: float) -> tuple[Integers, Floats]:
        """Pick the places and scores of a block's row that may be among the best; safe in any thread."""
        seen = self.scores  # blocks that are being added meanwhile only raise the bar
        if len(seen) < self._k:
            places = np.arange(len(row))
        elif highest > seen[-1]:  # asked first, since it is mostly false
            places = np.flatnonzero(row > seen[-1])
        else:
            places = np.empty(0, np.int64)
        if len(places) > self._k:
            values = row[places]
            least = np.partition(values, len(values) - self._k)[-self._k]
            places = places[values >= least]  # with those that tie for the last place
            places = places[np.argsort(-row[places], kind="stable")[: self._k]]
        return places, row[places]

    def add(self, rows: Integers, scores: Floats) -> None:
        """Take in the candidates of the next block."""
        if not len(rows):
            return
        rows, scores = np.concatenate([self.rows, rows]), np.concatenate([self.scores, scores])
        order = np.lexsort((rows, -scores))[: self._k]
        self.rows, self.scores = rows[order], scores[order]


@dataclass(frozen=True, eq=False)
class _Targets:
    """The images of one query to be placed.

    Attributes:
        scores: (T,) increasing.
        positions: (T,) rows of the database.
        low: How many of the lowest are so deep in the crowd that comparing all scores with each is cheaper
            than sorting what lies above them.
    """

    scores: Floats
    positions: Integers
    low: int = 0


_Counter = Callable[[_Targets, Floats, Block], Integers]


def _how_many_low(shares: NDArray[np.float64]) -> int:
    """Choose `low` from the (T,) shares of all scores that are above each target."""
    compared = _COMPARISON * np.arange(len(shares) + 1)
    return int(np.argmin(compared + np.append(shares, 0)))


def _above(targets: _Targets, row: Floats, _block: Block) -> Integers:
    """Count the scores of one query's row that are higher, for each target."""
    counts = np.empty(len(targets.scores), np.int64)
    for at, score in enumerate(targets.scores[: targets.low]):
        counts[at] = np.count_nonzero(row > score)
    high = targets.scores[targets.low :]
    near = _sorted_from(high, row)
    counts[targets.low :] = len(near) - np.searchsorted(near, high, "right")
    return counts


def _before(targets: _Targets, row: Floats, block: Block) -> Integers:
    """Count the scores of a row of the database that are higher, or equal and earlier, for each target."""
    near = _sorted_from(targets.scores, row)
    right = np.searchsorted(near, targets.scores, "right")
    equal = right - np.searchsorted(near, targets.scores, "left")
    counts = len(near) - right + np.where(targets.positions >= block.start + block.rows, equal, 0)
    inside = (targets.positions >= block.start) & (targets.positions < block.start + block.rows)
    for at in np.flatnonzero(inside & (equal > 1)):
        earlier = row[: targets.positions[at] - block.start]
        counts[at] += np.count_nonzero(earlier == targets.scores[at])
    return counts


def _sorted_from(scores: Floats, row: Floats) -> Floats:
    """Sort what of a row reaches the lowest of increasing scores."""
    # compress takes a third of the time of row[mask]
    return np.sort(np.compress(row >= scores[0], row)) if len(scores) else row[:0]
