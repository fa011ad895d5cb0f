"""Open a gallery's SQLite file for reading or writing, also on a read-only medium."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


def open_database(file: Path, write: bool) -> tuple[sqlite3.Connection, bool]:
    """Open the file; tells as well whether it was opened as lying on a read-only medium."""

    def connect(mode: str) -> sqlite3.Connection:
        uri = f"{file.resolve().as_uri()}?{mode}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False)
        try:
            connection.execute("SELECT count(*) FROM meta")
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    if write:
        connection = connect("mode=rw")
        # FULL: an acknowledged batch is on disk, also after a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        return connection, False
    try:
        return connect("mode=ro"), False
    except sqlite3.OperationalError:
        # A read-only medium has no place for the files that keep readers and writers apart. A log
        # beside the store holds changes that would be overlooked then.
        log = file.with_name(f"{file.name}-wal")
        if os.access(file.parent, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        return connect("immutable=1"), True


def state_of(file: Path) -> tuple[int, int, int]:
    """Give what changes when a file does: inode, bytes, mtime (ns)."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
