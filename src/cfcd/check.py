"""What is wrong with a catalog, all of it at once: files, contents, boxes, sizes and labels."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cfcd.catalog import Box, Catalog, Problem
from cfcd.check_report import CheckReport
from cfcd.errors import CatalogError, PictureError, PictureTooLarge, TruncatedPicture
from cfcd.files import content_digest
from cfcd.pictures import PictureLimits, load_picture, picture_size

_THREADS = 2
_BLOCK = 256
# Decoding for the check needs no pixels in full: JPEGs are read whole but turned into fewer pixels.
_LONG_SIDE = 256
_MIN_SIDE = 16
_MAX_ASPECT = 20
# Annotations count the last pixel as inside or not: a box may stick out by this much without a word.
_BOX_SLACK = 1.0


@dataclass(frozen=True, slots=True)
class _File:
    """What one file turned out to be; `fault` is (kind, message) when its picture cannot be used."""

    count: int = 0
    digest: bytes | None = None
    size: tuple[int, int] | None = None
    fault: tuple[str, str] | None = None


def check_catalog(
    catalog: Catalog,
    *,
    decode: bool = True,
    limits: PictureLimits = PictureLimits(),  # noqa: B008 - frozen
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """List everything that is wrong with a catalog and its files.

    Fatal, since a run has to skip the row: bad rows (see `read_catalog`), missing, unreadable, truncated and
    too large files, and boxes outside of the picture. Warnings: the same content twice (under two labels is a
    kind of its own), boxes partly outside, sides under 16 pixels, shapes over 20 : 1, labels with a single
    picture, and labels that differ only by case or spaces.

    Args:
        catalog: What to check.
        decode: Decode every picture in full; otherwise only headers are read, and only files of equal size
            are compared by content.
        limits: The largest picture to accept.
        progress: Called with (done, total) files.
    """
    paths = [catalog.file(index) for index in range(len(catalog))]
    files = _examine_all(list(dict.fromkeys(paths)), decode, limits, progress)
    problems = list(catalog.problems)
    bad: set[int] = set()
    for index, path in enumerate(paths):
        box = catalog.boxes[index] if catalog.boxes else None
        found = _judge(files[path], catalog.paths[index], box)
        row = catalog.rows[index] if catalog.rows else None
        problems += (Problem(kind, fatal, text, catalog.paths[index], row) for kind, fatal, text in found)
        if any(fatal for _, fatal, _ in found):
            bad.add(index)
    good = [index for index in range(len(catalog)) if index not in bad]
    problems += _duplicates(catalog, paths, files, good)
    problems += _labels(catalog, good)
    notes, sides = _notes(catalog)
    if catalog.has_labels and (unlabelled := list(catalog.labels or ()).count(None)):
        notes = (*notes, f"{unlabelled:,} of the images have no label")
    if 2 * sum(problem.kind == "missing" for problem in problems) > len(catalog):
        hint = f"relative paths start from {catalog.root}; give another root if the pictures are elsewhere"
        notes = (*notes, hint)
    return CheckReport(
        source=str(catalog.source),
        kind=catalog.kind,
        images=len(catalog),
        usable=len(good),
        labels=len(set(catalog.labels or ()) - {None}),
        splits=dict(Counter(split or "" for split in catalog.splits)) if catalog.splits else {},
        problems=(*problems, *sides),
        notes=notes,
    )


def _examine_all(
    paths: Sequence[Path], decode: bool, limits: PictureLimits, progress: Callable[[int, int], None] | None
) -> dict[Path, _File]:
    files: dict[Path, _File] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        # In blocks: a million waiting jobs would take more memory than the catalog itself.
        for start in range(0, len(paths), _BLOCK):
            block = paths[start : start + _BLOCK]
            for path, file in zip(block, pool.map(lambda p: _examine(p, decode, limits), block), strict=True):
                files[path] = file
                if progress is not None:
                    progress(len(files), len(paths))
    return files


def _examine(path: Path, decode: bool, limits: PictureLimits) -> _File:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        return _File(fault=("missing", _missing(path, error)))
    if not stat.S_ISREG(status.st_mode):
        return _File(fault=("missing", "is not a file"))
    count = status.st_size
    digest = None
    try:
        # The content is read once, for the hash and the pixels; pictures over the limit are not read at all.
        if decode and count <= limits.max_bytes:
            content = path.read_bytes()
            digest = hashlib.blake2b(content, digest_size=16).digest()
            size = picture_size(content, limits=limits)
            load_picture(content, long_side=_LONG_SIDE, limits=limits)
        else:
            size = picture_size(path, limits=limits)
    except PictureError as error:
        return _File(count, digest, fault=(_kind_of(error), _reason(error, path)))
    except OSError as error:
        return _File(count, fault=("unreadable", f"{error.strerror}"))
    return _File(count, digest, size)


def _missing(path: Path, error: Exception) -> str:
    if not isinstance(error, FileNotFoundError):
        return f"cannot be looked at: {error}"
    if "\\" in str(path) and os.sep == "/":
        return "no such file; write / between folders, not \\"
    if {"http:", "https:", "s3:", "gs:"}.intersection(path.parts):
        return "no such file; addresses are not fetched, download the pictures first"
    return "no such file"


def _kind_of(error: PictureError) -> str:
    if isinstance(error, TruncatedPicture):
        return "truncated"
    return "too-large" if isinstance(error, PictureTooLarge) else "unreadable"


def _reason(error: PictureError, path: Path) -> str:
    """Shorten the message: the file is named beside it anyway."""
    what = error.what
    for name in (str(path), "the picture"):
        what = what.removeprefix(f"Cannot read {name}: ")
    return f"{what.rstrip('.')}; {error.mend[:1].lower()}{error.mend[1:].rstrip('.')}"


def _judge(file: _File, name: str, box: Box | None) -> list[tuple[str, bool, str]]:
    """Return (kind, fatal, message) for what is wrong with one row as such."""
    if file.fault is not None:
        return [(file.fault[0], True, file.fault[1])]
    assert file.size is not None, name
    width, height = file.size
    found = []
    if min(width, height) < _MIN_SIDE:
        found.append(("tiny", False, f"{width} x {height} pixels; sides under {_MIN_SIDE} show too little"))
    if max(width, height) > _MAX_ASPECT * min(width, height):
        found.append(("extreme-shape", False, f"{width} x {height} pixels, longer than {_MAX_ASPECT} : 1"))
    if box is not None:
        found += _judge_box(box, width, height)
    return found


def _judge_box(box: Box, width: int, height: int) -> list[tuple[str, bool, str]]:
    x_1, y_1, x_2, y_2 = box
    shown = ",".join(f"{corner:g}" for corner in box)
    if min(x_2, width) <= max(x_1, 0) or min(y_2, height) <= max(y_1, 0):
        return [("box-outside", True, f"box {shown} lies outside of the {width} x {height} pixels")]
    if max(-x_1, -y_1, x_2 - width, y_2 - height) > _BOX_SLACK:
        text = f"box {shown} reaches out of the {width} x {height} pixels and is cut there"
        return [("box-partly-outside", False, text)]
    return []


def _duplicates(
    catalog: Catalog, paths: Sequence[Path], files: dict[Path, _File], good: Sequence[int]
) -> Iterator[Problem]:
    """Find rows that show the same bytes and the same box as an earlier row."""
    shared = Counter(file.count for file in files.values())
    digests: dict[Path, bytes | None] = {}
    first: dict[Hashable, int] = {}
    for index in good:
        path = paths[index]
        if path not in digests:
            digests[path] = _digest(path, files[path], shared)
        content: Hashable = digests[path] or path
        before = first.setdefault((content, catalog.boxes[index] if catalog.boxes else None), index)
        if before == index:
            continue
        row = catalog.rows[before] if catalog.rows else None
        where = catalog.paths[before] + ("" if row is None else f" (row {row})")
        differing = []
        for name, column in (("label", catalog.labels), ("split", catalog.splits)):
            if column is not None and column[before] != column[index]:
                there, here = (f"{value!r}" if value else "none" for value in (column[before], column[index]))
                differing.append(f"{name} {there} there, {here} here")
        labels = (catalog.labels[before], catalog.labels[index]) if catalog.labels else (None, None)
        contradictory = None not in labels and labels[0] != labels[1]
        yield Problem(
            "duplicate-two-labels" if contradictory else "duplicate",
            False,
            "; ".join((f"same content as {where}", *differing)),
            catalog.paths[index],
            catalog.rows[index] if catalog.rows else None,
        )


def _digest(path: Path, file: _File, shared: Counter[int]) -> bytes | None:
    """Return the digest of a file, computed now if it was not and another file has as many bytes."""
    if file.digest is None and shared[file.count] > 1:
        try:
            return content_digest(path)
        except OSError:
            return None  # gone since its header was read; that it is missing will show in the next run
    return file.digest


def _labels(catalog: Catalog, good: Sequence[int]) -> Iterator[Problem]:
    if catalog.labels is None:
        return
    members: dict[str, list[int]] = defaultdict(list)
    for index in good:
        label = catalog.labels[index]
        if label is not None:
            members[label].append(index)
    spellings: dict[str, list[str]] = defaultdict(list)
    for label, rows in members.items():
        spellings["".join(label.split()).casefold()].append(label)
        if len(rows) == 1:
            text = f"the only usable picture with label {label!r}: no other can match it"
            yield _at(catalog, rows[0], "single-picture-label", text)
    for labels in spellings.values():
        common, *rarer = sorted(labels, key=lambda label: -len(members[label]))
        for label in rarer:
            text = f"label {label!r} differs from {common!r} only by case or spaces"
            yield _at(catalog, members[label][0], "similar-labels", text)


def _at(catalog: Catalog, index: int, kind: str, text: str) -> Problem:
    return Problem(kind, False, text, catalog.paths[index], catalog.rows[index] if catalog.rows else None)


def _notes(catalog: Catalog) -> tuple[tuple[str, ...], list[Problem]]:
    """Say how the catalog would be evaluated, or that it cannot be."""
    try:
        sides = catalog.query_gallery()
    except CatalogError as error:
        return (), [Problem("no-queries", False, f"{error}")]
    if sides is not None:
        return (f"an evaluation searches {len(sides[0]):,} queries in {len(sides[1]):,} images",), []
    if not catalog.has_labels:
        return ("no labels: search works, an evaluation needs them",), []
    return ("an evaluation searches every image in all others",), []
