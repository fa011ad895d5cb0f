"""Random crops of a training set, step by step, decoded ahead in threads; no picture is kept."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cfcd.encoding.encoder import Reading
from cfcd.errors import PictureError, TrainingError
from cfcd.training.augment import crop_long_side, crop_random, random_crop
from cfcd.training.batches import decode_ahead, read_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.training.data import TrainingSet
    from cfcd.training.recipe import AugmentRecipe

_STEPS_AHEAD = 3


@dataclass(frozen=True, eq=False)
class Crops:
    """Hold the random crops of one training step.

    Attributes:
        pixels: (B, size, size, 3) uint8 RGB.
        images: (B,) the images they come from; another than asked for where that was unreadable.
        labels: (B,) class numbers.
    """

    pixels: NDArray[np.uint8]
    images: NDArray[np.int64]
    labels: NDArray[np.int64]


class CropLoader:
    """Read random crops of a training set, the same ones for the same seed, epoch and slots.

    An image that cannot be read gives way to the next of its class that can, in the order of the rows,
    beginning anew after the last.

    Args:
        training_set: What is trained on.
        settings: How crops are drawn.
        seed: Of the run.
        workers: Threads that decode; None: one per core.
        reading: How pictures are read.

    Attributes:
        unreadable: Image -> reason, of those met in the crops given out so far.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        settings: AugmentRecipe,
        *,
        seed: int,
        workers: int | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.unreadable: dict[int, str] = {}
        self._set = training_set
        self._settings = settings
        self._seed = seed
        self._workers = workers
        self._reading = reading or Reading()
        self._long_side = crop_long_side(settings)
        # The images of class c, in the order of the rows: _by_class[_starts[c] : _starts[c + 1]].
        self._by_class = np.argsort(training_set.labels, kind="stable")
        classes = np.arange(len(training_set.classes) + 1)
        self._starts = np.searchsorted(training_set.labels[self._by_class], classes)

    def stream(self, epoch: int, images: NDArray[np.int64], slots: NDArray[np.int64]) -> Generator[Crops]:
        """Read the crops of an epoch, step by step, about three steps ahead.

        Args:
            epoch: Number of the epoch.
            images: (S, B) images of the S steps.
            slots: (S, B) number of each crop within the epoch, over all processes; with seed and epoch it
                decides what the crop shows.

        Raises:
            TrainingError: No image of a class can be read.
        """
        steps = zip(images, slots, strict=True)
        jobs = (job for step in steps for job in zip(step[0].tolist(), step[1].tolist(), strict=True))
        batch = images.shape[1]

        def decode(job: tuple[int, int]) -> _Crop:
            image, slot = job
            return self._crop(image, epoch, slot)

        with closing(
            decode_ahead(jobs, decode, ahead=_STEPS_AHEAD * batch, workers=self._workers)
        ) as decoded:
            for _ in range(len(images)):
                crops = list(islice(decoded, batch))
                # Here and not where they are met: what is known after a step depends on no thread's speed.
                for crop in crops:
                    self.unreadable.update(crop.failed)
                used = np.array([crop.image for crop in crops], np.int64)
                yield Crops(np.stack([crop.pixels for crop in crops]), used, self._set.labels[used])

    def _crop(self, image: int, epoch: int, slot: int) -> _Crop:
        failed: dict[int, str] = {}
        for candidate in self._candidates(image):
            if candidate in self.unreadable:
                continue
            try:
                picture = read_row(self._set.catalog, candidate, self._long_side, self._reading)
            except PictureError as error:
                failed[candidate] = error.what
                continue
            random = crop_random(self._seed, epoch, slot)
            return _Crop(random_crop(picture, self._settings, random), candidate, failed)
        reason = failed.get(image) or self.unreadable[image]
        raise TrainingError(
            f"No image of class {self._set.classes[self._set.labels[image]]!r} can be read. {reason}",
            "Run `cfcd check` on the collection, then mend its pictures or take out their labels.",
        )

    def _candidates(self, image: int) -> Iterator[int]:
        """Give the image, then those of its class behind it, then those before it."""
        yield image
        label = self._set.labels[image]
        same = self._by_class[self._starts[label] : self._starts[label + 1]]
        place = int(np.searchsorted(same, image))
        yield from np.roll(same, -place)[1:].tolist()


class _Crop(NamedTuple):
    pixels: NDArray[np.uint8]
    image: int
    failed: dict[int, str]
