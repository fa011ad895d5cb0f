"""Decoded pictures on their way through a device, in batches of equal shape."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from cfcd.encoding.runtimes import Runtime
from cfcd.errors import PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Job = TypeVar("Job")


@dataclass
class Pending(Generic[Job]):
    """Hold a picture on its way: pixels per scale, then its row in the batch that each scale went with."""

    job: Job
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    error: PictureError | None = None
    rows: list[tuple[Future[NDArray[np.float32]], int]] = field(default_factory=list)


def start(runtime: Runtime, pictures: list[Pending[Job]]) -> None:
    """Submit every scale of every picture, equal shapes together: changing shape costs the device time."""
    entries = [(pixels, picture) for picture in pictures for pixels in picture.pixels]
    entries.sort(key=lambda entry: entry[0].shape)
    for _, same in groupby(entries, key=lambda entry: entry[0].shape):
        while part := list(islice(same, runtime.batch)):
            stack = part[0][0][None] if len(part) == 1 else np.stack([pixels for pixels, _ in part])
            running = runtime.submit(stack)
            for row, (_, picture) in enumerate(part):
                picture.rows.append((running, row))
    for picture in pictures:
        picture.pixels.clear()


def finished(picture: Pending[Job]) -> tuple[Job, NDArray[np.float32] | PictureError]:
    """Wait for every scale; the descriptor is their normalised mean (METHOD section 6)."""
    if picture.error is not None:
        return picture.job, picture.error
    scales = [running.result()[row] for running, row in picture.rows]
    if len(scales) == 1:
        return picture.job, scales[0]
    mean: NDArray[np.float32] = np.mean(scales, axis=0, dtype=np.float32)
    return picture.job, mean / np.float32(np.linalg.norm(mean))
