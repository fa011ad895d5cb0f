"""Pictures of many requests at once: decoded by some threads, encoded in the batches that happen to wait.

No thread of its own and no delay: whoever comes while the device is free starts at once, and whoever finds
it free next starts all that has come meanwhile. With one request at a time nothing waits for anything.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from cfcd.encoding.batches import Pending, finished, start
from cfcd.encoding.encoder import Encoder
from cfcd.encoding.preprocess import to_pixels, wanted_long_side
from cfcd.errors import PictureError
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
        self._places = places
        self._max_waiting = max_waiting
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
            if self._there >= self._places + self._max_waiting:
                raise Overloaded(
                    f"{self._places} requests are in work and {self._max_waiting} wait already.",
                    "Try again in a moment.",
                )
            self._there += 1
        try:
            with self._free:
                yield
        finally:
            with self._lock:
                self._there -= 1


@dataclass
class _Turn:
    """Say whether a picture has been given to the device, and what the device said if it refused."""

    taken: bool = False
    failure: Exception | None = None

    def is_taken(self) -> bool:
        """Tell whether another thread has taken it by now."""
        return self.taken


class Encoding:
    """Encode the pictures of many requests with one encoder, from any thread.

    Args:
        encoder: Its network is loaded here.
        workers: Requests whose pictures are decoded or encoded at a time: by default two per core, or as
            many as the device takes in one batch. This bounds the memory that pixels take.
        max_waiting: Requests that may wait for their turn; more are refused.
    """

    def __init__(self, encoder: Encoder, *, workers: int | None = None, max_waiting: int = 64) -> None:
        self.encoder = encoder
        self._runtime = encoder.runtime
        self._gate = Gate(workers or max(2 * (os.cpu_count() or 1), self._runtime.batch), max_waiting)
        self._device = threading.Lock()
        self._arrived = threading.Lock()
        self._waiting: list[Pending[_Turn]] = []

    @property
    def waiting(self) -> int:
        """Give how many requests wait for their turn."""
        return self._gate.waiting

    def vectors(self, pictures: Sequence[QueryPicture]) -> tuple[list[NDArray[np.float32]], float, float]:
        """Encode pictures; gives (D,) unit vectors, and the seconds of reading and of encoding.

        Raises:
            PictureError: One cannot be read.
            Overloaded: Too many requests wait already.
        """
        if not pictures:
            return [], 0.0, 0.0
        came = perf_counter()
        with self._gate.passing():
            read = [self._read(one) for one in pictures]
            decoded = perf_counter()
            self._start(read)
            vectors = []
            for one in read:
                _, result = finished(one)
                assert not isinstance(result, PictureError)
                vectors.append(result)
        return vectors, decoded - came, perf_counter() - decoded

    def _read(self, picture: QueryPicture) -> Pending[_Turn]:
        preprocessing = self.encoder.model.config.preprocessing
        rgb = self.encoder.reading.load(
            picture.data, box=picture.box, long_side=wanted_long_side(preprocessing)
        )
        return Pending(_Turn(), [to_pixels(rgb, preprocessing, scale) for scale in preprocessing.scales])

    def _start(self, read: list[Pending[_Turn]]) -> None:
        """Have pictures started on the device, by this thread or by the one that has it now."""
        with self._arrived:
            self._waiting += read
        # What came together is taken together: one of them tells for all.
        while not read[0].job.is_taken():
            with self._device:
                if read[0].job.is_taken():
                    break
                with self._arrived:
                    batch, self._waiting = self._waiting, []
                failure: Exception | None = None
                try:
                    start(self._runtime, batch)
                except Exception as error:
                    failure = error
                for one in batch:
                    one.job.failure = failure
                    one.job.taken = True
        for one in read:
            if one.job.failure is not None:
                raise one.job.failure
