"""Compare a catalog with what a gallery holds of it: what is new, changed, renamed, moved or gone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.errors import GalleryError
from cfcd.gallery.intake import UNREADABLE, Intake
from cfcd.gallery.truth.rows import Skipped, StoredItem
from cfcd.gallery.truth.store import Store


@dataclass
class Plan:
    """What to do, by catalog index and stored item."""

    encode: list[int] = field(default_factory=list)
    replaced: dict[str, StoredItem] = field(default_factory=dict)
    described: list[tuple[StoredItem, int, FileStamp]] = field(default_factory=list)
    gone: list[StoredItem] = field(default_factory=list)
    skipped: dict[str, Skipped] = field(default_factory=dict)
    renamed: int = 0
    relabelled: int = 0
    unchanged: int = 0


def make_plan(
    store: Store, intake: Intake, known_skipped: dict[str, Skipped], *, remove_missing: bool
) -> Plan:
    """Compare by id, then size and mtime, then content; files are read only where these leave a doubt.

    Args:
        store: The gallery's store.
        intake: The catalog and its files.
        known_skipped: What could not be encoded before and need not be tried again unchanged.
        remove_missing: Remove what the catalog no longer lists, or lists without a file.

    Raises:
        GalleryError: Every file is missing, and with it every item would go.
    """
    plan = Plan()
    catalog, source = intake.catalog, str(intake.catalog.source)
    held = {old.key: old for old in store.items(source)}
    listed = set(catalog.ids)
    leaving = {old.number: old for key, old in held.items() if key not in listed}
    new: list[int] = []
    missing = 0
    for index, key in enumerate(catalog.ids):
        status, old = intake.status(index), held.get(key)
        if status is None or status == UNREADABLE:
            reason = "the file is missing" if status is None else "the file cannot be reached"
            plan.skipped[key] = Skipped(str(catalog.file(index)), None, None, "", reason)
            missing += status is None
            if old is not None and status is None:
                plan.gone.append(old)
        elif old is not None:
            _compare(plan, intake, index, old, status)
        elif _is_known(known_skipped.get(key), status, catalog[index]):
            plan.skipped[key] = known_skipped[key]
        else:
            new.append(index)
    if plan.gone and missing == len(catalog) and remove_missing:
        raise GalleryError(
            f"Every one of the {missing} pictures of {source} is missing.",
            "Check that its disk is there; cfcd remove takes items out for good.",
        )
    _match_renamed(plan, intake, new, leaving, _orphans(store, source) if new else {})
    if remove_missing:
        unreachable = tuple(
            problem.file for problem in catalog.problems if problem.kind == "unreadable-folder"
        )
        plan.gone += [old for old in leaving.values() if not _is_under(old, unreachable)]
    else:
        plan.gone.clear()
    return plan


def _is_known(skipped: Skipped | None, status: tuple[int, int], item: Item) -> bool:
    return skipped is not None and (skipped.path, skipped.size, skipped.mtime_ns, skipped.box) == (
        str(item.path),
        *status,
        box_text(item),
    )


def box_text(item: Item) -> str:
    """Give an item's box as text, "" without one."""
    return json.dumps(item.box) if item.box else ""


def _compare(plan: Plan, intake: Intake, index: int, old: StoredItem, status: tuple[int, int]) -> None:
    """Decide about a row that the gallery holds."""
    item = intake.catalog[index]
    same_path = old.item.path == item.path
    same_file = same_path and (old.stamp.size, old.stamp.mtime_ns) == status
    same_pixels = old.item.box == item.box and (
        same_file or (old.stamp.size == status[0] and intake.digest(index) == old.stamp.digest)
    )
    if not same_pixels:
        plan.encode.append(index)
        plan.replaced[old.key] = old
        return
    same_words = _has_same_words(old.item, item)
    same_place = same_path and old.item.row == item.row
    if not (same_file and same_words and same_place):
        plan.described.append((old, index, FileStamp(*status, old.stamp.digest)))
    if not same_words:
        plan.relabelled += 1
    elif not same_path:
        plan.renamed += 1
    else:
        plan.unchanged += 1


def _orphans(store: Store, source: str) -> dict[int, StoredItem]:
    """Find items of collections that are not where they were: this one may be one of them, moved."""
    gone = [name for name in store.sources() if name != source and not Path(name).exists()]
    return {old.number: old for name in gone for old in store.items(name)}


def _match_renamed(
    plan: Plan,
    intake: Intake,
    new: list[int],
    leaving: dict[int, StoredItem],
    orphans: dict[int, StoredItem],
) -> None:
    """Pair new rows with leaving or orphaned items of the same content; the rest is to be encoded."""
    by_size: dict[int, dict[tuple[Any, ...], list[StoredItem]]] = defaultdict(lambda: defaultdict(list))
    for old in reversed((*leaving.values(), *orphans.values())):
        by_size[old.stamp.size][old.stamp.digest, old.item.box].append(old)
    adopted: set[str] = set()
    for index in new:
        status = intake.status(index)
        twins = by_size.get(status[0]) if status else None
        # The digest costs a read: only files as large as one that left are looked at.
        match = twins.get((intake.digest(index), intake.catalog[index].box)) if twins else None
        if not match or status is None:
            plan.encode.append(index)
            continue
        old = match.pop()
        leaving.pop(old.number, None)
        if orphans.pop(old.number, None):
            adopted.add(old.source)
        plan.described.append((old, index, FileStamp(*status, old.stamp.digest)))
        plan.renamed += 1
    # A collection that was found again elsewhere is there whole: what it lacks has been deleted.
    leaving.update({number: old for number, old in orphans.items() if old.source in adopted})


def _is_under(old: StoredItem, folders: tuple[str | None, ...]) -> bool:
    return any(folder is not None and old.key.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _has_same_words(old: Item, new: Item) -> bool:
    """Tell whether nothing differs that an update can change without encoding."""
    one, other = _words(old), _words(new)
    # Mostly they look alike at once; else by a form that survives storing, which takes ten times as long.
    return repr(one) == repr(other) or _as_stored(one) == _as_stored(other)


def _words(item: Item) -> tuple[Any, ...]:
    return item.label, item.split, item.is_query, item.is_gallery, dict(item.extra)


def _as_stored(words: tuple[Any, ...]) -> str:
    return json.dumps(json.loads(json.dumps(words, default=str)), sort_keys=True)


def free_id(item: Item, source: str, is_taken: Callable[[str], bool]) -> Item:
    """Give the item an id of its own when another collection has used it: the collection's name before it."""
    if not is_taken(item.id):
        return item
    wanted, number = f"{Path(source).stem}/{item.id}", 2
    while is_taken(wanted):
        wanted, number = f"{Path(source).stem}/{item.id}#{number}", number + 1
    return replace(item, id=wanted)
