"""Score descriptors against queries block by block, such that equal descriptors score equally.

Ties decide places, and equal descriptors must tie exactly. That is not a matter of course: a linear algebra
library computes the odd rows at the edge of a product, or a small product, with other code that rounds
otherwise, so that one descriptor scores 0.5 here and 0.49999997 there. Therefore every score, those of the
known images too, comes from a product of one fixed shape (the last block and the queries are padded with
zeros), and a product of equal rows shows beforehand whether the library treats all places in it alike. Where
it does not, each score is summed by itself, which is slow and exact. Blocks of some thousand rows give what
the whole product `queries @ database.T` of that type gives, bit by bit, with OpenBLAS.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from cfcd.errors import EvaluationError
from cfcd.evaluation.revisited_rows import Floats, Rows

NORM_TOLERANCE = 0.01  # storage in float16 moves a norm by less than 0.001
_QUERY_STEP = 8
_MOST_WORKERS = 4
_ALIGNMENT = 64
_STEP = 1024

Result = TypeVar("Result")


@dataclass(frozen=True)
class Block:
    """Up to a block of rows: where it starts, and the pieces of arrays it is made of."""

    start: int
    rows: int
    pieces: tuple[Floats, ...]


def blocks(rows: Rows, height: int) -> Iterator[Block]:
    """Cut rows into blocks of `height`, whatever the parts they lie in; the last may be lower."""
    start, held = 0, 0
    pieces: list[Floats] = []
    for part in rows.parts:
        array, at = part.load(), 0
        while at < part.rows:
            piece = array[at : at + height - held]
            pieces.append(piece)
            at, held = at + len(piece), held + len(piece)
            if held == height:
                yield Block(start, held, tuple(pieces))
                start, held, pieces = start + held, 0, []
    if held:
        yield Block(start, held, tuple(pieces))


class Reader:
    """Bring blocks of one source into a matrix of one shape and type, and check every row."""

    def __init__(self, rows: Rows, height: int, dtype: np.dtype[Any], normalise: bool) -> None:
        self._source, self._height, self._dtype, self._normalise = rows, height, dtype, normalise

    def read(self, block: Block, buffer: Floats) -> Floats:
        """Give the (height, D) matrix of a block, zeros behind its rows: the buffer, or the data itself."""
        first = block.pieces[0]
        as_it_lies = (
            len(first) == self._height
            and first.dtype == self._dtype
            and first.flags.c_contiguous
            and first.ctypes.data % _ALIGNMENT == 0
            and not self._normalise
        )
        if as_it_lies:
            self._check(block, _norms(first))
            return first
        at = 0
        for piece in block.pieces:
            buffer[at : at + len(piece)] = piece
            at += len(piece)
        buffer[at:] = 0
        used = buffer[:at]
        if self._normalise:
            with np.errstate(over="ignore", invalid="ignore"):
                norms = np.linalg.norm(used, axis=1)
            self._check(block, norms)
            used /= norms[:, None]
        else:
            self._check(block, _norms(used))
        return buffer

    def _check(self, block: Block, norms: Floats) -> None:
        # A NaN or an infinity anywhere in a row makes its norm NaN or infinite, and no comparison holds.
        good = (norms > 0) & (norms < np.inf) if self._normalise else np.abs(norms - 1) <= NORM_TOLERANCE
        if good.all():
            return
        at = int(np.flatnonzero(~good)[0])
        place, norm = self._source.describe(block.start + at), float(norms[at])
        if not np.isfinite(norm):
            # The sum of the squares of finite numbers may be infinite.
            what = "is not finite: it holds NaN, infinity or numbers too large to be squared"
            mend = "Encode that picture again."
        elif norm == 0:
            what, mend = "is all zeros", "Encode that picture again."
        else:
            what = f"has length {norm:.4g}, not 1"
            mend = "Divide each row by its length, or ask for that with normalise=True (--normalise)."
        raise EvaluationError(f"The descriptor of {place} {what}.", mend)


def _norms(rows: Floats) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        norms: Floats = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norms


def aligned(shape: tuple[int, int], dtype: np.dtype[Any]) -> Floats:
    """Make a matrix at an address that every library reads with the same instructions."""
    size = shape[0] * shape[1] * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


class Product:
    """Score blocks of one height against the queries such that equal rows score equally.

    Args:
        queries: (Q, D) in the type that scores are computed in.
        height: Rows of a block.
    """

    def __init__(self, queries: Floats, height: int) -> None:
        self.queries, self.height = len(queries), height
        wide = -(-len(queries) // _QUERY_STEP) * _QUERY_STEP
        self.shape = (wide, height)
        self._queries = aligned((wide, queries.shape[1]), queries.dtype)
        self._queries[: len(queries)] = queries
        self._queries[len(queries) :] = 0
        # Products of this height keep what they work on in the cache of a core.
        self._step = _STEP if height % _STEP == 0 else height
        self._columns = np.ascontiguousarray(self._queries.T)
        self._piece = aligned((self._step, wide), queries.dtype)
        # Two products at a time would share the cores, and so might be cut up in another way.
        self._one_at_a_time = threading.Lock()
        self.even = self._is_even()

    def __call__(self, rows: Floats, out: Floats) -> Floats:
        """Give the (Q, height) scores of (height, D) rows, in `out` of `shape`."""
        if self.even:
            with self._one_at_a_time:
                for at in range(0, self.height, self._step):
                    np.matmul(rows[at : at + self._step], self._columns, out=self._piece)
                    out[:, at : at + self._step] = self._piece.T
        else:
            np.einsum("qd,nd->qn", self._queries, rows, out=out)
        return out[: self.queries]

    def _is_even(self) -> bool:
        """Tell whether the library gives equal rows equal scores wherever in a product they stand."""
        wide, dim = self._queries.shape
        rng = np.random.default_rng(0)
        rows = aligned((self._step, dim), self._queries.dtype)
        rows[:] = rng.standard_normal(dim)
        probes = rng.standard_normal((dim, wide)).astype(rows.dtype)
        scores = np.matmul(rows, probes, out=aligned((self._step, wide), rows.dtype))
        return bool((scores == scores[:1]).all())


class Stream:
    """Send blocks through the product in a few threads, in order, with a bounded number under way."""

    def __init__(self, product: Product, dtype: np.dtype[Any], normalise: bool) -> None:
        self.product, self.dtype, self._normalise = product, dtype, normalise
        self._workers = min(_MOST_WORKERS, os.cpu_count() or 1)

    def run(
        self, rows: Rows, work: Callable[[Block, Floats], Result], chosen: Collection[int] | None = None
    ) -> Iterator[tuple[Block, Result]]:
        """Yield what `work` makes of each block, or the chosen ones by number, and its (Q, n) scores."""
        height = self.product.height
        reader = Reader(rows, height, self.dtype, self._normalise)
        spaces: SimpleQueue[tuple[Floats, Floats]] = SimpleQueue()
        for _ in range(self._workers):
            spaces.put((aligned((height, rows.dim), self.dtype), aligned(self.product.shape, self.dtype)))

        def score(block: Block) -> tuple[Block, Result]:
            buffer, out = spaces.get()
            try:
                scores = self.product(reader.read(block, buffer), out)
                return block, work(block, scores[:, : block.rows])
            finally:
                spaces.put((buffer, out))

        with _pool(self._workers) as pool:
            todo = (b for b in blocks(rows, height) if chosen is None or b.start // height in chosen)
            yield from _ahead(pool, score, todo, self._workers + 1)


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="rank")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[Block], Result],
    todo: Iterator[Block],
    most: int,
) -> Iterator[Result]:
    """Map in threads and in order; unlike `Executor.map` it takes no more blocks than are under way."""
    waiting: deque[Future[Result]] = deque()
    waiting.extend(pool.submit(work, block) for block in islice(todo, most))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(work, block) for block in islice(todo, 1))
        yield result
