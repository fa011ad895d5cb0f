"""The encoder: a model made ready to turn pictures into descriptors on a device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from cfcd.encoding.batches import Pending, finished, start
from cfcd.encoding.preprocess import to_pixels, wanted_long_side
from cfcd.encoding.runtimes import PRECISIONS, Runtime, choose_runtime
from cfcd.errors import PictureError, UsageError
from cfcd.model import ModelFolder, find_model
from cfcd.pictures import PictureLimits, PictureSource, load_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Box
    from cfcd.model import Preprocessing

# Pixels held decoded ahead of the device; the more pictures, the fewer changes of shape after sorting.
_AHEAD_BYTES = 64 << 20
_AHEAD_PICTURES = range(8, 129)

Job = TypeVar("Job")


@dataclass(frozen=True)
class Reading:
    """How pictures are read: limits, and whether a truncated file is decoded as far as it goes."""

    allow_truncated: bool = False
    limits: PictureLimits = field(default_factory=PictureLimits)

    def load(
        self, source: PictureSource, *, box: Box | None = None, long_side: int | None = None
    ) -> Image.Image:
        """Load a picture as `load_picture` does, in this way.

        Raises:
            PictureError: It cannot be read, or nothing of it lies in the box.
        """
        return load_picture(
            source,
            box=box,
            long_side=long_side,
            allow_truncated=self.allow_truncated,
            limits=self.limits,
        )


class Encoder:
    """Turn pictures into unit descriptors with one model on one device.

    The network is loaded on first use, so that making an encoder and asking for its identity is cheap.

    Args:
        model: The model folder.
        device: "auto", "cpu" (OpenVINO), "torch-cpu", "cuda" or "cuda:N".
        precision: "auto" (bf16 where the device has it), "bf16" or "fp32".
        reading: How pictures are read.
    """

    def __init__(
        self,
        model: ModelFolder,
        device: str = "auto",
        precision: str = "auto",
        reading: Reading | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(
                f"The precision {precision!r} is unknown.", f"Use one of {', '.join(PRECISIONS)}."
            )
        self.model = model
        self.reading = reading or Reading()
        self._device = device
        self._precision = precision

    @property
    def identity(self) -> str:
        """Give the model's identity: a hash over weights and preprocessing."""
        return self.model.identity

    @property
    def dim(self) -> int:
        """Give the number of components of a descriptor."""
        return self.model.dim

    @property
    def options(self) -> tuple[str, str]:
        """Give the device and precision that were asked for, to make the same encoder elsewhere."""
        return self._device, self._precision

    @cached_property
    def runtime(self) -> Runtime:
        """Load the network on its device."""
        return choose_runtime(self.model, self._device, self._precision)

    def encode(
        self, pictures: PictureSource | Sequence[PictureSource], *, box: Box | None = None
    ) -> NDArray[np.float32]:
        """Encode one picture or many.

        Args:
            pictures: A path, bytes, an open file, a Pillow image, an (H, W[, C]) array, a list of
                these, or an (N, H, W, C) array.
            box: (x1, y1, x2, y2) in pixels of the upright picture: encode that part only, of every picture.

        Returns:
            (N, D) float32, unit rows; N is 1 for one picture.

        Raises:
            PictureError: A picture cannot be read.
        """
        sources = _as_list(pictures)
        out = np.zeros((len(sources), self.dim), np.float32)
        side = wanted_long_side(self.model.config.preprocessing)

        def load(job: tuple[int, PictureSource]) -> Image.Image:
            return self.reading.load(job[1], box=box, long_side=side)

        for (row, _), result in self.stream(enumerate(sources), load):
            if isinstance(result, PictureError):
                raise result
            out[row] = result
        return out

    def stream(
        self, jobs: Iterable[Job], load: Callable[[Job], Image.Image]
    ) -> Iterator[tuple[Job, NDArray[np.float32] | PictureError]]:
        """Encode any number of pictures in bounded memory, decoding while the network runs.

        Args:
            jobs: Anything that `load` can turn into a picture.
            load: Gives the RGB picture of a job; runs in several threads.

        Yields:
            (job, (D,) float32 unit descriptor or the error of that picture), in the order of `jobs`.
        """
        jobs = iter(jobs)
        first = list(islice(jobs, 1))
        if not first:
            return  # without loading the network
        jobs = chain(first, jobs)
        runtime = self.runtime

        def prepare(job: Job) -> Pending[Job]:
            try:
                picture = load(job)
            except PictureError as error:
                return Pending(job, error=error)
            preprocessing = self.model.config.preprocessing
            return Pending(job, [to_pixels(picture, preprocessing, scale) for scale in preprocessing.scales])

        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
            count = _pictures_ahead(self.model.config.preprocessing)

            def ahead() -> list[Future[Pending[Job]]]:
                return [pool.submit(prepare, job) for job in islice(jobs, count)]

            on_device: list[Pending[Job]] = []
            decoding = ahead()
            try:
                while decoding:
                    following = ahead()
                    started = [future.result() for future in decoding]
                    start(runtime, started)
                    # The pictures before these ran meanwhile: the device never waits for the caller.
                    yield from map(finished, on_device)
                    on_device, decoding = started, following
                yield from map(finished, on_device)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _pictures_ahead(preprocessing: Preprocessing) -> int:
    """Compute how many pictures are decoded while those before them are on the device."""
    side = preprocessing.long_side or 1024
    size = 3 * sum((side * scale) ** 2 for scale in preprocessing.scales)
    return int(min(max(_AHEAD_BYTES // size, _AHEAD_PICTURES[0]), _AHEAD_PICTURES[-1]))


def _as_list(pictures: PictureSource | Sequence[PictureSource]) -> list[PictureSource]:
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        return list(pictures)
    if isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes):
        return list(pictures)
    return [pictures]


def load_model(
    model: str | Path | ModelFolder = "imagenet-lite0",
    *,
    device: str = "auto",
    precision: str = "auto",
    long_side: int | None = None,
    scales: Sequence[float] | None = None,
    reading: Reading | None = None,
) -> Encoder:
    """Load a model, ready to encode.

    Args:
        model: A built-in name ("imagenet-lite0") or a model folder.
        device: "auto", "cpu", "torch-cpu", "cuda" or "cuda:N".
        precision: "auto", "bf16" or "fp32".
        long_side: Limit of the long side in pixels, instead of the model's own.
        scales: Scales whose descriptors are averaged, instead of the model's own.
        reading: How pictures are read.

    Raises:
        ModelError: The model cannot be found or read.
        UsageError: An option is out of range.
    """
    folder = model if isinstance(model, ModelFolder) else find_model(model)
    return Encoder(adjust_model(folder, long_side, scales), device, precision, reading)


def adjust_model(model: ModelFolder, long_side: int | None, scales: Sequence[float] | None) -> ModelFolder:
    """Give the model with another size limit (pixels) or other scales; None keeps its own."""
    if long_side is not None:
        model = model.with_preprocessing(long_side=long_side)
    return model if scales is None else model.with_preprocessing(scales=tuple(scales))
