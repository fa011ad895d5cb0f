"""Encode a whole catalog into shards, restartable after any interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cfcd.catalog import Catalog, Item
from cfcd.encoding.encoder import Encoder
from cfcd.encoding.preprocess import wanted_long_side
from cfcd.encoding.shards import (
    FileStamp,
    is_encoded,
    read_ids,
    read_settings,
    shard_numbers,
    write_settings,
    write_shard,
    write_skipped,
)
from cfcd.errors import EncodingError, IdentityMismatch, PictureError
from cfcd.files import content_digest
from cfcd.pictures import load_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A shard is closed at the latest after this share of the time worked so far: a kill costs little,
# and the number of shards grows only with the logarithm of the run.
_SHARD_SECONDS = 30.0
_SHARD_SHARE = 0.05


@dataclass
class FileJob:
    """A catalog row on its way through the encoder; `stamp` is set once its file has been read."""

    item: Item
    stamp: FileStamp | None = field(default=None)


@dataclass(frozen=True)
class EncodeSummary:
    """What `encode_catalog` did."""

    folder: Path
    encoded: int
    already: int
    skipped: tuple[tuple[Item, str], ...]
    changed_since: tuple[str, ...]
    seconds: float

    def text(self) -> str:
        """Give the summary in one line."""
        counts = f"encoded {self.encoded}, already there {self.already}, skipped {len(self.skipped)}"
        line = f"{counts} -> {self.folder} ({self.seconds:.1f} s)"
        if self.changed_since:
            line += (
                f"\n{len(self.changed_since)} files have changed since they were encoded, "
                f"such as {self.changed_since[0]}: encode into a new folder to take that in"
            )
        return line

    def to_json(self) -> dict[str, Any]:
        """Give the summary as plain data."""
        return {
            "folder": str(self.folder),
            "encoded": self.encoded,
            "already_encoded": self.already,
            "skipped": [
                {"id": item.id, "path": str(item.path), "row": item.row, "reason": reason}
                for item, reason in self.skipped
            ],
            "changed_since": list(self.changed_since),
            "seconds": round(self.seconds, 3),
        }


def encode_items(
    encoder: Encoder, items: Iterable[Item]
) -> Iterator[tuple[FileJob, NDArray[np.float32] | PictureError]]:
    """Encode the pictures of catalog rows, cropped to their boxes.

    Yields:
        (job with the file's stamp, (D,) float32 unit descriptor), or the error of that picture.
    """
    long_side = wanted_long_side(encoder.model.config.preprocessing)
    reading = encoder.reading

    def load(job: FileJob) -> Image.Image:
        path = job.item.path
        picture = load_picture(
            path,
            box=job.item.box,
            long_side=long_side,
            allow_truncated=reading.allow_truncated,
            limits=reading.limits,
        )
        status = path.stat()
        job.stamp = FileStamp(status.st_size, status.st_mtime_ns, content_digest(path))
        return picture

    yield from encoder.stream(map(FileJob, items), load)


def encode_catalog(
    catalog: Catalog,
    encoder: Encoder,
    out: str | Path,
    *,
    shard_rows: int = 8192,
    progress: Callable[[int, int], None] | None = None,
) -> EncodeSummary:
    """Encode a catalog into a folder of shards; a second call does only what is missing.

    Every picture ends in exactly one shard or in `skipped.csv`, also when the process was killed in
    between; skipped pictures are tried again by the next call.

    Args:
        catalog: What to encode.
        encoder: The model.
        out: Folder for the shards; made when absent.
        shard_rows: Rows of a full shard; slow models close theirs earlier, by time.
        progress: Called with (done, total) pictures.

    Raises:
        EncodingError: `out` is damaged or holds something else.
        IdentityMismatch: `out` was encoded with another model or preprocessing.
    """
    out = Path(out)
    start = time.monotonic()
    _prepare_folder(out, catalog, encoder)
    done = read_ids(out)
    todo = [index for index, item_id in enumerate(catalog.ids) if item_id not in done]
    # Stray twins of unfinished shards carry numbers that are not taken; the next shard overwrites them.
    number = max(shard_numbers(out), default=-1) + 1
    already = len(catalog) - len(todo)
    skipped: list[tuple[Item, str]] = []
    shard = _Shard(out, number, shard_rows)
    if progress and todo:
        progress(already, len(catalog))
    results = encode_items(encoder, (catalog[index] for index in todo)) if todo else iter(())
    try:
        for count, (job, result) in enumerate(results, start=1):
            if isinstance(result, PictureError):
                skipped.append((job.item, result.what))
            else:
                shard.add(job, result)
            if shard.is_due(time.monotonic() - start):
                shard.close()
                write_skipped(out, skipped)
            if progress:
                progress(already + count, len(catalog))
    finally:
        # Also when interrupted: what is encoded is kept.
        shard.close()
        write_skipped(out, skipped)
    return EncodeSummary(
        out,
        len(todo) - len(skipped),
        already,
        tuple(skipped),
        _changed(catalog, done),
        time.monotonic() - start,
    )


def _prepare_folder(out: Path, catalog: Catalog, encoder: Encoder) -> None:
    if is_encoded(out):
        settings = read_settings(out)
        if settings["identity"] != encoder.identity:
            raise IdentityMismatch(
                f"{out} was encoded with {settings['model']}, not with {encoder.model.label}.",
                "Give another --out folder, or the model and options it was encoded with.",
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EncodingError(f"{out} exists and is no encoded folder.", "Give a new or empty folder.")
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "model": encoder.model.label,
        "model_reference": encoder.model.reference,
        "identity": encoder.identity,
        "dim": encoder.dim,
        "preprocessing": asdict(encoder.model.config.preprocessing),
        "source": str(catalog.source),
        "root": str(catalog.root),
    }
    write_settings(out, settings)


def _changed(catalog: Catalog, done: dict[str, tuple[int, int]]) -> tuple[str, ...]:
    """Name rows whose file is not the one that was encoded in an earlier call."""
    changed = []
    for index, item_id in enumerate(catalog.ids):
        if item_id in done:
            try:
                status = catalog.file(index).stat()
            except OSError:
                continue
            if (status.st_size, status.st_mtime_ns) != done[item_id]:
                changed.append(item_id)
    return tuple(changed)


class _Shard:
    """Rows gathered for the next shard."""

    def __init__(self, folder: Path, number: int, rows: int) -> None:
        self._folder = folder
        self._rows = rows
        self._number = number
        self._opened = time.monotonic()
        self._jobs: list[FileJob] = []
        self._descriptors: list[NDArray[np.float32]] = []

    def add(self, job: FileJob, descriptor: NDArray[np.float32]) -> None:
        self._jobs.append(job)
        self._descriptors.append(descriptor)

    def is_due(self, worked: float) -> bool:
        """Tell whether to close it, `worked` seconds after the start of the run."""
        age = time.monotonic() - self._opened
        return len(self._jobs) >= self._rows or age > max(_SHARD_SECONDS, _SHARD_SHARE * worked)

    def close(self) -> None:
        if self._jobs:
            stamps = [job.stamp for job in self._jobs if job.stamp is not None]
            items = [job.item for job in self._jobs]
            write_shard(self._folder, self._number, items, stamps, np.stack(self._descriptors))
            self._number += 1
        self._jobs, self._descriptors, self._opened = [], [], time.monotonic()
