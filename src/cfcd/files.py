"""Files that are whole or absent, and short fingerprints of their contents."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when whole and on disk.

    A killed process leaves the old file, or none, and at worst a stray `.tmp` file beside it.

    Args:
        path: The name the file gets; an existing file is replaced.

    Yields:
        A binary file to write to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_png(picture: Image.Image, path: Path) -> Path:
    """Write a PNG file, whole or not at all, and give its path; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        picture.save(file, "PNG")
    return path


def is_free(folder: Path) -> bool:
    """Tell whether a folder is absent, empty, or holds only what an interrupted start left behind."""
    if not folder.exists():
        return True
    left = re.compile(r"\..*\.tmp(-journal|-wal|-shm)?|writer\.(lock(-journal)?|json)")
    return folder.is_dir() and all(left.fullmatch(entry.name) for entry in folder.iterdir())


def sync_folder(folder: Path) -> None:
    """Put a rename in this folder on disk, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")


def content_digest(path: Path) -> bytes:
    """Compute the 16-byte BLAKE2b digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
