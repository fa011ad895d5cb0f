"""The truth of a gallery: items and fp16 descriptors in an SQLite file, changed in whole transactions.

Its log holds the same a second time (see `repair.py`); everything else in a gallery folder is derived.
Row numbers are never used twice, so what an index lacks is exactly: numbers above its highest, minus
the numbers removed since its generation. What is read is compared with its checksum.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.errors import GalleryError
from cfcd.gallery.truth.changes import (
    FORMAT,
    Changes,
    DamagedStore,
    note_row,
    read_head,
)
from cfcd.gallery.truth.database import FILE, open_database, says_damage, state_of
from cfcd.gallery.truth.log import FILE as LOG
from cfcd.gallery.truth.log import Head, LogWriter
from cfcd.gallery.truth.repair import (
    forget,
    leave,
    make_ready,
    new_store,
    only_writer_of,
    refuse_format,
    write_log,
    write_log_of,
)
from cfcd.gallery.truth.rows import Skipped, to_row
from cfcd.gallery.truth.store_rows import StoreRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FILE", "FORMAT", "Store"]
_FULL = "Free some space on its disk; the gallery is as it was before."


class Store(StoreRows):
    """Read and change a gallery's truth.

    Args:
        folder: The gallery folder (see `Store.create`).
        write: Open for writing; the caller holds `only_writer`.

    Raises:
        GalleryError: The folder holds no gallery, or one that cannot be read.
    """

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.folder = folder
        if not self.exists(folder):
            raise GalleryError(
                f"{folder} is no gallery: it holds no {FILE}.",
                "A gallery is a folder that cfcd index PHOTOS --out GALLERY has made.",
            )
        self._lock = threading.RLock()
        self._write = write
        self._suspect = False
        self._open()

    def _open(self) -> None:
        file = self.folder / FILE
        make_ready(self.folder, write=self._write, suspect=self._suspect)
        try:
            self._opened = state_of(file)
            # SQLite does not look for changes on a medium it was told is read-only: we do.
            self._connection, self._still = open_database(file, self._write)
            found = self.meta("format")
        except (sqlite3.DatabaseError, FileNotFoundError) as error:
            raise GalleryError(
                f"{file} cannot be read as a gallery: {error}.", "Index the pictures again into a new folder."
            ) from error
        if found not in {"1", FORMAT}:
            self._connection.close()
            refuse_format(self.folder, found)
        # Stores of format 1 had no checksums; they get them when they are opened for writing.
        self._checksum = "NULL" if found == "1" else "checksum"
        self._log = LogWriter(self.folder / LOG) if self._write else None
        self._suspect = False

    @staticmethod
    def exists(folder: Path) -> bool:
        """Tell whether a folder holds a store, or its log, from which it is made anew."""
        return (folder / FILE).is_file() or (folder / LOG).is_file()

    @classmethod
    def create(cls, folder: Path, meta: dict[str, str]) -> None:
        """Make an empty store; it appears whole or not at all.

        Args:
            folder: An empty or absent folder.
            meta: What the gallery is bound to (model identity, dimensions, ...).

        Raises:
            GalleryError: Another process has made one there meanwhile.
            BusyError: Another process makes one there now.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever looks meanwhile sees one of the two files, and would make the other one.
        with only_writer_of(folder):
            if cls.exists(folder):
                raise GalleryError(
                    f"Another process has just made a gallery in {folder}.", "Run the command again."
                )
            with new_store(folder, lambda made: write_log_of(made, folder)) as connection:
                changes = Changes(connection, Head(0, b"", 0, 1, 0), note=False)
                for key, value in {"format": FORMAT, **meta}.items():
                    changes.apply(["meta", key, value])
                changes.finish(0, secrets.token_bytes(8))
            leave(folder)

    def _shut(self) -> None:
        self._connection.close()
        if self._log is not None:
            self._log.close()

    def close(self) -> None:
        """Close the file; a writer leaves everything in it, so that it can be copied alone."""
        if not self._write:
            self._shut()
            return
        # On a full disk SQLite's own log stays beside the file, and both together are whole.
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._shut()
        if not self._suspect:
            leave(self.folder)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one generation throughout the block, whatever a writer does meanwhile; one thread at a time.

        Raises:
            DamagedStore: What was read is damaged; the next `reading` begins with mending it.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            if self._suspect or self._is_replaced():
                self._shut()
                self._open()
            self._connection.execute("BEGIN")
            try:
                with self.noticing():
                    yield
            finally:
                self._roll_back()

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Have the store checked when it is opened next, should it turn out in the block that it is damaged.

        Raises:
            DamagedStore: What was read is damaged.
        """
        try:
            yield
        except DamagedStore:
            self._distrust()
            raise
        except sqlite3.Error as error:
            if not says_damage(error):
                raise
            self._distrust()
            raise DamagedStore(self.folder / FILE, str(error)) from error

    def _distrust(self) -> None:
        self._suspect = True
        forget(self.folder)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _is_replaced(self) -> bool:
        """Tell whether another file has the name of the one that is open: it was mended, or restored."""
        try:
            now = state_of(self.folder / FILE)
        except OSError:
            return not self._write
        return now != self._opened if self._still else now[0] != self._opened[0]

    @contextmanager
    def changing(self) -> Iterator[int]:
        """Change the store in one transaction: all of the block is kept or none; gives the new generation.

        The change is on disk twice when the block ends: in the log, then in the store.

        Raises:
            GalleryError: The disk is full; nothing has changed.
        """
        if not self._write:
            raise sqlite3.OperationalError("the store is open for reading only")
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            generation = -1
            try:
                head = read_head(self._connection)
                generation = head.generation + 1
                self._changes = Changes(self._connection, head)
                yield generation
                self._commit(generation)
            except BaseException as error:
                self._undo(generation)
                if isinstance(error, OSError) or _is_full(error):
                    raise GalleryError(f"{self.folder} cannot be changed: {error}.", _FULL) from error
                raise

    def _commit(self, generation: int) -> None:
        assert self._log is not None
        head = self._changes.finish(generation, secrets.token_bytes(8))
        self._log.append(head, self._changes.noted)
        self._connection.execute("COMMIT")
        self._log.keep()

    def _undo(self, generation: int) -> None:
        """Take back what was not committed; an interrupt may have come right after it was."""
        assert self._log is not None
        try:
            self._roll_back()
            if self.generation == generation:
                self._log.keep()
            else:
                self._log.undo()
        except (OSError, sqlite3.Error):
            # The next opening finds out what is true.
            self._distrust()

    def rewrite(self, keep: int) -> None:
        """Write log and store anew, without what was changed or removed since.

        Args:
            keep: An index that is more generations behind has to be built anew.
        """
        assert self._log is not None
        with self.changing() as generation:
            self._changes.apply(["prune", generation - keep])
        self._log.close()
        try:
            write_log(self.folder)
            self._connection.execute("VACUUM")
        except (OSError, sqlite3.OperationalError) as error:
            raise GalleryError(f"{self.folder} cannot be compacted: {error}.", _FULL) from error
        finally:
            self._log = LogWriter(self.folder / LOG)

    def set_meta(self, key: str, value: str | None) -> None:
        """Write one value of the gallery's description, or take it out; within `changing`."""
        self._changes.apply(["meta", key, value])

    def insert(
        self, source: str, key: str, item: Item, stamp: FileStamp, descriptor: NDArray[np.floating[Any]]
    ) -> None:
        """Add one item with its (D,) descriptor; within `changing`."""
        row = note_row((self._changes.next_number, *to_row(source, key, item, stamp)))
        self._changes.apply(["add", [row]], descriptor.astype("<f2").tobytes())

    def lift(self, numbers: Iterable[int]) -> None:
        """Take items out but leave their descriptors, for `put_back` in the same `changing`."""
        self._changes.apply(["lift", list(numbers)])

    def put_back(self, number: int, source: str, key: str, item: Item, stamp: FileStamp) -> None:
        """Describe a lifted item anew; within `changing`."""
        self._changes.apply(["put", [note_row((number, *to_row(source, key, item, stamp)))]])

    def remove(self, numbers: Iterable[int], generation: int) -> None:
        """Delete items by row number; within `changing`, with the generation it gave."""
        if numbers := list(numbers):
            self._changes.apply(["remove", numbers, generation])

    def replace_skipped(self, source: str, skipped: dict[str, Skipped]) -> None:
        """Replace the list of what could not be encoded from a source; within `changing`."""
        rows = [[key, row.path, row.size, row.mtime_ns, row.box, row.reason] for key, row in skipped.items()]
        self._changes.apply(["skipped", source, rows])


def _is_full(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
