"""Pictures of many requests at once: decoded by some threads, encoded in the batches that happen to wait."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from cfcd.encoding.encoder import Encoder
from cfcd.serving.errors import Overloaded
from cfcd.serving.queries import QueryPicture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Gate:
    """Let so many threads in at a time and so many wait; refuse the others.

    Args:
        places: Threads within the gate.
        max_waiting: Threads before it.
    """

    def __init__(self, places: int, max_waiting: int) -> None:
        self._free = threading.Semaphore(places)
        self._lock = threading.Lock()
        self._most = places + max_waiting
        self._places = places
        self._there = 0

    @property
    def waiting(self) -> int:
        """Give how many threads wait before the gate."""
        return max(0, self._there - self._places)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Wait for a place, and hold it during the block.

        Raises:
            Overloaded: As many wait already as may.
        """
        with self._lock:
            if self._there >= self._most:
                raise Overloaded(f"{self._there} pictures are being read or wait for it.", "Try again later.")
            self._there += 1
        try:
            with self._free:
                yield
        finally:
            with self._lock:
                self._there -= 1


class Encoding:
    """Encode the pictures of requests with one encoder."""

    def __init__(self, encoder: Encoder, *, workers: int | None = None, max_waiting: int = 64) -> None:
        self.encoder = encoder
        self._gate = Gate(workers or os.cpu_count() or 1, max_waiting)
        self._turn = threading.Lock()
        encoder.runtime  # noqa: B018 (load the network now, not at the first request)

    @property
    def waiting(self) -> int:
        """Give how many pictures wait."""
        return self._gate.waiting

    def vectors(self, pictures: Sequence[QueryPicture]) -> tuple[list[NDArray[np.float32]], float, float]:
        """Encode pictures; gives (D,) unit vectors, and the seconds of reading and of encoding.

        Raises:
            PictureError: One cannot be read.
            Overloaded: Too many wait already.
        """
        if not pictures:
            return [], 0.0, 0.0
        start = perf_counter()
        with self._gate.passing(), self._turn:
            vectors = [self.encoder.encode(one.data, box=one.box)[0] for one in pictures]
        return vectors, 0.0, perf_counter() - start
