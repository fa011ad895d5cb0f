"""Bring an encoded folder in line with today's catalog and files before anything is encoded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cfcd.catalog import Catalog, Item
from cfcd.encoding.columns import same_table
from cfcd.encoding.encoder import Encoder
from cfcd.encoding.rows import FileStamp, items_from_columns, items_table
from cfcd.encoding.shards import (
    delete_shard,
    delete_strays,
    is_encoded,
    read_descriptors,
    read_settings,
    read_table,
    shard_numbers,
    write_settings,
    write_shard,
)
from cfcd.errors import EncodingError, IdentityMismatch


def file_state(path: Path) -> tuple[int, int] | None:
    """Give a file's size (bytes) and mtime (ns), None when it cannot be looked up."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return status.st_size, status.st_mtime_ns


def claim_folder(out: Path, catalog: Catalog, encoder: Encoder) -> None:
    """Write the settings of a new encoded folder, or check that those of an old one fit.

    Raises:
        EncodingError: The folder is damaged, holds another collection, or another precision was asked for.
        IdentityMismatch: It was encoded with another model or preprocessing.
    """
    _, precision = encoder.options
    if is_encoded(out):
        settings = read_settings(out)
        if settings["identity"] != encoder.identity:
            raise IdentityMismatch(
                f"{out} was encoded with {settings['model']}, not with {encoder.model.label}.",
                "Give another --out folder, or the model and options it was encoded with.",
            )
        asked = settings.get("precision", "auto")
        if asked != precision:
            # Rows that are there would be taken over as they are, whatever is asked for now.
            raise EncodingError(
                f"{out} was encoded with precision {asked}, not {precision}.",
                f"Give another --out folder, or --precision {asked}.",
            )
        if settings["source"] != str(catalog.source):
            raise EncodingError(
                f"{out} was encoded from {settings['source']}, not from {catalog.source}.",
                "Give another --out folder.",
            )
        if settings["root"] != str(catalog.root):
            write_settings(out, {**settings, "root": str(catalog.root)})
        return
    settings = {
        "model": encoder.model.label,
        "model_reference": encoder.model.reference,
        "identity": encoder.identity,
        "dim": encoder.dim,
        "preprocessing": asdict(encoder.model.config.preprocessing),
        "precision": precision,
        "source": str(catalog.source),
        "root": str(catalog.root),
    }
    write_settings(out, settings)


def keep_current(folder: Path, catalog: Catalog, dim: int) -> set[int]:
    """Leave only rows in the shards that are as the catalog and the files are today.

    A row stays when its id, path and box are in the catalog and its file has the size and mtime it had
    when it was encoded. A shard with other rows, or with labels and further columns of another day, is
    written again under a new number before it is deleted: a process killed in between leaves rows
    twice, never too few, and readers take those of the highest number. One shard is in memory at a time.

    Args:
        folder: An encoded folder; the caller holds the right to write to it.
        catalog: What the folder shall hold.
        dim: Length of a descriptor.

    Returns:
        The indices of the catalog's rows that need no encoding.

    Raises:
        EncodingError: A shard is damaged.
    """
    delete_strays(folder)
    place = {item_id: index for index, item_id in enumerate(catalog.ids)}
    done: set[int] = set()
    numbers = shard_numbers(folder)
    free = max(numbers, default=-1) + 1
    # From the newest down: an older row of the same picture is superseded.
    for number in reversed(numbers):
        table = read_table(folder, number)
        old, old_stamps = items_from_columns(table.to_pydict())
        kept: dict[int, int] = {}  # position in the shard -> index in the catalog
        for at, (item, stamp) in enumerate(zip(old, old_stamps, strict=True)):
            index = place.get(item.id)
            if index is not None and index not in done and _is_current(item, stamp, catalog, index):
                kept[at] = index
        done.update(kept.values())
        items = [catalog[index] for index in kept.values()]
        stamps = [old_stamps[at] for at in kept]
        if len(kept) == table.num_rows and same_table(items_table(items, stamps), table):
            continue
        if kept:
            descriptors = read_descriptors(folder, number, (table.num_rows, dim))
            write_shard(folder, free, items, stamps, descriptors[list(kept)])
            free += 1
        delete_shard(folder, number)
    return done


def _is_current(old: Item, stamp: FileStamp, catalog: Catalog, index: int) -> bool:
    path, box = catalog.file(index), None if catalog.boxes is None else catalog.boxes[index]
    return (old.path, old.box) == (path, box) and file_state(path) == (stamp.size, stamp.mtime_ns)
