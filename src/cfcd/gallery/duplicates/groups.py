"""Find the pictures of a gallery that are there more than once, the best of each first; nothing is deleted.

Exact: the same bytes (and the same box), by the digests in the store. Near: descriptors are alike, and the
pixels lie on each other once aligned; so two photographs of one object stay apart. Every picture of a group
is a duplicate of the first, the one to keep: most pixels, then most bytes (least compressed), then oldest
file, then first path.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import PictureError, UsageError
from cfcd.gallery.duplicates.files import Facts, read_facts, stored_facts
from cfcd.gallery.duplicates.leaders import follow_leaders
from cfcd.gallery.duplicates.links import (
    EXACT_ITEMS,
    Blocks,
    Components,
    link_all_pairs,
    link_neighbours,
    places,
    unit_rows,
)
from cfcd.gallery.duplicates.pixels import grey_thumbnail, likeness
from cfcd.gallery.selection import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Item
    from cfcd.gallery.gallery import Gallery
    from cfcd.gallery.truth.rows import StoredItem
    from cfcd.gallery.truth.store import Store

# Measured with imagenet-lite0 on real photographs and copies of them: docs/measurements.md.
THRESHOLD = 0.85
THRESHOLD_WITHOUT_PIXELS = 0.95
LIKENESS = 0.94
# 4 KiB each.
_THUMBNAILS = 65_536


@dataclass(frozen=True)
class Duplicate:
    """One picture of a group.

    Attributes:
        item: Its row.
        kind: "kept", "exact" (the same bytes as a picture before it in the group) or "near".
        similarity: Cosine of its descriptor and the kept one's.
        likeness: Correlation of its pixels with the kept one's, None where they were not compared.
        width: Pixels of the picture, or of the item's box; None when the file was not read.
        height: As `width`.
        bytes: Size of the file.
    """

    item: Item
    kind: str
    similarity: float
    likeness: float | None
    width: int | None
    height: int | None
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "id": self.item.id,
            "path": str(self.item.path),
            "kind": self.kind,
            "similarity": round(self.similarity, 4),
            "likeness": None if self.likeness is None else round(self.likeness, 4),
            "width": self.width,
            "height": self.height,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Duplicates:
    """All that was found.

    Attributes:
        groups: Each the picture to keep and its duplicates, best first; the group that would free most first.
        unreadable: (id, path, reason) of pictures with a possible duplicate that are left out.
        items: Items that were looked at.
        threshold: Least cosine similarity of near duplicates.
        likeness: Least correlation of pixels, None when pixels were not compared.
        all_pairs: Whether every pair of descriptors was compared, not only neighbours by the index.
        seconds: How long it took.
    """

    groups: tuple[tuple[Duplicate, ...], ...]
    unreadable: tuple[tuple[str, str, str], ...]
    items: int
    threshold: float
    likeness: float | None
    all_pairs: bool
    seconds: float

    def count(self, kind: str) -> int:
        """Count pictures of a kind."""
        return sum(one.kind == kind for group in self.groups for one in group)

    @property
    def bytes(self) -> int:
        """Give the bytes of all pictures but the kept ones."""
        return sum(_spare_bytes(group) for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "items": self.items,
            "threshold": self.threshold,
            "likeness": self.likeness,
            "all_pairs_compared": self.all_pairs,
            "exact": self.count("exact"),
            "near": self.count("near"),
            "bytes": self.bytes,
            "groups": [[one.to_json() for one in group] for group in self.groups],
            "unreadable": [
                {"id": key, "path": path, "reason": reason} for key, path, reason in self.unreadable
            ],
            "seconds": round(self.seconds, 3),
        }


def find_duplicates(
    gallery: Gallery,
    *,
    threshold: float | None = None,
    pixels: bool = True,
    where: str | Selection | None = None,
    all_pairs_up_to: int = EXACT_ITEMS,
    progress: Callable[[int, int], None] | None = None,
) -> Duplicates:
    """Find exact and near duplicates.

    Args:
        gallery: Where to look.
        threshold: Least cosine similarity of near duplicates; by default 0.85, and 0.95 without pixels, which
            suits imagenet-lite0. A model that draws pictures of one object together needs `pixels`.
        pixels: Keep as near duplicates only what is the same photograph by its pixels. Needs the files;
            without, near duplicates go by descriptors alone.
        where: Look among these items only: a condition such as "city = 'Nice'", or a selection.
        all_pairs_up_to: A larger gallery compares each item with its 32 nearest neighbours by the index, and
            finds no near duplicates beyond them.
        progress: Called with (done, total) items; it begins anew when all are compared.

    Raises:
        UsageError: The threshold is not between 0 and 1, or `where` is no condition.
    """
    start = time.monotonic()
    if threshold is None:
        threshold = THRESHOLD if pixels else THRESHOLD_WITHOUT_PIXELS
    if not 0 < threshold <= 1:
        raise UsageError(f"The threshold is {threshold}.", "Give a cosine similarity, such as 0.9.")
    selection = Selection.of(where, None, None)
    store = gallery._store
    with store.reading():
        chosen = None if selection is None else selection.choose(store).numbers
        numbers, joined = _exact_links(store, chosen)
        all_pairs = len(numbers) <= all_pairs_up_to
        blocks = _blocks(store, gallery.dim, numbers)
        if all_pairs:
            link_all_pairs(blocks, len(numbers), gallery.dim, threshold, joined, progress)
        else:
            gallery._index.catch_up(store)
            link_neighbours(gallery._index, blocks, numbers, threshold, joined, chosen, progress)
        components = [numbers[positions] for positions in joined.groups()]
        search = _Search(store, threshold, pixels)
        total, done = sum(map(len, components)), 0
        for component in components:
            search.component(component)
            done += len(component)
            if progress:
                progress(done, total)
    groups = sorted(search.groups, key=lambda group: (-_spare_bytes(group), group[0].item.id))
    return Duplicates(
        tuple(groups),
        tuple(sorted(search.unreadable)),
        len(numbers),
        threshold,
        LIKENESS if pixels else None,
        all_pairs,
        time.monotonic() - start,
    )


def _spare_bytes(group: tuple[Duplicate, ...]) -> int:
    return sum(one.bytes for one in group[1:])


def _exact_links(store: Store, chosen: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], Components]:
    """List the row numbers, and join those of the same bytes and box."""
    wanted = None if chosen is None else set(chosen.tolist())
    numbers: list[int] = []
    twins: list[tuple[int, int]] = []
    first: dict[tuple[bytes, Any], int] = {}
    for stored in store.items():
        if wanted is not None and stored.number not in wanted:
            continue
        # Imported descriptors may come without the digest of a file.
        if stored.stamp.digest:
            twin = first.setdefault((stored.stamp.digest, stored.item.box), len(numbers))
            if twin != len(numbers):
                twins.append((twin, len(numbers)))
        numbers.append(stored.number)
    joined = Components(len(numbers))
    for pair in twins:
        joined.join(np.array(pair))
    return np.array(numbers, np.int64), joined


def _blocks(store: Store, dim: int, wanted: NDArray[np.int64]) -> Blocks:
    """Read the descriptors of row numbers, all of them: a server may have lost or got some meanwhile."""
    seen = np.zeros(len(wanted), np.bool_)
    for numbers, vectors in store.descriptors_above(0, dim, block=1024):
        at = places(wanted, numbers)
        seen[at[at >= 0]] = True
        if (at >= 0).all():
            yield numbers, vectors
        elif (at >= 0).any():
            yield numbers[at >= 0], vectors[at >= 0]
    if not seen.all():
        raise store.lacks(int(wanted[~seen][0]))


@dataclass
class _Search:
    """Turn components into groups."""

    store: Store
    threshold: float
    pixels: bool
    groups: list[tuple[Duplicate, ...]] = field(default_factory=list)
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)

    def component(self, numbers: NDArray[np.int64]) -> None:
        """Find the groups among items that are linked."""
        bundles = self._bundles([int(number) for number in numbers])
        firsts = [bundle[0] for bundle in bundles]
        compared: dict[tuple[int, int], float] = {}
        thumbnail = lru_cache(_THUMBNAILS)(lambda place: self._thumbnail(firsts[place][0]))

        def same(place: int, leader: int) -> bool:
            if firsts[place][1].file == firsts[leader][1].file:
                return False  # two parts of one picture
            if not self.pixels:
                return True
            one, other = thumbnail(place), thumbnail(leader)
            if one is None or other is None:
                return False
            compared[place, leader] = likeness(one, other)
            return compared[place, leader] >= LIKENESS

        def vectors(first: int, last: int) -> NDArray[np.float32]:
            return unit_rows(self.store.descriptors([one.number for one, _ in firsts[first:last]]))

        groups: dict[int, list[Duplicate]] = defaultdict(list)
        joined = {one.place: one for one in follow_leaders(len(bundles), vectors, self.threshold, same)}
        for place, bundle in enumerate(bundles):
            if place in joined:
                leader, similarity = joined[place].leader, joined[place].similarity
                alike = compared.get((place, leader))
                groups[leader] += [_duplicate(bundle[0], "near", similarity, alike)]
                groups[leader] += [_duplicate(one, "exact", similarity, alike) for one in bundle[1:]]
            else:
                groups[place] += [_duplicate(bundle[0], "kept", 1.0, None)]
                groups[place] += [_duplicate(one, "exact", 1.0, None) for one in bundle[1:]]
        self.groups += [tuple(group) for group in groups.values() if len(group) > 1]

    def _bundles(self, numbers: list[int]) -> list[list[tuple[StoredItem, Facts]]]:
        """Put what has the same bytes together; bundles and what is in them best first."""
        known = []
        for stored in self.store.by_number(numbers).values():
            facts = read_facts(stored)
            if isinstance(facts, str):
                if self.pixels:
                    self.unreadable.append((stored.item.id, str(stored.item.path), facts))
                    continue
                facts = stored_facts(stored)
            known.append((stored, facts))
        known.sort(key=lambda one: (*one[1].order(), str(one[0].item.path), one[0].item.id))
        bundles: dict[object, list[tuple[StoredItem, Facts]]] = {}
        files = set()
        for stored, facts in known:
            name = (facts.file, stored.item.box)
            if name in files:
                continue
            files.add(name)
            digest = stored.stamp.digest
            key = (digest, stored.item.box) if digest else stored.number
            bundles.setdefault(key, []).append((stored, facts))
        return list(bundles.values())

    def _thumbnail(self, stored: StoredItem) -> NDArray[np.uint8] | None:
        try:
            return grey_thumbnail(stored.item.path, stored.item.box)
        except (PictureError, OSError) as error:
            reason = error.what if isinstance(error, PictureError) else str(error)
            self.unreadable.append((stored.item.id, str(stored.item.path), reason))
            return None


def _duplicate(one: tuple[StoredItem, Facts], kind: str, similarity: float, alike: float | None) -> Duplicate:
    stored, facts = one
    return Duplicate(stored.item, kind, similarity, alike, facts.width, facts.height, facts.bytes)
