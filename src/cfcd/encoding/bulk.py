"""Encode a whole catalog into shards, restartable after any interruption."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
from PIL import Image

from cfcd.catalog import Catalog, Item
from cfcd.encoding.encoder import Encoder
from cfcd.encoding.preprocess import wanted_long_side
from cfcd.encoding.reconcile import claim_folder, file_state, keep_current
from cfcd.encoding.rows import FileStamp
from cfcd.encoding.shards import (
    is_encoded,
    shard_numbers,
    write_shard,
    write_skipped,
)
from cfcd.errors import EncodingError, PictureError, UnreadablePicture
from cfcd.files import content_digest, is_free
from cfcd.lock import only_writer

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
    seconds: float

    @property
    def nothing_readable(self) -> bool:
        """Tell whether there were pictures and not one of them could be read."""
        return bool(self.skipped) and not self.encoded + self.already

    def text(self) -> str:
        """Give the summary in one line."""
        counts = f"encoded {self.encoded}, already there {self.already}, skipped {len(self.skipped)}"
        line = f"{counts} -> {self.folder} ({self.seconds:.1f} s)"
        if self.nothing_readable:
            line += (
                f"\nnone of the {len(self.skipped)} pictures could be read: cfcd check names what is wrong"
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
            "seconds": round(self.seconds, 3),
        }


class Engine(Protocol):
    """Encode the pictures of catalog rows, here or elsewhere; see `encode_items`."""

    def __call__(
        self, encoder: Encoder, items: Iterable[Item]
    ) -> Generator[tuple[FileJob, NDArray[np.float32] | PictureError]]:
        """Give the job and the descriptor, or the error, of each row, in order."""
        ...


def encode_items(
    encoder: Encoder, items: Iterable[Item]
) -> Generator[tuple[FileJob, NDArray[np.float32] | PictureError]]:
    """Encode the pictures of catalog rows, cropped to their boxes.

    Yields:
        (job with the file's stamp, (D,) float32 unit descriptor), or the error of that picture.
    """
    long_side = wanted_long_side(encoder.model.config.preprocessing)

    def load(job: FileJob) -> Image.Image:
        path = job.item.path
        before = file_state(path)
        try:
            picture = encoder.reading.load(path, box=job.item.box, long_side=long_side)
            digest = content_digest(path)
        except OSError as error:
            raise UnreadablePicture(
                f"Cannot read {path}: {error.strerror or error}.", "Check the path and the disk."
            ) from error
        except PictureError:
            if file_state(path) not in (before, None):  # half a file, and its other half is here now
                _refuse_changed(path)
            raise
        if before is None or file_state(path) != before:
            _refuse_changed(path)
        job.stamp = FileStamp(*before, digest)
        return picture

    yield from encoder.stream(map(FileJob, items), load)


def _refuse_changed(path: Path) -> NoReturn:
    # The cause tells callers that the fault lies not in the file's bytes: another try is worthwhile.
    raise UnreadablePicture(
        f"{path} changed while it was read.", "Encode again when it is at rest."
    ) from OSError(errno.EAGAIN, "it was being written")


def encode_catalog(
    catalog: Catalog,
    encoder: Encoder,
    out: str | Path,
    *,
    shard_rows: int = 8192,
    engine: Engine = encode_items,
    progress: Callable[[int, int], None] | None = None,
) -> EncodeSummary:
    """Encode a catalog into a folder of shards; a second call does only what is missing or has changed.

    Every picture ends in exactly one shard or in `skipped.csv`, also when the process was killed in
    between; skipped pictures are tried again by the next call. Rows that the catalog no longer lists
    leave the folder, and labels and further columns are those of today.

    Args:
        catalog: What to encode.
        encoder: The model.
        out: Folder for the shards; made when absent.
        shard_rows: Rows of a full shard; slow models close theirs earlier, by time.
        engine: Encodes the pictures; `cfcd.encoding.ray_engine.RayEngine` does so on many machines.
        progress: Called with (done, total) pictures.

    Raises:
        EncodingError: `out` is damaged, or holds something else or another collection.
        IdentityMismatch: `out` was encoded with another model or preprocessing.
        BusyError: Another process encodes into `out` now.
    """
    out = Path(out)
    if not is_encoded(out) and not is_free(out):
        raise EncodingError(f"{out} exists and is no encoded folder.", "Give a new or empty folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EncodingError(
            f"{out} cannot be made: {error.strerror or error}.", "Give another --out folder."
        ) from error
    with only_writer(out):
        claim_folder(out, catalog, encoder)
        return _encode_missing(catalog, encoder, out, shard_rows, engine, progress)


def _encode_missing(
    catalog: Catalog,
    encoder: Encoder,
    out: Path,
    shard_rows: int,
    engine: Engine,
    progress: Callable[[int, int], None] | None,
) -> EncodeSummary:
    start = time.monotonic()
    done = keep_current(out, catalog, encoder.dim)
    todo = [index for index in range(len(catalog)) if index not in done]
    already = len(done)
    skipped: list[tuple[Item, str]] = []
    shard = _Shard(out, max(shard_numbers(out), default=-1) + 1, shard_rows)
    if progress and todo:
        progress(already, len(catalog))
    try:
        with closing(engine(encoder, (catalog[index] for index in todo))) as results:
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
    return EncodeSummary(out, len(todo) - len(skipped), already, tuple(skipped), time.monotonic() - start)


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
