"""Two copies of a gallery's truth, of which either mends the other: gallery.sqlite and gallery.log.

A change is on disk in the log before SQLite commits it, and both are before it is acknowledged. So
after a kill the log is at most one generation ahead, which is then repeated; whatever else differs is
damage. A gallery whose files are as the last writer or check left them is opened without a look into them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from cfcd.errors import BusyError, CfcdError, GalleryError
from cfcd.files import atomic_write, sync_folder
from cfcd.gallery.truth import log as log_room
from cfcd.gallery.truth.changes import (
    FORMAT,
    SCHEMA,
    Changes,
    DamagedStore,
    check_history,
    content,
    read_head,
    snapshot,
)
from cfcd.gallery.truth.database import FILE, connect, is_passing, open_database
from cfcd.gallery.truth.log import Head, LogState, read_frames, scan, write_changes
from cfcd.lock import holder, only_writer

_MARK = "checked.json"
_WAIT_SECONDS = 60.0


def make_ready(folder: Path, *, write: bool, suspect: bool = False) -> None:
    """Check a gallery that was not left in order, and mend it.

    Args:
        folder: The gallery.
        write: The caller is its only writer; else this takes that role for as long as it mends.
        suspect: Check it even if it looks untouched.

    Raises:
        GalleryError: It is no gallery, of another format, or damaged beyond what two copies can mend.
    """
    if not (suspect or not _is_as_left(folder)):
        return
    if write:
        _mend_and_mark(folder)
        return
    if not suspect and format_of(folder / FILE) == "1":
        return
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        with ExitStack() as stack:
            try:
                stack.enter_context(only_writer(folder, "mending"))
            except BusyError:
                busy = True
            except CfcdError:
                _check_as_it_is(folder, suspect)
                return
            else:
                if suspect or not _is_as_left(folder):
                    _mend_and_mark(folder)
                return
        # A writer has checked the gallery before it began, and leaves it whole at every moment.
        if busy and holder(folder).get("what") == "writing" and not suspect:
            return
        if time.monotonic() > deadline:
            raise GalleryError(
                f"{folder} is being mended by another process, or waits for a writer to end.",
                "Try again in a while.",
            )
        time.sleep(0.02)


@contextmanager
def only_writer_of(folder: Path) -> Iterator[Callable[[str], None]]:
    """Hold the right to write to a gallery, once nobody mends it: a reader that has just opened it may.

    Yields:
        What tells others what the holder does, see `only_writer`.

    Raises:
        BusyError: Another process writes to the gallery, or mends it for more than a minute.
    """
    start = time.monotonic()
    with ExitStack() as stack:
        while True:
            try:
                tell = stack.enter_context(only_writer(folder, "mending"))
                break
            except BusyError:
                said = holder(folder).get("what")
                # Nothing is said in the instant in which a holder comes or goes.
                patience = {"mending": _WAIT_SECONDS, None: 1.0}.get(said, 0.0)
                if time.monotonic() - start >= patience:
                    raise
            time.sleep(0.02)
        yield tell


def leave(folder: Path) -> None:
    """Note what the files look like, so that the next opening need not look into them."""
    temporary = folder / f".{_MARK}.{os.getpid()}.tmp"
    try:
        temporary.write_text(json.dumps(_states(folder)))
        temporary.replace(folder / _MARK)
    except OSError:
        # A full disk: the next opening checks the gallery, no more.
        temporary.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Have the next opening look into the files."""
    with suppress(OSError):
        (folder / _MARK).unlink(missing_ok=True)


def _states(folder: Path) -> dict[str, list[int]]:
    states = {}
    for name in (FILE, f"{FILE}-wal", log_room.FILE):
        try:
            status = (folder / name).stat()
        except FileNotFoundError:
            continue
        if status.st_size or name == FILE:
            states[name] = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return states


def _is_as_left(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _MARK).read_bytes()) == _states(folder))
    except (OSError, ValueError):
        return False


def _mend_and_mark(folder: Path) -> None:
    mend(folder)
    leave(folder)


def mend(folder: Path) -> None:
    """Check both copies whole, and mend the one that is damaged or behind; only as the only writer.

    Raises:
        GalleryError: Both are damaged, or of another format.
    """
    for pattern in (f".{FILE}.*.tmp*", f".{log_room.FILE}.*.tmp"):
        for stray in folder.glob(pattern):
            stray.unlink(missing_ok=True)
    state = scan(folder / log_room.FILE)
    found = format_of(folder / FILE)
    if found == "1":
        from cfcd.gallery.truth.upgrade import upgrade

        upgrade(folder)
    elif found not in {FORMAT, None} and state.head is None:
        refuse_format(folder, found)
    head = examine(folder / FILE)
    if head is None:
        if state.head is None or state.beyond > state.head.generation:
            raise _hopeless(folder)
        rebuild_store(folder, state)
    elif state.head == head:
        _cut(folder, state)
    elif state.head is not None and state.head.generation > head.generation and state.holds(head):
        if not _repeat(folder, state, head):
            rebuild_store(folder, state)
        _cut(folder, state)
    elif state.beyond > head.generation + 1:
        raise _hopeless(folder)
    else:
        if state.head is not None and not _is_ancestor(folder / FILE, state.head):
            # Somebody put files of two galleries together: nothing of the other is thrown away.
            (folder / log_room.FILE).rename(folder / f"gallery-{state.head.token.hex()}.log")
        write_log(folder)


def _hopeless(folder: Path) -> GalleryError:
    return GalleryError(
        f"{folder} cannot be read as a gallery: {FILE} and {log_room.FILE} are both damaged or missing.",
        "Restore a backup of the folder, or index the pictures again into a new one.",
    )


def _cut(folder: Path, state: LogState) -> None:
    if state.end < state.size:
        os.truncate(folder / log_room.FILE, state.end)


def refuse_format(folder: Path, found: str) -> None:
    """Raise GalleryError that names the format."""
    raise GalleryError(
        f"{folder / FILE} has format {found}, this cfcd reads formats 1 and {FORMAT}.",
        "Use the cfcd that wrote it, or index again.",
    )


def format_of(file: Path) -> str | None:
    """Give the format a store says it has, None when it does not say."""
    try:
        with closing(open_database(file, write=False)[0]) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
            return None if row is None else str(row[0])
    except sqlite3.Error:
        return None


def examine(file: Path) -> Head | None:
    """Read a store whole and give its generation, None when anything in it is not as it was written.

    Raises:
        GalleryError: The file cannot be looked into, which says nothing of what it holds.
    """
    if not file.is_file():
        return None
    if not os.access(file, os.W_OK):
        raise GalleryError(f"{file} cannot be written to.", "Check its permissions.")
    try:
        with closing(connect(file, "mode=rw")) as connection:
            return _examine(connection)
    except DamagedStore:
        return None
    except sqlite3.Error as error:
        if is_passing(error):
            raise GalleryError(f"{file} cannot be read now: {error}.", "Try again.") from error
        return None


def _examine(connection: sqlite3.Connection) -> Head | None:
    in_order = connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.execute("BEGIN")
    in_order = in_order and _schema(connection) == _expected_schema()
    if not in_order or connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        return None
    head = read_head(connection)
    check_history(connection.execute("SELECT * FROM history ORDER BY generation"))
    return head if content(connection) == (head.items, head.content) else None


def _schema(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(
        connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name != 'sqlite_sequence'"
        )
    )


def _expected_schema() -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _schema(connection)


def _is_ancestor(file: Path, head: Head) -> bool:
    with closing(connect(file, "mode=rw")) as connection:
        query = "SELECT token FROM history WHERE generation = ?"
        return bool(connection.execute(query, (head.generation,)).fetchone() == (head.token,))


def _repeat(folder: Path, state: LogState, head: Head) -> bool:
    """Bring a store that is whole up to its log; tells whether it then is."""
    start = state.generations[head.generation][1]
    if not start:
        return False
    with (
        closing(connect(folder / FILE, "mode=rw")) as connection,
        (folder / log_room.FILE).open("rb") as file,
    ):
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            _apply(connection, head, read_frames(file, start), state.end)
        except (DamagedStore, sqlite3.Error):
            connection.execute("ROLLBACK")
            return False
        connection.execute("COMMIT")
    return True


def _apply(connection: sqlite3.Connection, head: Head, frames: Iterable[log_room.Frame], end: int) -> None:
    changes = Changes(connection, head, note=False)
    for frame in frames:
        for change, vectors in frame.changes():
            changes.apply(change, vectors)
        if frame.last:
            if frame.base:
                changes.next_number = frame.head.next_number
            elif changes.finish(frame.head.generation, frame.head.token) != frame.head:
                raise DamagedStore("The store", f"its log leads elsewhere at {frame.head.generation}")
        if frame.end == end:
            break
    # Also of the base, whose history is among its changes.
    if read_head(connection) != Head(frame.head.generation, frame.head.token, *changes.numbers()):
        raise DamagedStore("The store", "its log does not add up")


def rebuild_store(folder: Path, state: LogState) -> None:
    """Make the store anew from its log, which then is cut to what is whole."""
    with new_store(folder) as connection, (folder / log_room.FILE).open("rb") as file:
        _apply(connection, Head(0, b"", 0, 1, 0), read_frames(file), state.end)
    _cut(folder, state)


@contextmanager
def new_store(
    folder: Path, before: Callable[[sqlite3.Connection], None] | None = None
) -> Iterator[sqlite3.Connection]:
    """Make a store that takes the name of the old one when the block is done; in one transaction.

    Args:
        folder: The gallery.
        before: Called with the finished store before it takes the name.
    """
    temporary = folder / f".{FILE}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            connection.execute("PRAGMA page_size = 8192")
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(f"BEGIN; {SCHEMA}")
            yield connection
            connection.execute("COMMIT")
            if before:
                before(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # The old one's log of pages would be taken for the new one's; its content is in the gallery's log.
        for suffix in ("-wal", "-shm"):
            (folder / f"{FILE}{suffix}").unlink(missing_ok=True)
        temporary.replace(folder / FILE)
        sync_folder(folder)
    except sqlite3.Error as error:
        raise GalleryError(
            f"{folder / FILE} cannot be made: {error}.", "Check the space of its disk."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_log(folder: Path) -> None:
    """Make the log anew from the store, which must be whole."""
    with closing(connect(folder / FILE, "mode=rw")) as connection:
        write_log_of(connection, folder)


def write_log_of(connection: sqlite3.Connection, folder: Path) -> None:
    """Make the log of a store that may not have its name yet."""
    connection.execute("BEGIN")
    with atomic_write(folder / log_room.FILE) as file:
        write_changes(file, read_head(connection), snapshot(connection), base=True)
    connection.execute("COMMIT")


def _check_as_it_is(folder: Path, suspect: bool) -> None:
    """Look at a gallery that cannot be mended where it is."""
    found, head = format_of(folder / FILE), None
    if not suspect and found is not None:
        with closing(open_database(folder / FILE, write=False)[0]) as connection:
            head = None if found == "1" else read_head(connection)
        path = folder / log_room.FILE
        if head is None or not path.exists():
            return
        with path.open("rb") as file:
            ahead = max((frame.head.generation for frame in read_frames(file, check=False)), default=0)
        # A writer with other rights may be at work, which is ahead in its log by one.
        if ahead <= head.generation + 1:
            return
    raise GalleryError(
        f"{folder} is damaged, and cannot be mended where it is: it cannot be written to.",
        "Copy the folder to where it can be written to and open it there.",
    )
