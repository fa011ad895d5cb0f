"""A folder of pictures as a catalog: sub-folders are labels, or splits with labels below them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cfcd.catalog.paths import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_text, suffix_of
from cfcd.catalog.table import Catalog, Problem
from cfcd.errors import CatalogError

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "query": "query",
    "gallery": "gallery",
    "index": "index",
}
# Thumbnails and rubbish that NAS boxes and operating systems leave among pictures.
_SYSTEM_FOLDERS = frozenset(("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"))
_TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".parquet"))


@dataclass
class _Walk:
    pictures: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


def read_folder(folder: Path) -> Catalog:
    """Walk a folder of pictures, in the order of their paths; a picture's id is its path from the folder.

    The label is the picture's folder as seen from `folder`, with "/" ("a/b" when nested); pictures lying in
    `folder` itself have none. When all sub-folders bear names of splits (train, training, val, valid,
    validation, test, testing, query, gallery, index) and there are several of them or they have sub-folders,
    they are splits and the labels are what lies below. Hidden files and folders are passed over, and no
    folder is walked twice.

    Raises:
        CatalogError: The folder cannot be read or holds no pictures.
    """
    walk = _walk(folder)
    walk.pictures.sort()
    if not walk.pictures:
        raise CatalogError(
            f"{folder} holds no pictures.",
            f"Name a folder with files ending in {', '.join(sorted(IMAGE_SUFFIXES))}, or a table of paths.",
        )
    parents = [path.rpartition("/")[0] for path in walk.pictures]
    splits: list[str | None] | None = None
    labels: list[str | None]
    if _are_splits(parents):
        heads = [parent.partition("/") for parent in parents]
        splits = [_SPLIT_NAMES[head.lower()] if head else None for head, _, _ in heads]
        labels = [rest or None for _, _, rest in heads]
    else:
        labels = [parent or None for parent in parents]
    return Catalog(
        source=folder,
        root=folder,
        kind="folder",
        ids=walk.pictures,
        paths=walk.pictures,
        labels=labels if any(labels) else None,
        splits=splits,
        problems=(*_unused_tables(walk.tables), *sorted(walk.problems, key=lambda found: found.file or "")),
    )


def _are_splits(parents: list[str]) -> bool:
    tops = {parent.partition("/")[0] for parent in parents if parent}
    named = bool(tops) and all(top.lower() in _SPLIT_NAMES for top in tops)
    return named and (len(tops) > 1 or any("/" in parent for parent in parents))


def _unused_tables(tables: list[str]) -> list[Problem]:
    return [
        Problem(
            "unused-table", False, "not read, since a folder was given; name the file itself to use it", name
        )
        for name in sorted(tables)
    ]


def _walk(folder: Path) -> _Walk:
    """Collect pictures; real folders come before linked ones, so that each is met under its own name."""
    walk = _Walk()
    visited: set[tuple[int, int]] = set()
    pending = [(str(folder), "")]
    linked: list[tuple[str, str]] = []
    while pending or linked:
        if not pending:
            linked.sort(key=lambda entry: entry[1], reverse=True)
            pending.append(linked.pop())
        directory, prefix = pending.pop()
        try:
            status = os.stat(directory)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                for entry in entries:
                    _take(entry, prefix, walk, pending, linked)
        except OSError as error:
            if not prefix:
                raise CatalogError(
                    f"The folder {folder} cannot be read: {error.strerror}.",
                    "Check its name and that you may read it.",
                ) from error
            walk.problems.append(Problem("unreadable-folder", True, f"{error.strerror}", prefix.rstrip("/")))
    return walk


def _take(
    entry: os.DirEntry[str],
    prefix: str,
    walk: _Walk,
    pending: list[tuple[str, str]],
    linked: list[tuple[str, str]],
) -> None:
    name = entry.name
    if name.startswith(".") or name in _SYSTEM_FOLDERS:
        return
    path = prefix + name
    if not is_text(name):
        shown = path.encode("utf-8", "backslashreplace").decode()
        walk.problems.append(Problem("bad-name", True, "the name is not UTF-8; rename it", shown))
    elif _is_folder(entry):
        (linked if entry.is_symlink() else pending).append((entry.path, path + "/"))
    elif (suffix := suffix_of(name)) in IMAGE_SUFFIXES:
        walk.pictures.append(path)
    elif suffix in UNREAD_SUFFIXES:
        message = f"left out, {suffix} files are not read; convert it to JPEG or PNG"
        walk.problems.append(Problem("unread-format", False, message, path))
    elif not prefix and suffix in _TABLE_SUFFIXES:
        walk.tables.append(name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself; if it is named like a picture, the check says that it is missing
