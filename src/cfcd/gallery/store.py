"""The truth of a gallery: items and fp16 descriptors in one SQLite file, changed in whole transactions.

Everything else in a gallery folder is derived from this file. Row numbers are never used twice, so
what an index lacks is exactly: numbers above its highest, minus the numbers removed since its
generation.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.errors import GalleryError
from cfcd.gallery.database import open_database, state_of
from cfcd.gallery.rows import ITEM_COLUMNS, Skipped, StoredItem, to_item, to_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "1"
FILE = "gallery.sqlite"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,      -- what users call the item
    source TEXT NOT NULL,         -- the catalog it came from ...
    key TEXT NOT NULL,            -- ... and its id there
    path TEXT NOT NULL,
    label TEXT, split TEXT, is_query INTEGER, is_gallery INTEGER, row INTEGER,
    x_1 REAL, y_1 REAL, x_2 REAL, y_2 REAL,
    extra TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL,
    UNIQUE (source, key)
);
CREATE TABLE history (generation INTEGER PRIMARY KEY, token BLOB NOT NULL);
CREATE TABLE descriptors (number INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE removed (number INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE TABLE skipped (
    source TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL,
    size INTEGER, mtime_ns INTEGER, box TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (source, id)
) WITHOUT ROWID;
"""


class Store:
    """Read and change a gallery's SQLite file.

    Args:
        folder: The gallery folder; its store must exist (see `Store.create`).
        write: Open for writing.

    Raises:
        GalleryError: The folder holds no gallery, or one that cannot be read.
    """

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.folder = folder
        file = folder / FILE
        if not file.is_file():
            raise GalleryError(
                f"{folder} is no gallery: it holds no {FILE}.",
                "A gallery is a folder that cfcd index PHOTOS --out GALLERY has made.",
            )
        self._lock = threading.RLock()
        try:
            self._connect(write)
            found = self.meta("format")
        except sqlite3.DatabaseError as error:
            raise GalleryError(
                f"{file} cannot be read as a gallery: {error}.", "Index the pictures again into a new folder."
            ) from error
        if found != FORMAT:
            raise GalleryError(
                f"{file} has format {found}, this cfcd reads format {FORMAT}.",
                "Use the cfcd that wrote it, or index again.",
            )

    @classmethod
    def create(cls, folder: Path, meta: dict[str, str]) -> None:
        """Make an empty store; it appears whole or not at all.

        Args:
            folder: An empty or absent folder.
            meta: What the gallery is bound to (model identity, dimensions, ...).
        """
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{FILE}.{os.getpid()}.tmp"
        temporary.unlink(missing_ok=True)
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            rows = {"format": FORMAT, **meta}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        temporary.replace(folder / FILE)

    def _connect(self, write: bool) -> None:
        file = self.folder / FILE
        before = state_of(file)
        self._write = write
        self._connection, immutable = open_database(file, write)
        # SQLite does not look for changes on a medium it was told is read-only: we do.
        self._still = before if immutable else None

    def close(self) -> None:
        """Close the file; a writer leaves everything in it, so that it can be copied alone."""
        if self._write:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one generation throughout the block, whatever a writer does meanwhile; one thread at a time."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            if self._still is not None and self._still != state_of(self.folder / FILE):
                self._connect(write=False)
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    @contextmanager
    def changing(self) -> Iterator[int]:
        """Change the store in one transaction: all of the block is kept or none; gives the new generation."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                generation = self.generation + 1
                self._connection.execute(
                    "INSERT INTO history VALUES (?, ?)", (generation, secrets.token_bytes(8))
                )
                yield generation
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def meta(self, key: str) -> str:
        """Read one value of the gallery's description; "" when it has none."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return "" if row is None else str(row[0])

    @property
    def generation(self) -> int:
        """Give the number of changes so far."""
        return int(self._connection.execute("SELECT coalesce(max(generation), 0) FROM history").fetchone()[0])

    def token(self, generation: int) -> bytes:
        """Give the random mark of a generation, b"" where this store never had it.

        It tells two stores apart that have made as many changes, such as a backup that went its own way.
        """
        row = self._connection.execute(
            "SELECT token FROM history WHERE generation = ?", (generation,)
        ).fetchone()
        return b"" if row is None else bytes(row[0])

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM items").fetchone()[0])

    def items(self, source: str | None = None) -> Iterator[StoredItem]:
        """Walk all items, or those of one source, by row number."""
        where, values = ("", ()) if source is None else ("WHERE source = ?", (source,))
        query = f"SELECT number, {ITEM_COLUMNS} FROM items {where} ORDER BY number"
        for row in self._connection.execute(query, values):
            yield to_item(row)

    def find(self, item_id: str) -> StoredItem | None:
        """Find an item by id."""
        row = self._connection.execute(
            f"SELECT number, {ITEM_COLUMNS} FROM items WHERE id = ?", (item_id,)
        ).fetchone()
        return None if row is None else to_item(row)

    def by_number(self, numbers: Sequence[int]) -> dict[int, StoredItem]:
        """Find items by row number."""
        found = {}
        for number in numbers:
            row = self._connection.execute(
                f"SELECT number, {ITEM_COLUMNS} FROM items WHERE number = ?", (number,)
            ).fetchone()
            if row is not None:
                found[number] = to_item(row)
        return found

    def find_key(self, source: str, key: str) -> StoredItem | None:
        """Find an item by the catalog it came from and its id there."""
        row = self._connection.execute(
            f"SELECT number, {ITEM_COLUMNS} FROM items WHERE source = ? AND key = ?", (source, key)
        ).fetchone()
        return None if row is None else to_item(row)

    def has_id(self, item_id: str) -> bool:
        """Tell whether an item has this id."""
        return self._connection.execute("SELECT 1 FROM items WHERE id = ?", (item_id,)).fetchone() is not None

    def sources(self) -> dict[str, int]:
        """Count items by the source they were indexed from."""
        return dict(
            self._connection.execute("SELECT source, count(*) FROM items GROUP BY source ORDER BY source")
        )

    def label_count(self) -> int:
        """Count distinct labels."""
        return int(self._connection.execute("SELECT count(DISTINCT label) FROM items").fetchone()[0])

    def descriptors_above(
        self, number: int, dim: int, block: int = 8192
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Read the descriptors of rows above a number, block by block.

        Yields:
            (n,) int64 row numbers, ascending, and their (n, dim) fp16 descriptors.

        Raises:
            GalleryError: A descriptor has another dimension.
        """
        cursor = self._connection.execute(
            "SELECT number, vector FROM descriptors WHERE number > ? ORDER BY number", (number,)
        )
        while rows := cursor.fetchmany(block):
            if any(len(vector) != 2 * dim for _, vector in rows):
                raise GalleryError(
                    f"{self.folder / FILE} holds a descriptor that is not {dim}-dimensional.",
                    "Index the pictures again into a new folder.",
                )
            numbers = np.array([row[0] for row in rows], np.int64)
            vectors = np.frombuffer(b"".join(row[1] for row in rows), np.dtype("<f2"))
            yield numbers, vectors.reshape(len(rows), dim)

    def count_above(self, number: int) -> int:
        """Count the rows above a number."""
        found = self._connection.execute("SELECT count(*) FROM items WHERE number > ?", (number,)).fetchone()
        return int(found[0])

    def descriptor(self, number: int) -> NDArray[np.float32]:
        """Read one item's descriptor, (D,) float32."""
        row = self._connection.execute(
            "SELECT vector FROM descriptors WHERE number = ?", (number,)
        ).fetchone()
        return np.frombuffer(row[0], np.dtype("<f2")).astype(np.float32)

    def removed_since(self, generation: int) -> NDArray[np.int64]:
        """List the row numbers removed after a generation, (n,) int64."""
        rows = self._connection.execute("SELECT number FROM removed WHERE generation > ?", (generation,))
        return np.array([row[0] for row in rows], np.int64)

    def insert(
        self, source: str, key: str, item: Item, stamp: FileStamp, descriptor: NDArray[np.floating[Any]]
    ) -> None:
        """Add one item with its (D,) descriptor; within `changing`."""
        cursor = self._connection.execute(
            f"INSERT INTO items ({ITEM_COLUMNS}) VALUES (?{', ?' * 16})", to_row(source, key, item, stamp)
        )
        vector = descriptor.astype("<f2").tobytes()
        self._connection.execute("INSERT INTO descriptors VALUES (?, ?)", (cursor.lastrowid, vector))

    def lift(self, numbers: Iterable[int]) -> None:
        """Take items out but leave their descriptors, for `put_back` in the same `changing`."""
        self._connection.executemany("DELETE FROM items WHERE number = ?", ((number,) for number in numbers))

    def put_back(self, number: int, source: str, key: str, item: Item, stamp: FileStamp) -> None:
        """Describe a lifted item anew; within `changing`."""
        self._connection.execute(
            f"INSERT INTO items (number, {ITEM_COLUMNS}) VALUES (?{', ?' * 17})",
            (number, *to_row(source, key, item, stamp)),
        )

    def remove(self, numbers: Iterable[int], generation: int) -> None:
        """Delete items by row number; within `changing`, with the generation it gave."""
        for number in numbers:
            self._connection.execute("DELETE FROM items WHERE number = ?", (number,))
            self._connection.execute("DELETE FROM descriptors WHERE number = ?", (number,))
            self._connection.execute("INSERT INTO removed VALUES (?, ?)", (number, generation))

    def skipped(self, source: str | None = None) -> dict[str, Skipped]:
        """List what could not be encoded, by the id it has in its catalog."""
        where, values = ("", ()) if source is None else ("WHERE source = ?", (source,))
        rows = self._connection.execute(
            f"SELECT id, path, size, mtime_ns, box, reason FROM skipped {where}", values
        )
        return {row[0]: Skipped(*row[1:]) for row in rows}

    def replace_skipped(self, source: str, skipped: dict[str, Skipped]) -> None:
        """Replace the list of what could not be encoded from a source; within `changing`."""
        self._connection.execute("DELETE FROM skipped WHERE source = ?", (source,))
        self._connection.executemany(
            "INSERT INTO skipped VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (source, key, row.path, row.size, row.mtime_ns, row.box, row.reason)
                for key, row in skipped.items()
            ),
        )
