"""The tables of a gallery's store, and the changes they know: the same code writes them and repeats them.

Every row has a checksum, or counts in `content`, the sum of the checksums of all rows: a store is at a
generation exactly when its rows add up to that generation's content.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from cfcd.errors import GalleryError
from cfcd.gallery.truth.log import Change, Head
from cfcd.gallery.truth.rows import ITEM_COLUMNS, row_checksum, vector_checksum

FORMAT = "2"
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,      -- what users call the item
    source TEXT NOT NULL,         -- the catalog it came from ...
    key TEXT NOT NULL,            -- ... and its id there
    path TEXT NOT NULL,
    label TEXT, split TEXT, is_query INTEGER, is_gallery INTEGER, row INTEGER,
    x_1 REAL, y_1 REAL, x_2 REAL, y_2 REAL,
    extra TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    UNIQUE (source, key)
);
CREATE TABLE descriptors (number INTEGER PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE removed (number INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE TABLE skipped (
    source TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL,
    size INTEGER, mtime_ns INTEGER, box TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (source, id)
) WITHOUT ROWID;
CREATE TABLE history (
    generation INTEGER PRIMARY KEY, token BLOB NOT NULL,
    items INTEGER NOT NULL, next_number INTEGER NOT NULL, content INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
"""
_INSERT_ITEM = f"INSERT INTO items (number, {ITEM_COLUMNS}, checksum) VALUES (?{', ?' * 18})"
_CONTENT = 1 << 63
_BLOCK = 4096


class DamagedStore(GalleryError):
    """Report that the store's file is damaged; it is mended when it is opened next."""

    def __init__(self, file: object, what: str) -> None:
        super().__init__(f"{file} is damaged: {what}.", "Try again: it is mended when it is opened next.")


class Changes:
    """Apply changes to a store within a transaction, and note them for the log.

    Args:
        connection: The store, in a transaction.
        head: The generation it is at.
        note: False when nobody asks for `noted`.
    """

    def __init__(self, connection: sqlite3.Connection, head: Head, *, note: bool = True) -> None:
        self._connection = connection
        self._items, self.next_number, self._content = head.items, head.next_number, head.content
        self._note = note
        self.noted: list[Change] = []
        self._known: dict[str, Callable[..., None]] = {
            "add": self._add,
            "remove": self._remove,
            "lift": self._lift,
            "put": self._put,
            "skipped": self._skipped,
            "meta": self._meta,
            "removed": self._removed,
            "history": self._history,
            "prune": self._prune,
        }

    def apply(self, change: list[Any], vectors: bytes = b"") -> None:
        """Make one change; arguments are JSON, a digest or token in it is hexadecimal."""
        name, *arguments = change
        self._known[name](*arguments, *([vectors] if name == "add" else ()))
        if self._note:
            self.noted.append((change, vectors))

    def finish(self, generation: int, token: bytes) -> Head:
        """Write the generation that these changes lead to into the history."""
        self._history([[generation, token.hex(), *self.numbers()]])
        return Head(generation, token, *self.numbers())

    def numbers(self) -> tuple[int, int, int]:
        """Give items, next row number and content as they are now."""
        return self._items, self.next_number, self._content

    def _count(self, checksum: int) -> None:
        self._content = (self._content + checksum) % _CONTENT

    def _add(self, rows: list[list[Any]], vectors: bytes) -> None:
        self._put(rows)
        width = len(vectors) // len(rows)
        described = []
        for at, row in enumerate(rows):
            vector = vectors[at * width : (at + 1) * width]
            checksum = vector_checksum(row[0], vector)
            self._count(checksum)
            described.append((row[0], vector, checksum))
        self._connection.executemany("INSERT INTO descriptors VALUES (?, ?, ?)", described)
        self.next_number = max(self.next_number, rows[-1][0] + 1)

    def _put(self, rows: list[list[Any]]) -> None:
        described = []
        for row in rows:
            values = (*row[:-1], bytes.fromhex(row[-1]))
            checksum = row_checksum(values)
            self._count(checksum)
            described.append((*values, checksum))
        self._connection.executemany(_INSERT_ITEM, described)
        self._items += len(rows)

    def _take(self, table: str, number: int) -> None:
        """Delete a row that is there for sure."""
        row = self._connection.execute(f"SELECT checksum FROM {table} WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise DamagedStore("The store", f"{table} lacks row {number}")
        self._connection.execute(f"DELETE FROM {table} WHERE number = ?", (number,))
        self._count(-row[0])

    def _lift(self, numbers: list[int]) -> None:
        for number in numbers:
            self._take("items", number)
        self._items -= len(numbers)

    def _remove(self, numbers: list[int], generation: int) -> None:
        self._lift(numbers)
        for number in numbers:
            self._take("descriptors", number)
        self._removed([[number, generation] for number in numbers])

    def _removed(self, rows: list[list[int]]) -> None:
        for number, generation in rows:
            self._count(row_checksum(("removed", number, generation)))
        self._connection.executemany("INSERT INTO removed VALUES (?, ?)", rows)

    def _skipped(self, source: str, rows: list[list[Any]]) -> None:
        for old in self._connection.execute("SELECT * FROM skipped WHERE source = ?", (source,)):
            self._count(-row_checksum(("skipped", *old)))
        self._connection.execute("DELETE FROM skipped WHERE source = ?", (source,))
        for row in rows:
            self._count(row_checksum(("skipped", source, *row)))
            self._connection.execute("INSERT INTO skipped VALUES (?, ?, ?, ?, ?, ?, ?)", (source, *row))

    def _meta(self, key: str, value: str | None) -> None:
        for old in self._connection.execute("SELECT * FROM meta WHERE key = ?", (key,)):
            self._count(-row_checksum(("meta", *old)))
        self._connection.execute("DELETE FROM meta WHERE key = ?", (key,))
        if value is not None:
            self._count(row_checksum(("meta", key, value)))
            self._connection.execute("INSERT INTO meta VALUES (?, ?)", (key, value))

    def _history(self, rows: list[list[Any]]) -> None:
        for generation, token, *numbers in rows:
            values = (generation, bytes.fromhex(token), *numbers)
            self._connection.execute(
                "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", (*values, row_checksum(values))
            )

    def _prune(self, generation: int) -> None:
        """Forget what only an index older than a generation would ask for."""
        for row in self._connection.execute("SELECT * FROM removed WHERE generation <= ?", (generation,)):
            self._count(-row_checksum(("removed", *row)))
        self._connection.execute("DELETE FROM removed WHERE generation <= ?", (generation,))
        self._connection.execute("DELETE FROM history WHERE generation < ?", (generation,))


def read_head(connection: sqlite3.Connection) -> Head:
    """Read the generation a store is at.

    Raises:
        DamagedStore: The history does not say.
    """
    row = connection.execute("SELECT * FROM history ORDER BY generation DESC LIMIT 1").fetchone()
    if row is None or row_checksum(row[:-1]) != row[-1]:
        raise DamagedStore("The store", "its history does not say which generation it is at")
    return Head(*row[:-1])


def snapshot(connection: sqlite3.Connection) -> Iterator[Change]:
    """Give the changes that make a store from nothing; call it in a transaction.

    Raises:
        DamagedStore: A row is not what was once written.
    """
    query = (
        f"SELECT number, {ITEM_COLUMNS}, items.checksum, vector, descriptors.checksum "
        "FROM items JOIN descriptors USING (number) ORDER BY number"
    )
    cursor = connection.execute(query)
    while rows := cursor.fetchmany(_BLOCK):
        for row in rows:
            check_item(row[:19])
            check_vector(row[0], row[19], row[20])
        yield ["add", [note_row(row[:18]) for row in rows]], b"".join(row[19] for row in rows)
    for (source,) in connection.execute("SELECT DISTINCT source FROM skipped").fetchall():
        skipped = connection.execute("SELECT * FROM skipped WHERE source = ?", (source,))
        yield ["skipped", source, [row[1:] for row in skipped]], b""
    for key, value in connection.execute("SELECT * FROM meta").fetchall():
        yield ["meta", key, value], b""
    for table in ("removed", "history"):
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY 1")
        while rows := cursor.fetchmany(_BLOCK):
            yield [table, [_history_note(row) if table == "history" else row for row in rows]], b""


def note_row(row: Sequence[Any]) -> list[Any]:
    """Make a row of items fit for JSON: its digest, the last value, as hexadecimal."""
    return [*row[:-1], row[-1].hex()]


def _history_note(row: tuple[Any, ...]) -> list[Any]:
    return [row[0], row[1].hex(), *row[2:-1]]


def check_item(row: tuple[Any, ...]) -> None:
    """Raise DamagedStore unless a row of items, checksum last, is what was once written."""
    if row_checksum(row[:-1]) != row[-1]:
        raise DamagedStore("The store", f"item {row[0]} has another checksum than its row")


def check_vector(number: int, vector: object, checksum: int) -> None:
    """Raise DamagedStore unless a descriptor is what was once written."""
    if not isinstance(vector, bytes) or vector_checksum(number, vector) != checksum:
        raise DamagedStore("The store", f"descriptor {number} has another checksum than its row")


def content(connection: sqlite3.Connection) -> tuple[int, int]:
    """Count the items and add up the checksums of all rows, each compared with its row.

    Raises:
        DamagedStore: A row is not what was once written.
    """
    items = total = 0
    for row in connection.execute(f"SELECT number, {ITEM_COLUMNS}, checksum FROM items"):
        check_item(row)
        items, total = items + 1, total + row[-1]
    for row in connection.execute("SELECT number, vector, checksum FROM descriptors"):
        check_vector(*row)
        total += row[-1]
    for table in ("removed", "skipped", "meta"):
        total += sum(row_checksum((table, *row)) for row in connection.execute(f"SELECT * FROM {table}"))
    return items, total % _CONTENT


def check_history(rows: Iterable[tuple[Any, ...]]) -> None:
    """Raise DamagedStore unless a history is whole; generations in order."""
    last = None
    for row in rows:
        if row_checksum(row[:-1]) != row[-1] or last not in {None, row[0] - 1}:
            raise DamagedStore("The store", f"generation {row[0]} of its history is damaged")
        last = row[0]
