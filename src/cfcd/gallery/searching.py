"""The searches of a gallery: by picture, by id and by descriptor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.encoder import Encoder
from cfcd.errors import GalleryError, UsageError
from cfcd.gallery.hit import Hit
from cfcd.gallery.index import ExactIndex
from cfcd.gallery.rows import StoredItem
from cfcd.gallery.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Box
    from cfcd.pictures import PictureSource


class Searching:
    """The part of `Gallery` that finds items; the other part provides these attributes."""

    name: str
    dim: int
    _store: Store

    if TYPE_CHECKING:

        @property
        def encoder(self) -> Encoder: ...  # noqa: D102

        @property
        def _index(self) -> ExactIndex: ...

    def search(self, picture: PictureSource, k: int = 10, *, box: Box | None = None) -> list[Hit]:
        """Find the items most like a picture, or like the part of it within a box.

        Args:
            picture: A path, bytes, an open file, a Pillow image or an (H, W, C) array.
            k: At most this many hits.
            box: (x1, y1, x2, y2) in pixels of the upright picture.

        Raises:
            PictureError: The picture cannot be read.
        """
        return self.search_vector(self.encoder.encode(picture, box=box)[0], k)

    def search_id(self, item_id: str, k: int = 10) -> list[Hit]:
        """Find the items most like an item of the gallery, which is left out itself.

        Raises:
            GalleryError: No item has this id.
        """
        with self._store.reading():
            stored = self._find(item_id)
            return self._hits(self._store.descriptor(stored.number), k, without=stored.number)

    def search_vector(self, vector: NDArray[np.float32], k: int = 10) -> list[Hit]:
        """Find the items most like a descriptor, (D,) numbers of any length; it is normalised first.

        Raises:
            UsageError: The vector has another dimension, a value that is no number, or length zero.
        """
        vector = np.asarray(vector, np.float32)
        if vector.shape != (self.dim,):
            raise UsageError(
                f"The query vector has shape {vector.shape}.", f"This gallery needs ({self.dim},) numbers."
            )
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0:
            raise UsageError(
                "The query vector is zero or not finite.", "Give a descriptor of this gallery's model."
            )
        with self._store.reading():
            return self._hits(vector / length, k)

    def _hits(self, vector: NDArray[np.float32], k: int, without: int | None = None) -> list[Hit]:
        if k < 1:
            raise UsageError(f"k is {k}.", "Ask for at least one hit.")
        self._index.catch_up(self._store)
        numbers, scores = self._index.search(vector[None], k + (without is not None))[0]
        keep = numbers != without
        numbers, scores = numbers[keep][:k], scores[keep][:k]
        rows = self._store.by_number([int(number) for number in numbers])
        return [
            Hit(rank, rows[int(number)].item.id, float(score), None, rows[int(number)].item)
            for rank, (number, score) in enumerate(zip(numbers, scores, strict=True), start=1)
        ]

    def find(self, item_id: str) -> Item:
        """Find an item by id.

        Raises:
            GalleryError: No item has this id.
        """
        return self._find(item_id).item

    def _find(self, item_id: str) -> StoredItem:
        stored = self._store.find(item_id)
        if stored is None:
            raise GalleryError(
                f"{self.name} holds no item {item_id!r}.",
                "Ids are paths relative to the indexed folder, unless its catalog has a column id.",
            )
        return stored
