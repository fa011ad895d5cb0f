"""What the service reads of a gallery, each in one generation of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cfcd.catalog import Item
from cfcd.errors import UsageError
from cfcd.gallery import Gallery, Hit, combine
from cfcd.gallery.selection import Selection
from cfcd.gallery.truth.healing import healing
from cfcd.gallery.where_sql import database_of
from cfcd.serving.errors import UnknownItem
from cfcd.serving.holding import HeldGallery
from cfcd.serving.queries import ItemsPage, Query, Wish

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KEPT_SELECTIONS = 8


@dataclass(frozen=True)
class Answer:
    """All hits up to one past the page, and what else is said of them."""

    hits: list[Hit]
    verdict: str | None
    calibrated: bool
    generation: int


class Selections:
    """Keep the last conditions: people page through one, and each is looked up in all items."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str | None, tuple[str, ...] | None], Selection] = OrderedDict()

    def of(
        self, where: str | None, labels: Sequence[str] | None, ids: Sequence[str] | None = None
    ) -> Selection | None:
        """Make a selection, or give the one that was made of the same before; None of nothing.

        Raises:
            UsageError: `where` is no condition.
        """
        where = where if where and where.strip() else None
        labels = labels or None
        if ids is not None or where is labels is None:
            return Selection.of(where, ids, labels)
        key = (where, None if labels is None else tuple(labels))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = Selection(where, labels=labels)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT_SELECTIONS:
                self._kept.popitem(last=False)
        return made


@healing
def search(
    gallery: Gallery,
    query: Query,
    wish: Wish,
    selection: Selection | None,
    positives: list[NDArray[np.float32]],
    negatives: list[NDArray[np.float32]],
) -> Answer:
    """Find what a query shows, one hit more than is wanted.

    Args:
        gallery: For this thread alone.
        query: Its ids are looked up here.
        wish: What is wanted.
        selection: What may be found.
        positives: Descriptors of the pictures of the query, and its vectors.
        negatives: Descriptors of its other pictures.

    Raises:
        UsageError: There is nothing to search with, a vector has another size, or no such column.
        UnknownItem: An item of the query is not in the gallery.
    """
    for vector in query.vectors:
        if vector.shape != (gallery.dim,):
            raise UsageError(
                f"A query vector has shape {vector.shape}.", f"This gallery needs ({gallery.dim},) numbers."
            )
    with gallery._store.reading():
        positives = [*positives, *(_descriptor(gallery, one) for one in query.ids)]
        negatives = [*negatives, *(_descriptor(gallery, one) for one in query.minus_ids)]
        if not positives:
            raise UsageError("There is nothing to search with.", "Give a picture, a vector or an item's id.")
        mixed = len(positives) + len(negatives) > 1
        _check_labels(gallery, selection, wish)
        last = wish.offset + wish.k
        hits = gallery.search_vector(
            combine(positives, negatives) if mixed else positives[0],
            last + 1,
            where=selection,
            expand=wish.expand,
            descriptors=wish.descriptors,
            verdicts=not mixed,
            without=query.ids,
        )
        calibrated = gallery.calibration is not None
        verdicts = {hit.verdict for hit in hits[:last]}
        best = next((one for one in ("match", "maybe") if one in verdicts), "none")
        return Answer(hits, best if calibrated and not mixed else None, calibrated, gallery._store.generation)


def _check_labels(gallery: Gallery, selection: Selection | None, wish: Wish) -> None:
    """Refuse labels of which the gallery has none: finding nothing would look like an answer."""
    if selection is None or not wish.labels:
        return
    unknown = selection.choose(gallery._store).unknown
    if set(wish.labels) <= set(unknown):
        raise UsageError(
            f"No item has the label {wish.labels[0][:80]!r}.", "Ask /v1/gallery which labels there are."
        )


def _descriptor(gallery: Gallery, item_id: str) -> NDArray[np.float32]:
    if not gallery._store.has_id(item_id):
        raise unknown(gallery, item_id)
    return gallery.descriptor(item_id)


@healing
def find_item(gallery: Gallery, item_id: str) -> tuple[Item, int]:
    """Give an item and the gallery's generation.

    Raises:
        UnknownItem: No item has this id.
    """
    with gallery._store.reading():
        stored = gallery._store.find(item_id)
        if stored is None:
            raise unknown(gallery, item_id)
        return stored.item, gallery._store.generation


@healing
def look_up(gallery: Gallery, selection: Selection) -> None:
    """Look up what a selection chooses; it remembers that while the gallery stays as it is.

    Raises:
        UsageError: Its condition names a column that no item has.
    """
    with gallery._store.reading():
        selection.choose(gallery._store)


@healing
def list_items(gallery: Gallery, selection: Selection | None, offset: int, k: int) -> ItemsPage:
    """Give k of the items that a selection chooses, by row number.

    Raises:
        UsageError: A condition names a column that no item has.
    """
    store = gallery._store
    with store.reading():
        generation = store.generation
        if selection is not None:
            numbers = selection.choose(store).numbers
            total, page = len(numbers), numbers[offset : offset + k].tolist()
        elif isinstance(gallery, HeldGallery):
            rows = database_of(store).execute(
                "SELECT number FROM items ORDER BY number LIMIT ? OFFSET ?", (k, offset)
            )
            total, page = len(store), [row[0] for row in rows]
        else:
            stored = islice(store.items(), offset, offset + k)
            return ItemsPage([one.item for one in stored], len(store), generation)
        found = store.by_number(page)
        return ItemsPage([found[number].item for number in page if number in found], total, generation)


@healing
def state_of(gallery: Gallery) -> tuple[int, int]:
    """Give the number of items and the generation."""
    with gallery._store.reading():
        return len(gallery._store), gallery._store.generation


def unknown(gallery: Gallery, item_id: str) -> UnknownItem:
    """Make the error for an id that no item has."""
    shown = item_id if len(item_id) <= 80 else f"{item_id[:80]}..."
    return UnknownItem(
        f"{Path(gallery.name).name} holds no item {shown!r}.", "Ask /v1/items which ids there are."
    )
