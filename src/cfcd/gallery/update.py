"""Bring a gallery in line with a catalog, in transactions that survive whatever comes between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.errors import PictureError, TruncatedPicture
from cfcd.gallery.intake import UNREADABLE, Intake
from cfcd.gallery.plan import box_text, free_id, make_plan
from cfcd.gallery.truth.rows import Skipped, StoredItem
from cfcd.gallery.truth.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A killed writer loses at most the batch in flight: this many pictures or seconds, whichever is first.
_BATCH_ROWS = 256
_BATCH_SECONDS = 5.0


@dataclass(frozen=True)
class UpdateSummary:
    """What an update did; `skipped` is by the id a picture has in its catalog."""

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
        skipped = [{"id": key, "path": row.path, "reason": row.reason} for key, row in self.skipped.items()]
        return {**self.counts(), "skipped": skipped, "seconds": round(self.seconds, 3)}


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
    plan = make_plan(store, intake, {} if retry_skipped else known_skipped, remove_missing=remove_missing)
    if plan.described or plan.gone:
        with store.changing() as generation:
            store.remove([old.number for old in plan.gone], generation)
            # All make room before any takes its new name: names may go round in a circle.
            store.lift([old.number for old, _, _ in plan.described])
            for old, index, stamp in plan.described:
                item = intake.catalog[index]
                store.put_back(old.number, source, item.id, free_id(item, source, store.has_id), stamp)
    batch = _Batch(store, source, plan.replaced)
    added = changed = 0
    if progress and plan.encode:
        progress(0, len(plan.encode))
    try:
        for count, (item, stamp_or_none, result) in enumerate(intake.encode(plan.encode), start=1):
            if isinstance(result, PictureError) or stamp_or_none is None:
                plan.skipped[item.id] = _skip(intake, plan.encode[count - 1], item, result)
                batch.drop(item.id)
            else:
                added += item.id not in plan.replaced
                changed += item.id in plan.replaced
                batch.add(item, stamp_or_none, result)
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


def _skip(intake: Intake, index: int, item: Item, result: object) -> Skipped:
    """Note why a picture was left out; only what lies in its bytes is not worth another try."""
    reason = result.what if isinstance(result, PictureError) else "it could not be read"
    passing = isinstance(result, PictureError) and isinstance(result.__cause__, OSError | ImportError)
    status = intake.status(index)
    if status is None or status == UNREADABLE or (passing and not isinstance(result, TruncatedPicture)):
        return Skipped(str(item.path), None, None, "", reason)
    return Skipped(str(item.path), *status, box_text(item), reason)


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
        self.drop(item.id)
        self._arrived.append((item, stamp, descriptor))
        if len(self._arrived) >= _BATCH_ROWS or time.monotonic() - self._opened > _BATCH_SECONDS:
            self.commit()

    def drop(self, key: str) -> None:
        """Let go of the old descriptor of an item whose file has changed."""
        if key in self._replaced:
            self._obsolete.append(self._replaced[key].number)

    def commit(self) -> None:
        # Taken out first: an interrupt right after the commit must not bring them a second time.
        arrived, obsolete = self._arrived, self._obsolete
        self._arrived, self._obsolete, self._opened = [], [], time.monotonic()
        if arrived or obsolete:
            with self._store.changing() as generation:
                self._store.remove(obsolete, generation)
                # Those that keep an id come first, before it could look free to a new one.
                arrived.sort(key=lambda row: row[0].id not in self._replaced)
                for item, stamp, descriptor in arrived:
                    old = self._replaced.get(item.id)
                    if old is None:
                        named = free_id(item, self._source, self._store.has_id)
                    else:
                        named = replace(item, id=old.item.id)
                    self._store.insert(self._source, item.id, named, stamp, descriptor)
