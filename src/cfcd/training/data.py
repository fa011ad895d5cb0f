"""What is trained on: the labelled rows of a catalog, and their classes as numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cfcd.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cfcd.catalog import Catalog

_NAMED = 5
_HELD_OUT = {"test", "val", "valid", "validation", "query"}
"""Splits that are never trained on for want of others."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Hold N images to train on.

    Attributes:
        catalog: Their rows, and no others.
        labels: (N,) number of every image's class, its place in `classes`.
        classes: Names of the classes, sorted; each has an image.
    """

    catalog: Catalog
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    @cached_property
    def identity(self) -> str:
        """Give a sha256 in hex over the images and their labels, see `Catalog.identity`."""
        return self.catalog.identity()

    @classmethod
    def from_catalog(cls, catalog: Catalog) -> TrainingSet:
        """Choose the rows to train on.

        Where a split is named "train" (in any case), its rows; else, where the catalog has a query and a
        gallery side, the gallery without the queries; else all rows; of these the ones with a label.

        Raises:
            TrainingError: No such row has a label, or all have the same; or a split is named test, val or
                query and none says what to train on.
            CatalogError: is_query and is_gallery leave one side empty.
        """
        labels = catalog.labels
        if labels is None or not catalog.has_labels:
            raise TrainingError(
                f"{catalog.source} has no labels.",
                "Give a folder with a sub-folder per class, or a table with a column `label`.",
            )
        rows, what = _rows(catalog)
        if not rows:
            raise TrainingError(
                f"{catalog.source} has no {what}.", 'Give the images to train on the split "train".'
            )
        labelled = [row for row in rows if labels[row] is not None]
        names = [name for row in rows if (name := labels[row]) is not None]
        classes = tuple(sorted(set(names)))
        if len(classes) < 2:
            found = f"one class only, {classes[0]!r} ({len(names)} images)" if classes else "no label"
            raise TrainingError(
                f"The {len(rows)} {what} of {catalog.source} have {found}.",
                "Label images of two classes or more.",
            )
        numbers = {name: number for number, name in enumerate(classes)}
        return cls(catalog.select(labelled), _frozen([numbers[name] for name in names]), classes)

    def without(self, rows: Iterable[int]) -> TrainingSet:
        """Leave out images, such as those that cannot be read; classes keep their numbers.

        Args:
            rows: Their numbers, 0 to N - 1.

        Raises:
            TrainingError: A class has no image left.
        """
        keep = np.ones(len(self), np.bool_)
        keep[list(rows)] = False
        labels = self.labels[keep]
        lost = np.flatnonzero(np.bincount(labels, minlength=len(self.classes)) == 0)
        if len(lost):
            names = ", ".join(repr(self.classes[number]) for number in lost[:_NAMED])
            more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
            raise TrainingError(
                f"{len(lost)} of {len(self.classes)} classes have no readable image: {names}{more}.",
                "Run `cfcd check` on the collection, then mend those pictures or take out their labels.",
            )
        return TrainingSet(self.catalog.select(np.flatnonzero(keep).tolist()), _frozen(labels), self.classes)


def _rows(catalog: Catalog) -> tuple[list[int], str]:
    """Choose the rows to train on, whatever their labels, and say what they are."""
    splits = () if catalog.splits is None else catalog.splits
    train = {split for split in set(splits) if split is not None and split.strip().lower() == "train"}
    if train:
        return [row for row, split in enumerate(splits) if split in train], 'images of split "train"'
    sides = catalog.query_gallery()
    if sides is None:
        held_out = sorted(split for split in set(splits) if split and split.strip().lower() in _HELD_OUT)
        if held_out:
            raise TrainingError(
                f'{catalog.source} has images of split "{held_out[0]}" but none of split "train".',
                'Give the images to train on the split "train".',
            )
        return list(range(len(catalog))), "images"
    queries = set(sides[0])
    return [row for row in sides[1] if row not in queries], "images of the gallery that are no queries"


def _frozen(labels: ArrayLike) -> NDArray[np.int64]:
    numbers = np.array(labels, np.int64)
    numbers.flags.writeable = False
    return numbers
