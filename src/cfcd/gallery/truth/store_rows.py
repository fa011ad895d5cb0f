"""What can be read of a gallery's store, each row compared with its checksum."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import GalleryError
from cfcd.gallery.truth.bulk_reads import BulkReads
from cfcd.gallery.truth.changes import DamagedStore, check_item, check_vector, read_head
from cfcd.gallery.truth.database import FILE
from cfcd.gallery.truth.rows import ITEM_COLUMNS, Skipped, StoredItem, row_checksum, to_item

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StoreRows(BulkReads):
    """The reading half of `Store`; all of it may raise DamagedStore."""

    folder: Path
    _connection: sqlite3.Connection
    # "checksum", or "NULL" in a store of format 1, which had none.
    _checksum: str

    def meta(self, key: str) -> str:
        """Read one value of the gallery's description; "" when it has none."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return "" if row is None else str(row[0])

    @property
    def generation(self) -> int:
        """Give the number of changes so far."""
        return int(self._connection.execute("SELECT coalesce(max(generation), 0) FROM history").fetchone()[0])

    def token(self, generation: int) -> bytes:
        """Give the random mark of a generation, b"" where this store never had it, or forgot it.

        It tells two stores apart that have made as many changes, such as a backup that went its own way.
        """
        row = self._connection.execute("SELECT * FROM history WHERE generation = ?", (generation,)).fetchone()
        if row is not None and self._checksum == "checksum" and row_checksum(row[:-1]) != row[-1]:
            raise DamagedStore(self.folder / FILE, f"generation {generation} of its history")
        return b"" if row is None else bytes(row[1])

    def __len__(self) -> int:
        if self._checksum == "checksum":
            return read_head(self._connection).items
        return int(self._connection.execute("SELECT count(*) FROM items").fetchone()[0])

    def _items(self, where: str, values: tuple[Any, ...] = ()) -> Iterator[StoredItem]:
        """Read items, each compared with its checksum."""
        query = f"SELECT number, {ITEM_COLUMNS}, {self._checksum} FROM items {where}"
        for row in self._connection.execute(query, values):
            if row[-1] is not None:
                check_item(row)
            yield to_item(row[:-1])

    def items(self, source: str | None = None) -> Iterator[StoredItem]:
        """Walk all items, or those of one source, by row number."""
        if source is None:
            return self._items("ORDER BY number")
        return self._items("WHERE source = ? ORDER BY number", (source,))

    def find(self, item_id: str) -> StoredItem | None:
        """Find an item by id."""
        return next(self._items("WHERE id = ?", (item_id,)), None)

    def find_key(self, source: str, key: str) -> StoredItem | None:
        """Find an item by the catalog it came from and its id there."""
        return next(self._items("WHERE source = ? AND key = ?", (source, key)), None)

    def has_id(self, item_id: str) -> bool:
        """Tell whether an item has this id."""
        return self._connection.execute("SELECT 1 FROM items WHERE id = ?", (item_id,)).fetchone() is not None

    def by_number(self, numbers: Sequence[int]) -> dict[int, StoredItem]:
        """Find items by row number."""
        listed = ",".join(str(int(number)) for number in numbers)
        found = {stored.number: stored for stored in self._items(f"WHERE number IN ({listed})")}
        for number in numbers:
            if number not in found and self._is_lost(number):
                raise DamagedStore(self.folder / FILE, f"item {number} is not there")
        return found

    def _is_lost(self, number: int) -> bool:
        """Tell whether a row that is not there should be."""
        if self._checksum == "NULL" or not 0 < number < read_head(self._connection).next_number:
            return False
        row = self._connection.execute("SELECT 1 FROM removed WHERE number = ?", (number,)).fetchone()
        # What was compacted is forgotten: an index that still knew it is not trusted then.
        oldest = self._connection.execute("SELECT min(generation) FROM history").fetchone()[0]
        return row is None and oldest == 0

    def sources(self) -> dict[str, int]:
        """Count items by the source they were indexed from."""
        return dict(
            self._connection.execute("SELECT source, count(*) FROM items GROUP BY source ORDER BY source")
        )

    def shared_pictures(self) -> int:
        """Count the pictures, or boxes of one, that items of several sources show."""
        row = self._connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM items GROUP BY path, x_1, y_1, x_2, y_2 "
            "HAVING count(DISTINCT source) > 1)"
        ).fetchone()
        return int(row[0])

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
            f"SELECT number, vector, {self._checksum} FROM descriptors WHERE number > ? ORDER BY number",
            (number,),
        )
        while rows := cursor.fetchmany(block):
            self._check(rows)
            if any(len(row[1]) != 2 * dim for row in rows):
                raise GalleryError(
                    f"{self.folder / FILE} holds a descriptor that is not {dim}-dimensional.",
                    "Index the pictures again into a new folder.",
                )
            yield self._arrays(rows)

    def count_above(self, number: int) -> int:
        """Count the rows above a number."""
        found = self._connection.execute("SELECT count(*) FROM items WHERE number > ?", (number,)).fetchone()
        return int(found[0])

    def lacks(self, number: int) -> GalleryError:
        """Make the error for a row that should be there."""
        return DamagedStore(self.folder / FILE, f"descriptor {number} is not there")

    def descriptors_of(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Read the descriptors of row numbers; those that are not held are left out.

        Returns:
            (n,) int64 row numbers, ascending, and their (n, D) fp16 descriptors.

        Raises:
            DamagedStore: One is damaged.
        """
        # One statement for all rows takes half the time of one for each.
        listed = ",".join(map(str, numbers.tolist()))
        rows = self._connection.execute(
            f"SELECT number, vector, {self._checksum} FROM descriptors WHERE number IN ({listed}) ORDER BY 1"
        ).fetchall()
        self._check(rows)
        return self._arrays(rows)

    def _check(self, rows: list[tuple[Any, ...]]) -> None:
        if self._checksum == "checksum":
            for row in rows:
                check_vector(*row)

    @staticmethod
    def _arrays(rows: list[tuple[Any, ...]]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        vectors = np.frombuffer(b"".join([row[1] for row in rows]), np.dtype("<f2"))
        return np.array([row[0] for row in rows], np.int64), vectors.reshape(len(rows), -1 if rows else 0)

    def removed_since(self, generation: int) -> NDArray[np.int64]:
        """List the row numbers removed after a generation, (n,) int64."""
        rows = self._connection.execute("SELECT number FROM removed WHERE generation > ?", (generation,))
        return np.array([row[0] for row in rows], np.int64)

    def skipped(self, source: str | None = None) -> dict[str, Skipped]:
        """List what could not be encoded, by the id it has in its catalog."""
        where, values = ("", ()) if source is None else ("WHERE source = ?", (source,))
        rows = self._connection.execute(
            f"SELECT id, path, size, mtime_ns, box, reason FROM skipped {where}", values
        )
        return {row[0]: Skipped(*row[1:]) for row in rows}
