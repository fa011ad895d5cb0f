"""The store of a gallery on a Milvus server: what `Store` is for a folder, with the same methods.

The collection holds items and descriptors, its description the model; `<collection>_cfcd` holds the rest. A
change is one request for all new and changed rows, then one for removed ones; a row keeps its number when it
is described or encoded anew, so that each is replaced at once. What an interrupted change leaves undone, the
next update does.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import GalleryError
from cfcd.gallery.milvus.change import Change
from cfcd.gallery.milvus.client import MilvusClient, Row, literal
from cfcd.gallery.milvus.notes import MilvusNotes
from cfcd.gallery.milvus.rows import ITEM_FIELDS, fields, to_document, to_stored
from cfcd.gallery.milvus.selection import ChosenThere, look_up
from cfcd.gallery.truth.bulk_reads import BulkReads
from cfcd.gallery.truth.rows import Skipped, StoredItem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Item
    from cfcd.encoding.shards import FileStamp
    from cfcd.gallery.milvus.address import MilvusAddress
    from cfcd.gallery.where import Condition

FORMAT = "1"
_KIND = "cfcd gallery"
# Row numbers are reserved so many at a time; those a killed writer had left are never used.
_RESERVED = 65_536
_REQUEST_BYTES = 16 << 20  # Milvus takes 64 MiB
_GENERATIONS = count(1)
# A writer asks for so many ids or keys one by one, 0.2 seconds each, before it reads all of them at once.
_QUESTIONS = 16


class MilvusStore(BulkReads):
    """Read and change the collection of a gallery.

    Args:
        address: Where it is.
        check: For a writer: called before each change, raises when it must not be made any more.

    Raises:
        GalleryError: The collection is not there, or is no gallery.
    """

    def __init__(self, address: MilvusAddress, check: Callable[[], None] | None = None) -> None:
        self.client = MilvusClient(address)
        self.collection = address.collection
        self.notes = notes_of(self.client, address)
        self._check = check
        self._change: Change | None = None
        self._ids: set[str] | None = None
        self._keys: dict[tuple[str, str], StoredItem] | None = None
        self._questions = 0
        self._sources: set[str] = set()
        self._doubled: set[int] = set()
        self._free = range(0)
        self._hits: dict[int, StoredItem] = {}
        self.folder = str(address)
        description = self.client.description(self.collection)
        if description is None:
            raise GalleryError(
                f"There is no gallery {address}.", "cfcd index PHOTOS --store makes it, under that very name."
            )
        self._meta = _read_meta(description, address)

    @classmethod
    def create(cls, address: MilvusAddress, meta: dict[str, str]) -> None:
        """Make an empty collection; it is a gallery from the moment it is there.

        Raises:
            GalleryError: There is one of that name.
        """
        client = MilvusClient(address)
        if client.description(address.collection) is not None:
            raise GalleryError(f"{address} exists already.", "Give another collection.")
        notes_of(client, address).ensure()
        description = json.dumps({"kind": _KIND, "format": FORMAT, "mark": secrets.token_hex(8), **meta})
        client.create(address.collection, description, fields(int(meta["dim"])))

    def close(self) -> None:
        """Let go of the server."""
        self.client.close()

    def meta(self, key: str) -> str:
        """Read one value of the gallery's description; "" when it has none."""
        return self._meta.get(key, "")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Take over nothing from before: every request sees all that was acknowledged before it."""
        self._hits = {}
        yield

    @property
    def generation(self) -> int:
        """Give a number it has not given before: what others remember by it, they look up again."""
        return next(_GENERATIONS)

    def token(self, _generation: int) -> bytes:
        """Give the collection's random mark: what was noted of a dropped one is not its successor's."""
        return bytes.fromhex(self.meta("mark"))

    def __len__(self) -> int:
        return self.client.count(self.collection)

    def items(self, source: str | None = None) -> Iterator[StoredItem]:
        """Walk all items, or those of one source, by row number."""
        where = "" if source is None else f"source == {literal(source)}"
        keys: set[tuple[str, str]] = set()
        for page in self.client.walk(self.collection, where, ITEM_FIELDS):
            for stored in map(to_stored, page):
                # An interrupted change can leave an item under its old and its new name.
                if (stored.source, stored.key) in keys:
                    self._doubled.add(stored.number)
                    continue
                keys.add((stored.source, stored.key))
                yield stored

    def find(self, item_id: str) -> StoredItem | None:
        """Find an item by id."""
        return self._first(f"item == {literal(item_id)}")

    def find_key(self, source: str, key: str) -> StoredItem | None:
        """Find an item by the catalog it came from and its id there."""
        if self._keys is None and self._check is not None and self._questions >= _QUESTIONS:
            pages = self.client.walk(self.collection, "", ITEM_FIELDS)
            held = (stored for page in pages for stored in map(to_stored, page))
            self._keys = {(stored.source, stored.key): stored for stored in held}
        if self._keys is not None:
            return self._keys.get((source, key))
        self._questions += 1
        return self._first(f"source == {literal(source)} and key == {literal(key)}")

    def _first(self, where: str) -> StoredItem | None:
        found = self.client.some(self.collection, where, ITEM_FIELDS)
        return min(map(to_stored, found), key=lambda stored: stored.number, default=None)

    def by_number(self, numbers: Sequence[int]) -> dict[int, StoredItem]:
        """Find items by row number; those of a search in the same `reading` came with it."""
        missing = [number for number in numbers if number not in self._hits]
        found = {number: self._hits[number] for number in numbers if number in self._hits}
        for start in range(0, len(missing), 1024):
            where = f"number in {missing[start : start + 1024]}"
            for stored in map(to_stored, self.client.some(self.collection, where, ITEM_FIELDS)):
                found[stored.number] = stored
        return found

    def nearest(
        self, queries: NDArray[np.float32], k: int, where: str = ""
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the k nearest items of each (Q, D) query: (n,) numbers and scores, equal scores by number."""
        results = []
        self._hits = {}
        # The rows of a single query come with it, for `by_number`; those of many queries may be large.
        fields_wanted = ITEM_FIELDS if len(queries) == 1 else ["number"]
        for hits in self.client.nearest(self.collection, queries, k, where, fields_wanted):
            ordered = sorted(hits, key=lambda hit: (-hit[1], hit[0]))
            for number, _, row in ordered if len(queries) == 1 else ():
                self._hits[number] = to_stored({"number": number, **row})
            numbers = np.array([number for number, _, _ in ordered], np.int64)
            results.append((numbers, np.array([score for _, score, _ in ordered], np.float32)))
        return results

    def has_id(self, item_id: str) -> bool:
        """Tell whether an item has this id, or gets it by the change that is being made."""
        change = self._change
        if change is not None and item_id in change.ids:
            return True
        if self._ids is None and self._questions < _QUESTIONS:
            self._questions += 1
            where = f"item == {literal(item_id)}"
            found = self.client.some(self.collection, where, ["number"])
            away = set() if change is None else change.away
            return any(row["number"] not in away for row in found)
        if self._ids is None:
            pages = self.client.walk(self.collection, "", ["number", "item"])
            self._ids = {row["item"] for page in pages for row in page}
        return item_id in self._ids and not (change is not None and item_id in self._leaving(change))

    def _leaving(self, change: Change) -> set[str]:
        """Give the ids that items have which the change takes away or names anew."""
        if change.left is None:
            rows = self._rows(sorted(change.away), ["number", "item"])
            change.left = {row["item"] for row in rows}
        return change.left

    def _rows(self, numbers: list[int], names: list[str]) -> list[Row]:
        pages = (numbers[start : start + 1024] for start in range(0, len(numbers), 1024))
        return [
            row for page in pages for row in self.client.some(self.collection, f"number in {page}", names)
        ]

    def sources(self) -> dict[str, int]:
        """Count items by the source they were indexed from."""
        known = sorted(self.notes.all("source:").values())
        counts = {
            source: self.client.count(self.collection, f"source == {literal(source)}") for source in known
        }
        return {source: count for source, count in counts.items() if count}

    def look_up(
        self, condition: Condition | None, ids: Sequence[str] | None, labels: Sequence[str] | None
    ) -> ChosenThere | None:
        """Have the server choose items, see `milvus_selection.look_up`."""
        return look_up(self.client, self.collection, condition, ids, labels)

    def shared_pictures(self) -> int:
        """Count the pictures, or boxes of one, that items of several sources show."""
        sources: dict[tuple[str, object], set[str]] = {}
        for stored in self.items():
            sources.setdefault((str(stored.item.path), stored.item.box), set()).add(stored.source)
        return sum(len(found) > 1 for found in sources.values())

    def label_count(self) -> int:
        """Count distinct labels, by looking at all."""
        pages = self.client.walk(self.collection, 'label != ""', ["number", "label"])
        return len({row["label"] for page in pages for row in page})

    def descriptors_above(
        self, number: int, dim: int, block: int = 8192
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Read the descriptors of rows above a number, block by block, as `Store.descriptors_above`."""
        pages = self.client.walk(self.collection, f"number > {number}", ["number", "vector"])
        every = chain.from_iterable(pages)
        while rows := list(islice(every, block)):
            numbers = np.array([row["number"] for row in rows], np.int64)
            yield numbers, np.array([row["vector"] for row in rows], np.float16).reshape(-1, dim)

    def contents(self) -> Iterator[tuple[StoredItem, NDArray[np.float32]]]:
        """Walk all items with their (D,) descriptors, by row number."""
        for page in self.client.walk(self.collection, "", [*ITEM_FIELDS, "vector"]):
            for row in page:
                yield to_stored(row), np.array(row["vector"], np.float32)

    def descriptors_of(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Read the descriptors of row numbers, as `Store.descriptors_of`."""
        rows = self._rows(sorted(numbers.tolist()), ["number", "vector"])
        rows.sort(key=lambda row: row["number"])
        vectors = np.array([row["vector"] for row in rows], np.float16)
        return np.array([row["number"] for row in rows], np.int64), vectors.reshape(
            len(rows), -1 if rows else 0
        )

    def lacks(self, number: int) -> GalleryError:
        """Make the error for a row that should be there."""
        return GalleryError(
            f"{self.folder} does not hold row {number} any more: another machine has changed it meanwhile.",
            "Try again.",
        )

    @contextmanager
    def changing(self) -> Iterator[int]:
        """Gather changes and send them at the end of the block; gives a number without meaning here."""
        self._change = change = Change()
        try:
            yield 0
            self._send(change)
        finally:
            self._change = None

    def insert(
        self, source: str, key: str, item: Item, stamp: FileStamp, descriptor: NDArray[np.floating[Any]]
    ) -> None:
        """Add one item with its (D,) descriptor; within `changing`."""
        self._now.add((None, source, key, item, stamp, descriptor))

    def lift(self, numbers: Iterable[int]) -> None:
        """Take items out but leave their descriptors, for `put_back` in the same `changing`."""
        self._now.lifted.update(numbers)

    def put_back(self, number: int, source: str, key: str, item: Item, stamp: FileStamp) -> None:
        """Describe a lifted item anew; within `changing`."""
        self._now.add((number, source, key, item, stamp, None))

    def remove(self, numbers: Iterable[int], _generation: int) -> None:
        """Delete items by row number; within `changing`."""
        self._now.removed.update(numbers)

    @property
    def _now(self) -> Change:
        if self._change is None:
            raise AssertionError("changes are made within `changing`")
        return self._change

    def _send(self, change: Change) -> None:
        if self._check is not None:
            self._check()
        change.left = None
        leaving = self._leaving(change) if self._ids is not None else set()
        removed = change.removed | self._doubled
        place: dict[tuple[str, str], int] = {}
        if change.added:
            for row in self._rows(sorted(change.removed), ["number", "source", "key"]):
                place[row["source"], row["key"]] = row["number"]
        described = [number for number, *_ in change.added if number is not None]
        vectors = {
            row["number"]: np.array(row["vector"], np.float32)
            for row in self._rows(described, ["number", "vector"])
        }
        rows = []
        for number, source, key, item, stamp, descriptor in change.added:
            if number is None:
                number = place.get((source, key)) or self._free_number()  # noqa: PLW2901
            vector = vectors[number] if descriptor is None else descriptor
            rows.append(to_document(number, source, key, item, stamp, vector))
        self._note_sources({source for _, source, *_ in change.added})
        per_request = max(1, _REQUEST_BYTES // (8 * int(self.meta("dim")) + 2048))
        for start in range(0, len(rows), per_request):
            self.client.upsert(self.collection, rows[start : start + per_request])
        written = {row["number"] for row in rows}
        self.client.delete(self.collection, sorted((removed | change.lifted) - written))
        self._doubled = set()
        if self._keys is not None:
            self._keys = {key: old for key, old in self._keys.items() if old.number not in change.away}
            self._keys |= {(row["source"], row["key"]): to_stored(row) for row in rows}
        if self._ids is not None:
            self._ids = (self._ids - leaving) | change.ids
        for source, skipped in change.skipped.items():
            self._write_skipped(source, skipped)

    def _free_number(self) -> int:
        if not self._free:
            first = int(self.notes.get("next") or 1)
            self.notes.put({"next": str(first + _RESERVED)})
            self._free = range(first, first + _RESERVED)
        number, self._free = self._free[0], self._free[1:]
        return number

    def _note_sources(self, sources: set[str]) -> None:
        if new := sources - self._sources:
            self.notes.put({f"source:{_digest(source)}": source for source in new})
            self._sources |= new

    def skipped(self, source: str | None = None) -> dict[str, Skipped]:
        """List what could not be encoded, by the id it has in its catalog."""
        found = {}
        for text in self.notes.all("skipped:" if source is None else f"skipped:{_digest(source)}:").values():
            row = json.loads(text)
            key = row.pop("key")
            found[key] = Skipped(**row)
        return found

    def replace_skipped(self, source: str, skipped: dict[str, Skipped]) -> None:
        """Replace the list of what could not be encoded from a source; within `changing`."""
        self._now.skipped[source] = skipped

    def _write_skipped(self, source: str, skipped: dict[str, Skipped]) -> None:
        kind = f"skipped:{_digest(source)}:"
        texts = {kind + _digest(key): json.dumps({"key": key, **asdict(row)}) for key, row in skipped.items()}
        before = self.notes.all(kind)
        self.notes.put({key: text for key, text in texts.items() if before.get(key) != text})
        self.notes.delete([key for key in before if key not in texts])


def notes_of(client: MilvusClient, address: MilvusAddress) -> MilvusNotes:
    """Give the notes of the gallery at an address."""
    return MilvusNotes(client, f"{address.collection}_cfcd")


def _read_meta(description: str, address: MilvusAddress) -> dict[str, str]:
    try:
        meta: dict[str, str] = json.loads(description)
        known = meta["kind"] == _KIND
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise GalleryError(f"{address} is a collection, but no gallery of cfcd.", "Give another collection.")
    if meta["format"] != FORMAT:
        raise GalleryError(
            f"{address} has format {meta['format']}, this cfcd reads format {FORMAT}.",
            "Use the cfcd that wrote it, or index again.",
        )
    return meta


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
