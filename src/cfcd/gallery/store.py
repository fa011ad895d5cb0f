"""The truth of a gallery: items and fp16 descriptors in one SQLite file, changed in whole transactions.

Everything else in a gallery folder is derived from this file. Row numbers are never used twice, so
what an index lacks is exactly: numbers above its highest, minus the numbers removed since its
generation.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.errors import GalleryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "1"
FILE = "gallery.sqlite"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    label TEXT, split TEXT, is_query INTEGER, is_gallery INTEGER, row INTEGER,
    x_1 REAL, y_1 REAL, x_2 REAL, y_2 REAL,
    extra TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL
);
CREATE TABLE descriptors (number INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE removed (number INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE TABLE skipped (
    source TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL,
    size INTEGER, mtime_ns INTEGER, reason TEXT NOT NULL,
    PRIMARY KEY (source, id)
) WITHOUT ROWID;
"""
_ITEM_COLUMNS = (
    "id, source, path, label, split, is_query, is_gallery, row, "
    "x_1, y_1, x_2, y_2, extra, size, mtime_ns, digest"
)


@dataclass(frozen=True)
class StoredItem:
    """An item of the gallery: its row number, its catalog row, and the file it was encoded from."""

    number: int
    source: str
    item: Item
    stamp: FileStamp


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
                f"Make one with cfcd index PHOTOS --out {folder}.",
            )
        try:
            self._connection = _open(file, write)
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
        temporary = folder / f".{FILE}.new"
        temporary.unlink(missing_ok=True)
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            rows = {"format": FORMAT, "generation": "0", **meta}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        temporary.replace(folder / FILE)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one generation throughout the block, whatever a writer does meanwhile."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    @contextmanager
    def changing(self) -> Iterator[int]:
        """Change the store in one transaction: all of the block is kept or none; gives the new generation."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            generation = self.generation + 1
            self._connection.execute("UPDATE meta SET value = ? WHERE key = 'generation'", (str(generation),))
            yield generation
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def meta(self, key: str) -> str:
        """Read one value of the gallery's description; "" when it has none."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return "" if row is None else str(row[0])

    @property
    def generation(self) -> int:
        """Give the number of changes so far."""
        return int(self.meta("generation"))

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM items").fetchone()[0])

    def items(self, source: str | None = None) -> Iterator[StoredItem]:
        """Walk all items, or those of one source, by row number."""
        where, values = ("", ()) if source is None else ("WHERE source = ?", (source,))
        query = f"SELECT number, {_ITEM_COLUMNS} FROM items {where} ORDER BY number"
        for row in self._connection.execute(query, values):
            yield _to_item(row)

    def find(self, item_id: str) -> StoredItem | None:
        """Find an item by id."""
        row = self._connection.execute(
            f"SELECT number, {_ITEM_COLUMNS} FROM items WHERE id = ?", (item_id,)
        ).fetchone()
        return None if row is None else _to_item(row)

    def by_number(self, numbers: Sequence[int]) -> dict[int, StoredItem]:
        """Find items by row number."""
        found = {}
        for number in numbers:
            row = self._connection.execute(
                f"SELECT number, {_ITEM_COLUMNS} FROM items WHERE number = ?", (number,)
            ).fetchone()
            if row is not None:
                found[number] = _to_item(row)
        return found

    def sources(self) -> dict[str, int]:
        """Count items by the source they were indexed from."""
        return dict(
            self._connection.execute("SELECT source, count(*) FROM items GROUP BY source ORDER BY source")
        )

    def label_count(self) -> int:
        """Count distinct labels."""
        return int(self._connection.execute("SELECT count(DISTINCT label) FROM items").fetchone()[0])

    def descriptors_above(self, number: int, dim: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Read the descriptors of rows above a number: (n,) int64 row numbers and (n, dim) fp16."""
        rows = self._connection.execute(
            "SELECT number, vector FROM descriptors WHERE number > ? ORDER BY number", (number,)
        ).fetchall()
        if any(len(vector) != 2 * dim for _, vector in rows):
            raise GalleryError(
                f"{self.folder / FILE} holds a descriptor that is not {dim}-dimensional.",
                "Index the pictures again into a new folder.",
            )
        numbers = np.array([row[0] for row in rows], np.int64)
        vectors = np.frombuffer(b"".join(row[1] for row in rows), np.dtype("<f2")).reshape(len(rows), dim)
        return numbers, vectors

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

    def insert(self, source: str, item: Item, stamp: FileStamp, descriptor: NDArray[np.float32]) -> None:
        """Add one item with its (D,) descriptor; within `changing`."""
        cursor = self._connection.execute(
            f"INSERT INTO items ({_ITEM_COLUMNS}) VALUES (?{', ?' * 15})", _to_row(source, item, stamp)
        )
        vector = descriptor.astype("<f2").tobytes()
        self._connection.execute("INSERT INTO descriptors VALUES (?, ?)", (cursor.lastrowid, vector))

    def describe(self, number: int, source: str, item: Item, stamp: FileStamp) -> None:
        """Replace everything but the descriptor of an item; within `changing`."""
        assignments = ", ".join(f"{name.strip()} = ?" for name in _ITEM_COLUMNS.split(","))
        self._connection.execute(
            f"UPDATE items SET {assignments} WHERE number = ?", (*_to_row(source, item, stamp), number)
        )

    def remove(self, numbers: Iterable[int], generation: int) -> None:
        """Delete items by row number; within `changing`, with the generation it gave."""
        for number in numbers:
            self._connection.execute("DELETE FROM items WHERE number = ?", (number,))
            self._connection.execute("DELETE FROM descriptors WHERE number = ?", (number,))
            self._connection.execute("INSERT INTO removed VALUES (?, ?)", (number, generation))

    def skipped(self, source: str | None = None) -> dict[str, tuple[str, int | None, int | None, str]]:
        """List what could not be encoded: id -> (path, bytes, mtime in ns, reason)."""
        where, values = ("", ()) if source is None else ("WHERE source = ?", (source,))
        rows = self._connection.execute(
            f"SELECT id, path, size, mtime_ns, reason FROM skipped {where}", values
        )
        return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}

    def replace_skipped(
        self, source: str, skipped: dict[str, tuple[str, int | None, int | None, str]]
    ) -> None:
        """Replace the list of what could not be encoded from a source; within `changing`."""
        self._connection.execute("DELETE FROM skipped WHERE source = ?", (source,))
        self._connection.executemany(
            "INSERT INTO skipped VALUES (?, ?, ?, ?, ?, ?)",
            ((source, key, *row) for key, row in skipped.items()),
        )


def _open(file: Path, write: bool) -> sqlite3.Connection:
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
        return connection
    try:
        return connect("mode=ro")
    except sqlite3.OperationalError:
        # A read-only medium has no place for the files that keep readers and writers apart.
        return connect("immutable=1")


def _to_row(source: str, item: Item, stamp: FileStamp) -> tuple[Any, ...]:
    return (
        item.id,
        source,
        str(item.path),
        item.label,
        item.split,
        item.is_query,
        item.is_gallery,
        item.row,
        *(item.box or (None,) * 4),
        json.dumps(dict(item.extra), default=str, ensure_ascii=False),
        stamp.size,
        stamp.mtime_ns,
        stamp.digest,
    )


def _to_item(row: tuple[Any, ...]) -> StoredItem:
    number, item_id, source, path, label, split, is_query, is_gallery, line, *rest = row
    box = None if rest[0] is None else (rest[0], rest[1], rest[2], rest[3])
    item = Item(
        id=item_id,
        path=Path(path),
        label=label,
        split=split,
        is_query=None if is_query is None else bool(is_query),
        is_gallery=None if is_gallery is None else bool(is_gallery),
        box=box,
        row=line,
        extra=json.loads(rest[4]),
    )
    return StoredItem(number, source, item, FileStamp(rest[5], rest[6], rest[7]))
