"""Mining: which training images the model predicts right, and as which class it takes the others.

Every training image is scored once with deterministic preprocessing, by plain cosine to the class weights:
never by the training head, whose scale and margin depend on the batch.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cfcd.errors import TrainingError
from cfcd.files import atomic_write

Integers = NDArray[np.int64]
ScoredBatch = tuple[ArrayLike, ArrayLike]

_OVERHEAD = 1 << 16  # bytes of an unpacked cache file beyond its two arrays, generously


@dataclass(frozen=True)
class Mined:
    """Hold the prediction for every training image.

    Attributes:
        labels: (N,) true class of every image.
        predicted: (N,) class whose weight has the largest cosine.
        identity: What made them: see `mining_identity`.

    Raises:
        TrainingError: The arrays are not two rows of N whole numbers.
    """

    labels: Integers
    predicted: Integers
    identity: str

    def __post_init__(self) -> None:
        for name in ("labels", "predicted"):
            values = np.array(getattr(self, name))
            if values.shape != (len(self.labels),) or values.dtype != np.int64:
                raise TrainingError(
                    f"Labels of shape {self.labels.shape} and predictions of shape {self.predicted.shape} "
                    f"({self.predicted.dtype}) do not belong together.",
                    "Give one int64 class number per image for both.",
                )
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Tell for every image, (N,), whether it was predicted as its own class."""
        return np.equal(self.labels, self.predicted)

    @property
    def accuracy(self) -> float:
        """Give the share of images that were predicted right, NaN without images."""
        return float(self.right.mean()) if len(self.labels) else float("nan")

    def tp_fp(self, label: int) -> tuple[Integers, Integers]:
        """List the images predicted as this class: those of it (TP_c), and those of other classes (FP_c)."""
        of_class = np.flatnonzero(self.predicted == label)
        right = self.labels[of_class] == label
        return of_class[right], of_class[~right]


def mine(labels: ArrayLike, batches: Iterable[ScoredBatch], *, identity: str = "") -> Mined:
    """Collect the predictions of one scoring pass.

    Args:
        labels: (N,) class of every image; class j is column j of the cosines.
        batches: (images, scores) in any order, every image exactly once: images (B,) are numbers from 0 to
            N - 1; scores are cosines (B, C) to the class weights, or predicted classes (B,), whole numbers.
        identity: What made them: see `mining_identity`.

    Raises:
        TrainingError: Images are missing, repeated or unknown, or a score is no number.
    """
    truth = np.array(labels, np.int64)
    predicted = np.zeros(len(truth), np.int64)
    times = np.zeros(len(truth), np.int64)
    for images, scores in batches:
        rows, classes = np.asarray(images), _classes(np.asarray(scores))
        if rows.shape != classes.shape or (rows.size and not 0 <= rows.min() <= rows.max() < len(truth)):
            raise TrainingError(
                f"A batch scores {rows.size} images as {classes.size} classes, or images outside 0 to "
                f"{len(truth) - 1}.",
                "Give every batch its own image numbers.",
            )
        predicted[rows] = classes
        np.add.at(times, rows, 1)
    if (times != 1).any():
        odd = np.flatnonzero(times != 1)
        raise TrainingError(
            f"{len(odd)} of {len(truth)} images were not scored exactly once; the first is image {odd[0]}, "
            f"scored {times[odd[0]]} times.",
            "Score the whole data set once, without shuffling copies or padding the last batch.",
        )
    return Mined(truth, predicted, identity)


def mining_identity(model_identity: str, catalog_identity: str) -> str:
    """Hash the identities of a model and a catalog into one, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps([model_identity, catalog_identity]).encode()).hexdigest()


def save_mined(path: Path, mined: Mined) -> None:
    """Write a cache file that is whole or absent."""
    with atomic_write(path) as file:
        np.savez(file, labels=mined.labels, predicted=mined.predicted, identity=np.array(mined.identity))


def load_mined(path: Path, labels: ArrayLike, identity: str) -> Mined | None:
    """Read a cache file, or give None if it is absent, damaged, or of another identity or other labels."""
    truth = np.array(labels, np.int64)
    try:
        with zipfile.ZipFile(path) as members:
            if sum(member.file_size for member in members.infolist()) > 2 * truth.nbytes + _OVERHEAD:
                return None
        with np.load(path, allow_pickle=False) as arrays:
            if arrays["identity"].item() != identity or not np.array_equal(arrays["labels"], truth):
                return None
            return Mined(truth, arrays["predicted"], identity)
    except Exception:  # zip, zlib, numpy and the checks raise many kinds; a cache can always be made again
        return None


def should_mine(epoch: int, every: int) -> bool:
    """Tell whether to mine before this epoch of the fine phase, 0 first; `every` 0: only before its first."""
    return epoch == 0 or (every > 0 and epoch % every == 0)


def _classes(scores: NDArray[np.generic]) -> Integers:
    if scores.ndim == 1 and np.issubdtype(scores.dtype, np.integer):
        return scores.astype(np.int64)
    if scores.ndim != 2 or not np.issubdtype(scores.dtype, np.floating) or not scores.shape[1]:
        raise TrainingError(
            f"Scores are an array of shape {scores.shape} and type {scores.dtype}.",
            "Give cosines (images, classes) or predicted class numbers (images,).",
        )
    best: Integers = scores.argmax(axis=1).astype(np.int64)  # argmax finds a NaN before any number
    if np.isnan(np.take_along_axis(scores, best[:, None], axis=1)).any():
        raise TrainingError("A cosine is not a number.", "Check that the coarse phase did not diverge.")
    return best
