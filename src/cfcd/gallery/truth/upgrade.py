"""Bring a store of format 1, which had no checksums and no log, to the present format."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from cfcd.errors import GalleryError
from cfcd.gallery.truth.changes import FORMAT, SCHEMA, Changes
from cfcd.gallery.truth.database import FILE, connect
from cfcd.gallery.truth.log import Head
from cfcd.gallery.truth.rows import ITEM_COLUMNS

_TABLES = ("meta", "items", "descriptors", "removed", "skipped", "history")
_BLOCK = 4096


def upgrade(folder: Path) -> None:
    """Rewrite the tables in one transaction; the log is then missing, and made by who calls.

    Raises:
        GalleryError: The store is damaged.
    """
    with closing(connect(folder / FILE, "mode=rw")) as connection:
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            _rewrite(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise GalleryError(
                f"{folder / FILE} cannot be read as a gallery: {error}.",
                "Index the pictures again into a new folder.",
            ) from error


def _rewrite(connection: sqlite3.Connection) -> None:
    (next_number,) = connection.execute(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'items'), 0) + 1"
    ).fetchone()
    for table in _TABLES:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    changes = Changes(connection, Head(0, b"", 0, next_number, 0), note=False)
    for rows in _blocks(
        connection,
        f"SELECT number, {ITEM_COLUMNS}, vector FROM old_items JOIN old_descriptors USING (number) "
        "ORDER BY number",
    ):
        items = [[*row[:-2], row[-2].hex()] for row in rows]
        changes.apply(["add", items], b"".join(row[-1] for row in rows))
    for rows in _blocks(connection, "SELECT number, generation FROM old_removed"):
        changes.apply(["removed", rows])
    for (source,) in connection.execute("SELECT DISTINCT source FROM old_skipped").fetchall():
        skipped = connection.execute("SELECT * FROM old_skipped WHERE source = ?", (source,))
        changes.apply(["skipped", source, [row[1:] for row in skipped]])
    for key, value in connection.execute("SELECT * FROM old_meta").fetchall():
        changes.apply(["meta", key, FORMAT if key == "format" else value])
    history = connection.execute("SELECT generation, token FROM old_history ORDER BY generation").fetchall()
    *before, (generation, token) = history or [(0, secrets.token_bytes(8))]
    changes.apply(["history", [[number, mark.hex(), 0, 0, 0] for number, mark in before]])
    changes.finish(generation, token)
    for table in _TABLES:
        connection.execute(f"DROP TABLE old_{table}")


def _blocks(connection: sqlite3.Connection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    cursor = connection.execute(query)
    while rows := cursor.fetchmany(_BLOCK):
        yield rows
