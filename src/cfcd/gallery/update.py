"""Bring a gallery in line with a catalog: what is new, changed, renamed, moved or gone."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.errors import PictureError
from cfcd.gallery.intake import Intake
from cfcd.gallery.store import Store, StoredItem

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A killed writer loses at most the batch in flight: this many pictures or seconds, whichever is first.
_BATCH_ROWS = 256
_BATCH_SECONDS = 5.0

Skipped = tuple[str, int | None, int | None, str]


@dataclass(frozen=True)
class UpdateSummary:
    """What an update did; `skipped` maps ids to (path, bytes, mtime in ns, reason)."""

    added: int
    changed: int
    renamed: int
    relabelled: int
    removed: int
    unchanged: int
    skipped: dict[str, Skipped]
    seconds: float

    def counts(self) -> dict[str, int]:
        """Give the number of items by what happened to them."""
        names = ("added", "changed", "renamed", "relabelled", "removed", "unchanged")
        return {name: getattr(self, name) for name in names}

    def text(self) -> str:
        """Give the summary in one line."""
        counts = {**self.counts(), "skipped": len(self.skipped)}
        return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "nothing to do"

    def to_json(self) -> dict[str, Any]:
        """Give the summary as plain data."""
        skipped = [{"id": key, "path": row[0], "reason": row[3]} for key, row in self.skipped.items()]
        return {**self.counts(), "skipped": skipped, "seconds": round(self.seconds, 3)}


@dataclass
class _Plan:
    """What to do, by catalog index and stored item."""

    encode: list[int] = field(default_factory=list)
    replaced: dict[str, StoredItem] = field(default_factory=dict)
    described: list[tuple[StoredItem, int, FileStamp]] = field(default_factory=list)
    gone: list[StoredItem] = field(default_factory=list)
    skipped: dict[str, Skipped] = field(default_factory=dict)
    renamed: int = 0
    relabelled: int = 0
    unchanged: int = 0


def update(
    store: Store,
    intake: Intake,
    *,
    remove_missing: bool = True,
    retry_skipped: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> UpdateSummary:
    """Bring the items of one source in line with its catalog.

    Args:
        store: Open for writing.
        intake: The catalog, and where its descriptors come from.
        remove_missing: Remove items of this source that the catalog no longer lists.
        retry_skipped: Try unchanged files again that could not be encoded before.
        progress: Called with (done, total) pictures to encode.
    """
    start = time.monotonic()
    source = str(intake.catalog.source)
    known_skipped = store.skipped(source)
    plan = _make_plan(store, intake, source, {} if retry_skipped else known_skipped, remove_missing)
    if plan.described or plan.gone:
        with store.changing() as generation:
            store.remove((old.number for old in plan.gone), generation)
            for old, index, new_stamp in plan.described:
                store.describe(old.number, source, intake.catalog[index], new_stamp)
    added = changed = 0
    batch = _Batch(store, source, plan.replaced)
    if progress and plan.encode:
        progress(0, len(plan.encode))
    try:
        for count, (item, stamp, result) in enumerate(intake.encode(plan.encode), start=1):
            if isinstance(result, PictureError) or stamp is None:
                reason = result.what if isinstance(result, PictureError) else "it could not be read"
                size, mtime_ns = intake.status(plan.encode[count - 1]) or (None, None)
                plan.skipped[item.id] = (str(item.path), size, mtime_ns, reason)
                batch.drop(item)
            else:
                added += item.id not in plan.replaced
                changed += item.id in plan.replaced
                batch.add(item, stamp, result)
            if progress:
                progress(count, len(plan.encode))
    finally:
        # Also when interrupted: what is encoded is kept.
        batch.commit()
    if plan.skipped != known_skipped:
        with store.changing():
            store.replace_skipped(source, plan.skipped)
    return UpdateSummary(
        added,
        changed,
        plan.renamed,
        plan.relabelled,
        len(plan.gone),
        plan.unchanged,
        plan.skipped,
        time.monotonic() - start,
    )


def _make_plan(
    store: Store, intake: Intake, source: str, known_skipped: dict[str, Skipped], remove_missing: bool
) -> _Plan:
    plan = _Plan()
    catalog = intake.catalog
    stored = {old.item.id: old for old in store.items()}
    listed = set(catalog.ids)
    leaving = [old for key, old in stored.items() if old.source == source and key not in listed]
    new: list[int] = []
    for index, key in enumerate(catalog.ids):
        status = intake.status(index)
        old = stored.get(key)
        if status is None:
            plan.skipped[key] = (str(catalog.file(index)), None, None, "the file is missing")
            if old is not None and old.source == source:
                plan.gone.append(old)
        elif old is not None:
            _compare(plan, intake, index, old, source, status)
        elif (row := known_skipped.get(key)) and row[:3] == (str(catalog.file(index)), *status):
            plan.skipped[key] = row
        else:
            new.append(index)
    _find_renamed(plan, intake, new, leaving)
    if remove_missing:
        plan.gone += leaving
    return plan


def _compare(
    plan: _Plan, intake: Intake, index: int, old: StoredItem, source: str, status: tuple[int, int]
) -> None:
    """Decide about a row whose id the gallery holds."""
    item = intake.catalog[index]
    same_file = old.item.path == item.path and (old.stamp.size, old.stamp.mtime_ns) == status
    same_pixels = old.item.box == item.box and (
        same_file or (old.stamp.size == status[0] and intake.digest(index) == old.stamp.digest)
    )
    if not same_pixels and old.source != source:
        reason = f"the gallery holds another picture under this id, from {old.source}"
        plan.skipped[item.id] = (str(item.path), *status, reason)
    elif not same_pixels:
        plan.encode.append(index)
        plan.replaced[item.id] = old
    elif same_file and _plain(old.item) == _plain(item) and old.source == source:
        plan.unchanged += 1
    else:
        stamp = FileStamp(*status, old.stamp.digest)
        plan.described.append((old, index, stamp))
        if _plain(old.item, path=False) != _plain(item, path=False):
            plan.relabelled += 1
        elif old.item.path != item.path or old.source != source:
            plan.renamed += 1
        else:
            plan.unchanged += 1


def _find_renamed(plan: _Plan, intake: Intake, new: list[int], leaving: list[StoredItem]) -> None:
    """Pair new rows with leaving items of the same content; the rest of the new rows is to be encoded."""
    by_size: dict[int, list[StoredItem]] = defaultdict(list)
    for old in leaving:
        by_size[old.stamp.size].append(old)
    for index in new:
        status = intake.status(index)
        twins = by_size.get(status[0], []) if status else []
        # The digest costs a read: only files as large as one that left are looked at.
        digest = intake.digest(index) if twins else None
        box = intake.catalog[index].box
        match = next((old for old in twins if old.stamp.digest == digest and old.item.box == box), None)
        if match is None or status is None:
            plan.encode.append(index)
            continue
        twins.remove(match)
        leaving.remove(match)
        plan.described.append((match, index, FileStamp(*status, match.stamp.digest)))
        plan.renamed += 1


def _plain(item: Item, path: bool = True) -> tuple[Any, ...]:
    """Give what describes an item, for comparison."""
    extra = {name: value if value is None else str(value) for name, value in item.extra.items()}
    described = (item.label, item.split, item.is_query, item.is_gallery, extra)
    return (*described, item.path, item.row) if path else described


class _Batch:
    """Encoded pictures on their way into one transaction."""

    def __init__(self, store: Store, source: str, replaced: dict[str, StoredItem]) -> None:
        self._store = store
        self._source = source
        self._replaced = replaced
        self._arrived: list[tuple[Item, FileStamp, NDArray[np.float32]]] = []
        self._obsolete: list[int] = []
        self._opened = time.monotonic()

    def add(self, item: Item, stamp: FileStamp, descriptor: NDArray[np.float32]) -> None:
        self.drop(item)
        self._arrived.append((item, stamp, descriptor))
        if len(self._arrived) >= _BATCH_ROWS or time.monotonic() - self._opened > _BATCH_SECONDS:
            self.commit()

    def drop(self, item: Item) -> None:
        """Let go of the old descriptor of an item whose file has changed."""
        if item.id in self._replaced:
            self._obsolete.append(self._replaced[item.id].number)

    def commit(self) -> None:
        if self._arrived or self._obsolete:
            with self._store.changing() as generation:
                self._store.remove(self._obsolete, generation)
                for item, stamp, descriptor in self._arrived:
                    self._store.insert(self._source, item, stamp, descriptor)
        self._arrived, self._obsolete, self._opened = [], [], time.monotonic()
