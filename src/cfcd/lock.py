"""One writer at a time for a folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfcd.errors import BusyError, CfcdError

FILE = "writer.lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the right to write to a folder during the block.

    The lock is SQLite's own on an empty database: it works on every system and a killed process
    gives it back.

    Raises:
        BusyError: Another process writes to the folder now.
        CfcdError: The folder cannot be written to.
    """
    try:
        connection = sqlite3.connect(folder / FILE, isolation_level=None, timeout=0)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise BusyError(
                f"Another process is writing to {folder}.",
                "Wait until it is done; reading goes on meanwhile.",
            ) from error
        raise CfcdError(
            f"{folder} cannot be written to: {error}.", "Check the permissions and the space of its disk."
        ) from error
    try:
        yield
    finally:
        connection.close()
