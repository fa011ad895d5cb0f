"""The searches of a gallery: by picture, by id and by descriptor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.encoder import Encoder
from cfcd.errors import GalleryError, UsageError
from cfcd.gallery.calibration.place import CalibrationFile, CalibrationPlace
from cfcd.gallery.calibration.thresholds import Calibration
from cfcd.gallery.hit import Hit
from cfcd.gallery.indexes.threads import one_thread
from cfcd.gallery.query import expand_query
from cfcd.gallery.selection import Chosen, Selection
from cfcd.gallery.truth.healing import healing
from cfcd.gallery.truth.rows import StoredItem
from cfcd.gallery.truth.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Box
    from cfcd.gallery.indexes.search_index import SearchIndex
    from cfcd.pictures import PictureSource


@dataclass(frozen=True)
class _Wish:
    """What a search asks for beside its query."""

    k: int
    selection: Selection | None = None
    expand: int = 0
    descriptors: bool = False
    verdicts: bool = True
    without: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k is {self.k}.", "Ask for at least one hit.")
        if self.expand < 0:
            raise UsageError(
                f"A query cannot be expanded by {self.expand} hits.", "Give 0 for none, or a few, such as 5."
            )


class Searching:
    """The part of `Gallery` that finds items; the other part provides these attributes.

    All searches take the same options:

    - `where`, `ids`, `labels`: Find only items that meet a condition such as `"city = 'Nice' and year >=
      1990"`, that have one of these ids, one of these labels. `where` may also be a `Selection`, which
      several searches can share.
    - `expand`: Move the query towards this many of its best hits before the search (alpha query expansion,
      see `cfcd.gallery.query.expand_query`). Verdicts then still go by the query as it was.
    - `descriptors`: Give every hit its descriptor.
    """

    folder: Path
    name: str
    dim: int
    identity: str
    _store: Store

    if TYPE_CHECKING:

        @property
        def encoder(self) -> Encoder: ...  # noqa: D102

        @property
        def _index(self) -> SearchIndex: ...

    def search(
        self,
        picture: PictureSource,
        k: int = 10,
        *,
        box: Box | None = None,
        where: str | Selection | None = None,
        ids: Iterable[str] | None = None,
        labels: Iterable[str] | None = None,
        expand: int = 0,
        descriptors: bool = False,
    ) -> list[Hit]:
        """Find the items most like a picture, or like the part of it within a box.

        Args:
            picture: A path, bytes, an open file, a Pillow image or an (H, W, C) array.
            k: At most this many hits.
            box: (x1, y1, x2, y2) in pixels of the upright picture.
            where: A condition on catalog columns, or a selection.
            ids: Find only these items.
            labels: Find only items with these labels.
            expand: Move the query towards this many of its best hits.
            descriptors: Give every hit its descriptor.

        Raises:
            PictureError: The picture cannot be read.
            UsageError: `where` is no condition, or names a column that no item has.
        """
        wish = _Wish(k, Selection.of(where, ids, labels), expand, descriptors)
        return self._answer(_unit(self.encoder.encode(picture, box=box)[0], self.dim), wish)

    @healing
    def _answer(self, vector: NDArray[np.float32], wish: _Wish) -> list[Hit]:
        with self._store.reading():
            return self._hits(vector, wish)

    @healing
    def search_id(
        self,
        item_id: str,
        k: int = 10,
        *,
        where: str | Selection | None = None,
        ids: Iterable[str] | None = None,
        labels: Iterable[str] | None = None,
        expand: int = 0,
        descriptors: bool = False,
    ) -> list[Hit]:
        """Find the items most like an item of the gallery, which is left out itself; options as `search`.

        Raises:
            GalleryError: No item has this id.
        """
        selection = Selection.of(where, ids, labels)
        with self._store.reading():
            number = self._find(item_id).number
            wish = _Wish(k, selection, expand, descriptors, without=(number,))
            return self._hits(_unit(self._store.descriptor(number), self.dim), wish)

    @healing
    def search_vector(
        self,
        vector: NDArray[np.float32],
        k: int = 10,
        *,
        where: str | Selection | None = None,
        ids: Iterable[str] | None = None,
        labels: Iterable[str] | None = None,
        expand: int = 0,
        descriptors: bool = False,
        verdicts: bool = True,
        without: Sequence[str] = (),
    ) -> list[Hit]:
        """Find the items most like a descriptor, (D,) numbers of any length; it is normalised first.

        Args:
            vector: The descriptor, or what `combine` made of several.
            k: At most this many hits.
            where: A condition on catalog columns, or a selection.
            ids: Find only these items.
            labels: Find only items with these labels.
            expand: Move the query towards this many of its best hits.
            descriptors: Give every hit its descriptor.
            verdicts: False for a query made of several: its scores are not those that were calibrated.
            without: Ids of items to leave out.

        Raises:
            UsageError: The vector has another dimension, a value that is no number, or length zero; or as
                `search`.
            GalleryError: No item has an id to leave out.
        """
        selection = Selection.of(where, ids, labels)
        vector = _unit(vector, self.dim)
        with self._store.reading():
            left_out = tuple(self._find(item_id).number for item_id in without)
            return self._hits(vector, _Wish(k, selection, expand, descriptors, verdicts, left_out))

    def _hits(self, vector: NDArray[np.float32], wish: _Wish) -> list[Hit]:
        # First, as a server forgets the rows of a search when it is asked something else.
        calibration = self.calibration if wish.verdicts else None
        chosen = None if wish.selection is None else wish.selection.choose(self._store)
        self._index.catch_up(self._store)
        query = vector
        if wish.expand:
            numbers, _ = self._nearest(vector, wish.expand, chosen, wish.without)
            query = expand_query(vector, self._descriptors(numbers))
        numbers, scores = self._nearest(query, wish.k, chosen, wish.without)
        found = self._descriptors(numbers) if wish.descriptors or wish.expand else None
        judged = found @ vector if wish.expand and found is not None else scores
        rows = self._store.by_number(numbers.tolist())
        return [
            Hit(
                rank,
                rows[int(number)].item.id,
                float(scores[rank - 1]),
                None if calibration is None else calibration.verdict(float(judged[rank - 1])),
                rows[int(number)].item,
                found[rank - 1] if wish.descriptors and found is not None else None,
            )
            for rank, number in enumerate(numbers, start=1)
        ]

    def _nearest(
        self, query: NDArray[np.float32], k: int, chosen: Chosen | None, without: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        wanted = k + len(without)
        if chosen is not None and chosen.vectors is not None:
            numbers, scores = chosen.nearest(query, wanted) if len(chosen.numbers) else _NOTHING
        else:
            allowed = None if chosen is None else chosen.numbers
            index = self._index
            with one_thread():
                numbers, scores = index.search(query[None], wanted, allowed)[0]
        keep = ~np.isin(numbers, without)
        return numbers[keep][:k], scores[keep][:k]

    def _descriptors(self, numbers: NDArray[np.int64] | Sequence[int]) -> NDArray[np.float32]:
        """Read the (n, D) descriptors of rows, as unit rows again: fp16 has rounded them."""
        rows = self._store.descriptors(numbers)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    @property
    def calibration(self) -> Calibration | None:
        """Give the thresholds of the verdicts; None unless `cfcd calibrate` made them for this gallery."""
        with self._store.reading():
            return self._calibrations.read(self._store, self.identity)

    @cached_property
    def _calibrations(self) -> CalibrationPlace:
        return CalibrationFile(self.folder)

    @healing
    def select(
        self,
        where: str | None = None,
        *,
        ids: Iterable[str] | None = None,
        labels: Iterable[str] | None = None,
    ) -> tuple[Selection, Chosen]:
        """Look up which items a condition, ids and labels choose: the selection and what it finds now.

        Raises:
            UsageError: `where` is no condition, or names a column that no item has.
        """
        selection = Selection(where, ids=ids, labels=labels)
        with self._store.reading():
            return selection, selection.choose(self._store)

    @healing
    def descriptor(self, item_id: str) -> NDArray[np.float32]:
        """Give an item's descriptor, a (D,) float32 unit vector.

        Raises:
            GalleryError: No item has this id.
        """
        with self._store.reading():
            return _unit(self._store.descriptor(self._find(item_id).number), self.dim)

    @healing
    def find(self, item_id: str) -> Item:
        """Find an item by id.

        Raises:
            GalleryError: No item has this id.
        """
        with self._store.reading():
            return self._find(item_id).item

    def _find(self, item_id: str) -> StoredItem:
        stored = self._store.find(item_id)
        if stored is None:
            raise GalleryError(
                f"{self.name} holds no item {item_id!r}.",
                "Ids are paths relative to the indexed folder, unless its catalog has a column id.",
            )
        return stored


_NOTHING = np.empty(0, np.int64), np.empty(0, np.float32)


def _unit(vector: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Check and normalise a descriptor.

    Raises:
        UsageError: It is not `dim` finite numbers, or zero.
    """
    vector = np.asarray(vector, np.float32)
    if vector.shape != (dim,):
        raise UsageError(
            f"The query vector has shape {vector.shape}.", f"This gallery needs ({dim},) numbers."
        )
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise UsageError(
            "The query vector is zero or not finite.", "Give a descriptor of this gallery's model."
        )
    return np.asarray(vector / length)
