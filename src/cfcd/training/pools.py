"""Pools of unused images: drawing, using up and refilling, each in constant time per image."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Bags:
    """Keep bags of things laid end to end in one array; the unused ones of a bag come first.

    Using a thing up swaps it with the last unused one of its bag, so nothing is ever lost and refilling
    a bag is setting its count back.

    Args:
        things: The things of bag 0, then those of bag 1, ...
        sizes: (B,) how many things are in each bag.
        n_things: Things are numbers below this; most may be in no bag.
    """

    __slots__ = ("full", "left", "place", "start", "things")

    def __init__(self, things: Integers, sizes: Integers, n_things: int) -> None:
        place = np.zeros(n_things, np.int64)
        place[things] = np.arange(len(things))
        self.things = compact(things)
        self.place = compact(place)
        self.full = compact(sizes)
        self.left = self.full[:]
        self.start = compact(np.cumsum(sizes) - sizes)

    def use(self, bag: int, thing: int) -> None:
        """Take an unused thing out of its bag."""
        things, place, left = self.things, self.place, self.left
        count = left[bag] - 1
        left[bag] = count
        last = self.start[bag] + count
        here = place[thing]
        other = things[last]
        things[here] = other
        place[other] = here
        things[last] = thing
        place[thing] = last

    def refill(self, bag: int) -> None:
        """Count every thing of the bag as unused again."""
        self.left[bag] = self.full[bag]


class Pools:
    """Know which images, and which classes, can still be drawn in this pass over the data.

    Images and classes are numbered 0, 1, ... by the caller; images of a class are neighbours, those that
    were predicted right before those that were predicted wrong.

    Args:
        bag_of: (N,) twice the class of an image, plus one if it was predicted wrong; ascending.
        predicted: (N,) the predicted class, `n_classes` for one that has no image.
        n_classes: How many classes have images.
        random: Draws uniformly from [0, 1).
    """

    def __init__(
        self, bag_of: Integers, predicted: Integers, n_classes: int, random: Callable[[], float]
    ) -> None:
        n_images = len(bag_of)
        wrong = np.flatnonzero(bag_of & 1)
        by_predicted = wrong[np.argsort(predicted[wrong], kind="stable")]
        sizes = np.bincount(bag_of >> 1, minlength=n_classes + 1)  # the last is the class without images
        paired = np.flatnonzero(sizes >= 2)

        self.n_images = n_images
        self.n_unused = n_images
        self.bag_of = compact(bag_of)
        self.predicted = compact(predicted)
        self.images = Bags(np.arange(n_images), np.bincount(bag_of, minlength=2 * n_classes), n_images)
        self.mistaken = Bags(by_predicted, np.bincount(predicted[wrong], minlength=n_classes + 1), n_images)
        self.sizes = compact(sizes)
        self.unused = self.sizes[:]
        self.classes = Bags(np.arange(n_classes), np.array([n_classes]), n_classes)
        self.paired = Bags(paired, np.array([len(paired)]), n_classes)
        self.random = random

    def use(self, image: int) -> int:
        """Use up an unused image and give it back."""
        bag = self.bag_of[image]
        self.images.use(bag, image)
        if bag & 1:
            self.mistaken.use(self.predicted[image], image)
        label = bag >> 1
        left = self.unused[label] - 1
        self.unused[label] = left
        self.n_unused -= 1
        if left == 1:
            self.paired.use(0, label)
        elif left == 0:
            self.classes.use(0, label)
        return image

    def use_any(self, label: int) -> int:
        """Use up a random unused image of a class that has one."""
        images = self.images
        bag = 2 * label
        right = images.left[bag]
        drawn = int(self.random() * self.unused[label])
        if drawn < right:
            return self.use(images.things[images.start[bag] + drawn])
        return self.use(images.things[images.start[bag + 1] + drawn - right])

    def use_one_of(self, bags: Bags, bag: int) -> int:
        """Use up a random unused image of a bag that has one."""
        return self.use(bags.things[bags.start[bag] + int(self.random() * bags.left[bag])])

    def draw_class(self) -> int:
        """Draw a class with at least two unused images; there must be one."""
        return self.paired.things[int(self.random() * self.paired.left[0])]

    def draw_other_classes(self, label: int, wanted: int) -> list[int]:
        """Draw distinct classes with an unused image, other than this one: as many as wanted, or all."""
        classes, count, random = self.classes.things, self.classes.left[0], self.random
        wanted = min(wanted, count - (self.unused[label] > 0))
        drawn: list[int] = []
        while len(drawn) < wanted:  # few are wanted, so few draws are in vain even when all classes are
            other = classes[int(random() * count)]
            if other != label and other not in drawn:
                drawn.append(other)
        return drawn

    def refill(self, used: Sequence[int]) -> None:
        """Make all images unused again; `used` names those that are not."""
        if len(used) < self.n_images // 8:
            for image in used:
                bag = self.bag_of[image]
                self.images.refill(bag)
                if bag & 1:
                    self.mistaken.refill(self.predicted[image])
                self.unused[bag >> 1] = self.sizes[bag >> 1]
        else:
            self.images.left = self.images.full[:]
            self.mistaken.left = self.mistaken.full[:]
            self.unused = self.sizes[:]
        self.n_unused = self.n_images
        self.classes.refill(0)
        self.paired.refill(0)


def compact(values: Integers) -> array[int]:
    """Copy numbers below 2^31 into an array: at a million, twice as fast as a list, in a tenth of it."""
    return array("i", values.astype(np.intc).tobytes())
