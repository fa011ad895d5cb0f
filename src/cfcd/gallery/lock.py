"""One writer at a time for a gallery."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfcd.errors import GalleryError

FILE = "writer.lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the right to write to a gallery during the block.

    The lock is SQLite's own on an empty database: it works on every system and a killed process
    gives it back.

    Raises:
        GalleryError: Another process writes to the gallery now.
    """
    connection = sqlite3.connect(folder / FILE, isolation_level=None, timeout=0)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise GalleryError(
                    f"{folder} cannot be written to: {error}.",
                    "Check the permissions and the space of its disk.",
                ) from error
            raise GalleryError(
                f"Another process is writing to {folder}.",
                "Wait until it is done; searching goes on meanwhile.",
            ) from error
        yield
    finally:
        connection.close()
