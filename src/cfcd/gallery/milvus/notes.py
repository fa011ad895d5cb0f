"""What a gallery on a Milvus server keeps beside its items: small texts by key, and who may write."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cfcd.errors import BusyError, CfcdError
from cfcd.gallery.milvus.client import LONGEST_TEXT, MilvusClient, literal

# A writer shows every few seconds that it lives. Clocks of several machines are never compared: who comes
# second watches the first for so long.
BEAT_SECONDS = 3.0
PATIENCE_SECONDS = 15.0
_WRITER = "writer:"


@dataclass(frozen=True)
class MilvusNotes:
    """Texts by key in a collection of their own; keys have a kind before a colon."""

    client: MilvusClient
    collection: str

    def ensure(self) -> None:
        """Make the collection where there is none."""
        if self.client.description(self.collection) is None:
            # Milvus wants a vector in every collection.
            fields = [
                ("key", "VARCHAR", 512),
                ("value", "VARCHAR", LONGEST_TEXT),
                ("vector", "FLOAT_VECTOR", 2),
            ]
            self.client.create(self.collection, "Notes of a cfcd gallery.", fields)

    def get(self, key: str) -> str | None:
        """Read a text."""
        found = self.client.some(self.collection, f"key == {literal(key)}", ["value"])
        return str(found[0]["value"]) if found else None

    def all(self, kind: str) -> dict[str, str]:
        """Read the texts whose keys begin so."""
        pages = self.client.walk(self.collection, f"key like {literal(kind + '%')}", ["key", "value"])
        return {row["key"]: row["value"] for page in pages for row in page}

    def put(self, texts: dict[str, str]) -> None:
        """Write texts."""
        rows = [{"key": key, "value": value, "vector": [0.0, 0.0]} for key, value in texts.items()]
        for start in range(0, len(rows), 256):
            self.client.upsert(self.collection, rows[start : start + 256])

    def delete(self, keys: list[str]) -> None:
        """Delete texts."""
        if keys:
            self.client.delete(self.collection, keys)


@contextmanager
def only_milvus_writer(notes: MilvusNotes, place: str) -> Iterator[Callable[[], None]]:
    """Hold the right to write to a gallery during the block, among all machines.

    Milvus has no locks, but it orders what it is told: every writer leaves a note before it looks for
    those of others, so of two that start together one at least sees the other. A note whose writer gives no
    sign of life for 15 seconds is a killed one's, and is taken away.

    Yields:
        A function that raises BusyError once the right is lost, as after a long sleep of this machine.

    Raises:
        BusyError: Another process writes to the gallery now.
    """
    mine = _WRITER + secrets.token_hex(8)
    busy = BusyError(
        f"Another process is writing to {place}.", "Wait until it is done; reading goes on meanwhile."
    )
    notes.put({mine: "0"})
    stop, lost = threading.Event(), threading.Event()
    beating = threading.Thread(target=_beat, args=(notes, mine, stop, lost), daemon=True)
    try:
        if _outlived(notes, mine):
            raise busy
        beating.start()

        def check() -> None:
            if lost.is_set():
                raise busy

        yield check
    finally:
        stop.set()
        if beating.is_alive():
            beating.join()
        notes.delete([mine])


def _outlived(notes: MilvusNotes, mine: str) -> bool:
    """Tell whether another writer lives; take away the notes of those that do not."""
    first = {key: beat for key, beat in notes.all(_WRITER).items() if key != mine}
    end = time.monotonic() + PATIENCE_SECONDS
    while first and time.monotonic() < end:
        time.sleep(BEAT_SECONDS / 2)
        now = notes.all(_WRITER)
        if any(now.get(key, beat) != beat for key, beat in first.items()):
            return True
        first = {key: beat for key, beat in first.items() if key in now}
    notes.delete(list(first))
    return False


def _beat(notes: MilvusNotes, mine: str, stop: threading.Event, lost: threading.Event) -> None:
    count = 0
    while not stop.wait(BEAT_SECONDS):
        count += 1
        try:
            if notes.get(mine) is None:
                lost.set()
                return
            notes.put({mine: str(count)})
        except CfcdError:
            # The server is away: the next write says so, and the note may be gone when it is back.
            continue
