"""Hard-negative tuples: anchor, positive, and negatives that the model confused with the anchor's class.

The rules are those of section 4 of the CFCD method (Zhu et al., ICCV 2023), with c the anchor's class, c' the
class predicted for the anchor, TP_c the images of c predicted as c, and FP_c the images of other classes
predicted as c:

1. c is uniform over the classes with two unused images or more; the anchor is a random unused image of c.
2. Anchor predicted right: the positive is a random unused image of c; each negative slot takes an unused
   image of FP_c with probability 1/2.
3. Anchor predicted wrong: the positive comes from TP_c if an unused one is there, else from c; each slot
   takes one of FP_c with probability 1/3, else one of c' with probability 1/2 (so a third stays empty).
4. Slots that stay empty, by chance or because their pool is, take one random unused image each from distinct
   random other classes; where fewer other classes are left than slots, every one gives a second, and so on.
5. An image is used once per pass. A pass ends when no class has two unused images, or the class drawn has
   too few unused images outside it; then everything is unused again and a class is drawn anew.
6. Where the data set itself has fewer images outside c than slots, those of the tuple are repeated in turn.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cfcd.errors import TrainingError
from cfcd.training.pools import Pools

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class EpochTuples:
    """Hold the tuples of one epoch.

    Attributes:
        images: (T, tuple_size) image numbers: anchor, positive, negatives.
        passes: (T,) number of the pass each tuple belongs to, 0 first; within a pass no image comes twice,
            but for the repeated negatives of rule 6.
    """

    images: Integers
    passes: Integers


class TupleSampler:
    """Draw epochs of tuples, linear in the data set, the same ones for the same seed and epoch.

    Args:
        labels: (N,) class of every image, any whole numbers.
        predicted: (N,) class that the model gives every image, in the same numbers (one that no image has is
            just wrong); the labels themselves give tuples without hard negatives.
        seed: Whole number that, with the epoch, decides everything.
        tuple_size: Images per tuple, 8 in the paper: an anchor, a positive and six negatives.

    Raises:
        TrainingError: The arrays do not fit, there is only one class, or no class has two images.
    """

    def __init__(
        self, labels: ArrayLike, predicted: ArrayLike, *, seed: int = 0, tuple_size: int = 8
    ) -> None:
        truth, guess = _whole_numbers(labels, "labels"), _whole_numbers(predicted, "predicted classes")
        if len(truth) != len(guess):
            raise TrainingError(
                f"There are {len(truth)} labels but {len(guess)} predicted classes.",
                "Mine the same images that are to be trained on.",
            )
        if tuple_size < 3:
            raise TrainingError(
                f"Tuples of {tuple_size} images have no negative.", "Use tuples of 3 images or more."
            )
        names, classes, sizes = np.unique(truth, return_inverse=True, return_counts=True)
        if len(names) < 2:
            raise TrainingError(
                f"Tuples need images of two classes, but these {len(truth)} images have {len(names)}.",
                "Add images of other classes, or train without the fine phase.",
            )
        if sizes.max() < 2:
            raise TrainingError(
                f"Each of the {len(names)} classes has one image only, so no anchor has a positive.",
                "Add a second image to some classes, or train without the fine phase (fine.epochs=0).",
            )
        guessed = np.minimum(np.searchsorted(names, guess), len(names) - 1)
        guessed[names[guessed] != guess] = len(names)
        bags = 2 * classes.astype(np.int64) + (classes != guessed)
        self._order: Integers = np.argsort(bags, kind="stable")  # the pools' numbers -> image numbers
        self._bags: Integers = bags[self._order]
        self._guessed: Integers = guessed[self._order]
        self._n_classes = len(names)
        self.seed = seed
        self.tuple_size = tuple_size

    def epoch(self, epoch: int, processes: int = 1) -> EpochTuples:
        """Draw all tuples of an epoch, those of every process.

        Args:
            epoch: Number of the epoch.
            processes: The number of tuples is made a multiple of it.

        Returns:
            ceil(N / (processes x tuple_size)) x processes tuples; drawing for more processes only adds some
            at the end.
        """
        if processes < 1:
            raise TrainingError(f"There cannot be {processes} processes.", "Use 1 process or more.")
        n_images, size = len(self._order), self.tuple_size
        n_tuples = -(-n_images // (processes * size)) * processes
        random = Random(f"cfcd tuples {self.seed} {epoch}").random  # the same on every Python and machine
        pools = Pools(self._bags, self._guessed, self._n_classes, random)
        drawn = array("i")
        passes = np.zeros(n_tuples, np.int64)
        begin = 0  # of this pass, in drawn
        for number in range(n_tuples):
            label = _draw_class(pools, size - 2)
            if label < 0:
                pools.refill(drawn[begin:])
                begin = len(drawn)
                passes[number] = 1
                label = _draw_class(pools, size - 2)
            _draw_tuple(pools, label, size, drawn)
        images = self._order[np.frombuffer(drawn, np.intc)].reshape(n_tuples, size)
        return EpochTuples(images, np.cumsum(passes))


def _whole_numbers(values: ArrayLike, name: str) -> Integers:
    array = np.asarray(values)
    if array.ndim != 1 or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise TrainingError(
            f"The {name} are a {array.ndim}-dimensional array of {array.dtype}.",
            "Give one whole number per image.",
        )
    return array.astype(np.int64)


def _draw_class(pools: Pools, n_negatives: int) -> int:
    """Draw the class of the next tuple; -1 says that the pass is over."""
    if not pools.paired.left[0]:
        return -1
    label = pools.draw_class()
    needed = min(n_negatives, pools.n_images - pools.sizes[label])
    return label if pools.n_unused - pools.unused[label] >= needed else -1


def _draw_tuple(pools: Pools, label: int, size: int, drawn: array[int]) -> None:
    """Append a tuple of the class to those drawn, and use its images up."""
    begin, n_negatives = len(drawn), size - 2
    anchor = pools.use_any(label)
    drawn.append(anchor)
    if pools.bag_of[anchor] & 1:
        trues = pools.images.left[2 * label]
        drawn.append(pools.use_one_of(pools.images, 2 * label) if trues else pools.use_any(label))
        _draw_after_wrong(pools, label, pools.predicted[anchor], n_negatives, drawn)
    else:
        drawn.append(pools.use_any(label))
        _draw_after_right(pools, label, n_negatives, drawn)
    while empty := begin + size - len(drawn):
        others = pools.draw_other_classes(label, empty)
        if not others:
            negatives = drawn[begin + 2 :]
            drawn.extend(negatives[slot % len(negatives)] for slot in range(empty))
            break
        drawn.extend(pools.use_any(other) for other in others)


def _draw_after_right(pools: Pools, label: int, slots: int, drawn: array[int]) -> None:
    """Append the hard negatives of an anchor predicted right."""
    random, mistaken = pools.random, pools.mistaken
    for _ in range(slots):
        if random() < 1 / 2 and mistaken.left[label]:
            drawn.append(pools.use_one_of(mistaken, label))


def _draw_after_wrong(pools: Pools, label: int, confused: int, slots: int, drawn: array[int]) -> None:
    """Append the hard negatives of an anchor that was predicted as the class `confused`."""
    random, mistaken = pools.random, pools.mistaken
    for _ in range(slots):
        if random() < 1 / 3:
            if mistaken.left[label]:
                drawn.append(pools.use_one_of(mistaken, label))
        elif random() < 1 / 2 and pools.unused[confused]:
            drawn.append(pools.use_any(confused))
