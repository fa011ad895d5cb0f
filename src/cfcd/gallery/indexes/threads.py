"""How many threads faiss works in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Have faiss work in this thread alone during the block, for a single query.

    It spreads queries over threads, never one query. The other threads of a team have nothing to do then, but
    are waited for at its end: on a busy machine much longer than the search takes. The number belongs to the
    calling thread.
    """
    faiss = sys.modules.get("faiss")
    if faiss is None:
        yield
        return
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
