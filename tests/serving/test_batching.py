from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cfcd.encoding import load_model
from cfcd.encoding.encoder import Reading
from cfcd.errors import UnreadablePicture
from cfcd.serving.batching import Encoding, Gate
from cfcd.serving.errors import Overloaded
from cfcd.serving.queries import QueryPicture
from tests.serving.service_support import photo_bytes, small_encoder


class _Device:
    """Gives the mean colour of each picture; waits and fails when told to."""

    batch = 4
    device = "test"
    precision = "fp32"

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()
        self.failure: Exception | None = None

    def submit(self, pixels: np.ndarray) -> Future[np.ndarray]:
        self.busy.set()
        assert self.free.wait(30)
        if self.failure is not None:
            raise self.failure
        self.sizes.append(len(pixels))
        future: Future[np.ndarray] = Future()
        future.set_result(pixels.mean(axis=(1, 2)).astype(np.float32))
        return future


def _encoding(device: _Device, **options: Any) -> Encoding:
    fake: Any = SimpleNamespace(runtime=device, model=small_encoder().model, reading=Reading())
    return Encoding(fake, **options)


def _wait_for(condition: Any) -> None:
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")


def test_descriptors_are_those_of_the_encoder() -> None:
    encoder = load_model(precision="fp32", long_side=96, scales=(0.7071, 1.0))
    encoding = Encoding(encoder)
    pictures = [QueryPicture(photo_bytes(1)), QueryPicture(photo_bytes(2), (5, 5, 60, 50))]
    vectors, read_s, encode_s = encoding.vectors(pictures)
    expected = [encoder.encode(one.data, box=one.box)[0] for one in pictures]
    np.testing.assert_array_equal(np.stack(vectors), np.stack(expected))
    assert read_s > 0
    assert encode_s > 0
    assert encoding.vectors([]) == ([], 0.0, 0.0)


def test_descriptors_of_many_threads_are_their_own() -> None:
    encoder = small_encoder()
    encoding = Encoding(encoder, workers=4)
    data = [photo_bytes(seed) for seed in range(6)]
    expected = [encoder.encode(one)[0] for one in data]

    def ask(at: int) -> bool:
        vectors, _, _ = encoding.vectors([QueryPicture(data[at % 6])])
        return np.array_equal(vectors[0], expected[at % 6])

    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(ask, range(60)))
    assert encoding.waiting == 0


def test_what_waits_for_the_device_goes_in_one_batch() -> None:
    device = _Device()
    encoding = _encoding(device, workers=8)
    device.free.clear()
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(encoding.vectors, [QueryPicture(photo_bytes(0))])
        assert device.busy.wait(30)
        others = [threads.submit(encoding.vectors, [QueryPicture(photo_bytes(seed))]) for seed in range(1, 6)]
        _wait_for(lambda: len(encoding._waiting) == 5)
        device.free.set()
        found = [one.result(30)[0][0] for one in (first, *others)]
    assert device.sizes == [1, 4, 1]  # its batches hold four
    expected = [_encoding(_Device()).vectors([QueryPicture(photo_bytes(seed))])[0][0] for seed in range(6)]
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_a_device_that_fails_fails_every_picture_of_its_batch_and_no_other() -> None:
    device = _Device()
    encoding = _encoding(device, workers=8)
    device.free.clear()
    device.failure = RuntimeError("out of memory")
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(encoding.vectors, [QueryPicture(photo_bytes(seed))]) for seed in range(3)]
        assert device.busy.wait(30)
        _wait_for(lambda: len(encoding._waiting) == 2)
        device.free.set()
        for one in asked:
            with pytest.raises(RuntimeError, match="out of memory"):
                one.result(30)
    device.failure = None
    assert len(encoding.vectors([QueryPicture(photo_bytes(1))])[0]) == 1


def test_a_picture_that_cannot_be_read_gives_its_place_back() -> None:
    encoding = Encoding(small_encoder(), workers=1, max_waiting=0)
    for _ in range(3):
        with pytest.raises(UnreadablePicture):
            encoding.vectors([QueryPicture(b"no picture")])
    assert len(encoding.vectors([QueryPicture(photo_bytes(1))])[0]) == 1


def test_the_gate_lets_in_some_lets_wait_some_and_refuses_the_rest() -> None:
    gate = Gate(2, 3)
    inside, go = threading.Semaphore(0), threading.Event()

    def pass_through() -> None:
        with gate.passing():
            inside.release()
            assert go.wait(30)

    with ThreadPoolExecutor(5) as threads:
        asked = [threads.submit(pass_through) for _ in range(5)]
        _wait_for(lambda: gate.waiting == 3)
        with pytest.raises(Overloaded), gate.passing():
            pass
        assert inside.acquire(timeout=30)
        assert inside.acquire(timeout=30)
        assert not inside.acquire(blocking=False)
        go.set()
        for one in asked:
            one.result(30)
    assert gate.waiting == 0
    with gate.passing():
        pass
