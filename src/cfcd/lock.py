"""One writer at a time for a folder."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cfcd.errors import BusyError, CfcdError

FILE = "writer.lock"
_HOLDER = "writer.json"


@contextmanager
def only_writer(folder: Path, what: str = "writing") -> Iterator[Callable[[str], None]]:
    """Hold the right to write to a folder during the block.

    The lock is SQLite's own on an empty database: it works on every system and a killed process
    gives it back. Beside it lies who holds it, for the messages to others.

    Args:
        folder: What to lock.
        what: What the holder does, in one word.

    Yields:
        A function that tells others what the holder does from now on.

    Raises:
        BusyError: Another process writes to the folder now.
        CfcdError: The folder cannot be written to.
    """
    try:
        connection = _lock(folder / FILE)
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise BusyError(
                f"Another process is writing to {folder}{_described(folder)}.",
                "Wait until it is done; reading goes on meanwhile.",
            ) from error
        raise CfcdError(
            f"{folder} cannot be written to: {error}.", "Check the permissions and the space of its disk."
        ) from error

    def tell(what: str) -> None:
        said = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "what": what}
        temporary = folder / f".{_HOLDER}.{os.getpid()}.tmp"
        try:
            temporary.write_text(json.dumps(said))
            temporary.replace(folder / _HOLDER)
        except OSError:
            # On a full disk others have to do without.
            (folder / _HOLDER).unlink(missing_ok=True)
            temporary.unlink(missing_ok=True)

    try:
        tell(what)
        yield tell
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        connection.close()


def _lock(file: Path) -> sqlite3.Connection:
    for last in (False, True):
        connection = sqlite3.connect(file, isolation_level=None, timeout=0)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            return connection
        except BaseException as error:
            connection.close()
            if last or getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_NOTADB:
                raise
            # Something else has written into the file: nobody can hold it then, and it should be empty.
            os.truncate(file, 0)
    raise AssertionError


def holder(folder: Path) -> dict[str, Any]:
    """Give pid, host, since (Unix seconds) and what the holder of a lock does; empty when it is gone."""
    try:
        said = json.loads((folder / _HOLDER).read_bytes())
        if said["host"] == socket.gethostname() and os.name == "posix":
            os.kill(said["pid"], 0)
        return {name: said[name] for name in ("pid", "host", "since", "what")}
    except PermissionError:
        # A process of another user: it is there.
        return dict(said)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _described(folder: Path) -> str:
    said = holder(folder)
    if not said:
        return ""
    since = time.strftime("%H:%M:%S", time.localtime(said["since"]))
    return f" (process {said['pid']} on {said['host']}, since {since})"
