"""Open a gallery's SQLite file for reading or writing, also on a read-only medium."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

FILE = "gallery.sqlite"
# Errors of SQLite that say something of the machine, not of the file.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
}


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """Connect to a file that is there; `mode` is "mode=rw", "mode=ro" or "immutable=1"."""
    uri = f"{file.resolve().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False)


def open_database(file: Path, write: bool) -> tuple[sqlite3.Connection, bool]:
    """Open the file; tells as well whether it was opened as lying on a read-only medium."""
    if write:
        connection = _open(file, "mode=rw")
        # FULL: an acknowledged batch is on disk, also after a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        # 64 MB: a large import then writes pages that it changes again and again less often.
        connection.execute("PRAGMA wal_autocheckpoint = 8000")
        return connection, False
    try:
        return _open(file, "mode=ro"), False
    except sqlite3.OperationalError:
        # A read-only medium has no place for the files that keep readers and writers apart. A log
        # beside the store holds changes that would be overlooked then.
        log = file.with_name(f"{file.name}-wal")
        if os.access(file.parent, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        return _open(file, "immutable=1"), True


def _open(file: Path, mode: str) -> sqlite3.Connection:
    connection = connect(file, mode)
    try:
        connection.execute("SELECT count(*) FROM meta")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def state_of(file: Path) -> tuple[int, int, int]:
    """Give what changes when a file does: inode, bytes, mtime (ns)."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_passing(error: sqlite3.Error) -> bool:
    """Tell whether an error says nothing of what the file holds: it is locked, the disk is full, ..."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING


def says_damage(error: sqlite3.Error) -> bool:
    """Tell whether an error means that the file is not what SQLite once wrote."""
    if is_passing(error) or isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return False
    # A statement that cannot be run is its author's fault, unless a table has gone.
    generic = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR
    return not generic or "no such table" in str(error)
