"""Pictures decoded in threads ahead of the device, and batches of them as the encoder sees them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cfcd.encoding.encoder import Reading
from cfcd.encoding.preprocess import to_pixels, wanted_long_side
from cfcd.errors import PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from cfcd.catalog import Catalog
    from cfcd.model import Preprocessing

# Two windows of pictures are in memory at a time: one in use, one being decoded.
_WINDOW_BYTES = 256 << 20
_ORIGINAL_SIDE = 2048  # reckoned with where the model takes pictures at their original size

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class CleanBatch:
    """Hold b pictures of one shape as the encoder sees them: `rows` (b,), `pixels` (b, H, W, 3) uint8 RGB."""

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]


def clean_batches(
    catalog: Catalog,
    rows: Sequence[int] | NDArray[np.int64],
    preprocessing: Preprocessing,
    *,
    unreadable: dict[int, str],
    batch: int = 32,
    window: int = 256,
    process: int = 0,
    processes: int = 1,
    workers: int | None = None,
    reading: Reading | None = None,
) -> Generator[CleanBatch]:
    """Read pictures as the encoder does at scale 1, equal shapes together.

    The rows are cut into windows; window w is the work of process w modulo `processes`. Within a window,
    pictures are sorted by shape, then row. So the batches are the same for any number of processes.

    Args:
        catalog: Where the pictures lie, and their boxes.
        rows: Numbers of the catalog's rows.
        preprocessing: The model's.
        unreadable: Takes the reason for every row of this process that cannot be read.
        batch: Most pictures per batch.
        window: Pictures per window; fewer where they would take more than 256 MiB.
        process: Number of this process, 0 first.
        processes: How many share the work.
        workers: Threads that decode; None: one per core.
        reading: How pictures are read.
    """
    reading = reading or Reading()
    side = preprocessing.long_side or _ORIGINAL_SIDE
    window = max(min(window, _WINDOW_BYTES // (3 * side * side)), 1)
    windows = [rows[start : start + window] for start in range(0, len(rows), window)][process::processes]
    long_side = wanted_long_side(preprocessing)

    def decode(row: int) -> tuple[int, NDArray[np.uint8] | PictureError]:
        try:
            return row, to_pixels(read_row(catalog, row, long_side, reading), preprocessing, 1.0)
        except PictureError as error:
            return row, error

    jobs = (int(row) for part in windows for row in part)
    with closing(decode_ahead(jobs, decode, ahead=window, workers=workers)) as decoded:
        for part in windows:
            pictures: list[tuple[int, NDArray[np.uint8]]] = []
            for row, result in islice(decoded, len(part)):
                if isinstance(result, PictureError):
                    unreadable[row] = result.what
                else:
                    pictures.append((row, result))
            pictures.sort(key=lambda picture: (picture[1].shape, picture[0]))
            for _, same in groupby(pictures, key=lambda picture: picture[1].shape):
                while some := list(islice(same, batch)):
                    numbers = np.array([row for row, _ in some], np.int64)
                    yield CleanBatch(numbers, np.stack([pixels for _, pixels in some]))


def decode_ahead(
    jobs: Iterable[_Job], decode: Callable[[_Job], _Result], *, ahead: int, workers: int | None
) -> Generator[_Result]:
    """Decode in threads, in order, up to `ahead` jobs before the caller.

    Close it when something fails meanwhile: jobs that have not begun are then given up.

    Args:
        jobs: What to decode; taken from as results are.
        decode: Runs in the threads; what it raises is raised here, in its turn.
        ahead: Most results held or under way.
        workers: Threads; None: one per core.
    """
    jobs = iter(jobs)
    with ThreadPoolExecutor(workers or os.cpu_count(), thread_name_prefix="decode") as pool:
        try:
            pending = deque(pool.submit(decode, job) for job in islice(jobs, ahead))
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(decode, job) for job in islice(jobs, 1))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def read_row(catalog: Catalog, row: int, long_side: int | None, reading: Reading) -> Image.Image:
    """Load the picture of a catalog row, cut to its box.

    Args:
        catalog: Where the picture lies.
        row: Number of the row.
        long_side: As for `cfcd.pictures.load_picture`.
        reading: How pictures are read.

    Raises:
        PictureError: It cannot be read.
    """
    box = None if catalog.boxes is None else catalog.boxes[row]
    return reading.load(catalog.file(row), box=box, long_side=long_side)
