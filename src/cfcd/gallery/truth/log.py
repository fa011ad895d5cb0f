"""The second copy of a gallery's truth: one file that only grows, of frames with checksums.

A frame holds the changes of one generation, or a part of them: JSON, then fp16 descriptors. The first
frames, marked as base, hold a whole store; changes follow in order. A generation counts when its last
frame is whole, so a torn end is what was never acknowledged.

frame   magic, flags, generation, token, items, next number, content, sizes, CRC of the body | CRC of these
body    JSON list of changes | descriptors of the added rows
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

FILE = "gallery.log"
_MAGIC = b"cfg2"
_FIELDS = struct.Struct("<4sBBxxQ8sQQQQQI")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _FIELDS.size + _CRC.size
_FRAME_BYTES = 8 << 20

Change = tuple[list[Any], bytes]
"""A change by name and arguments, and the descriptors it brings."""


@dataclass(frozen=True)
class Head:
    """What a generation is known by: its number, random token, items, next row number, and content.

    `content` is the sum of the checksums of all rows, modulo 2^63.
    """

    generation: int
    token: bytes
    items: int
    next_number: int
    content: int


@dataclass(frozen=True)
class Frame:
    """One whole frame, and where in the file it ends."""

    head: Head
    base: bool
    last: bool
    body: bytes
    json_bytes: int
    end: int

    def changes(self) -> Iterator[Change]:
        """Give the changes in order."""
        at = self.json_bytes
        for change, size in json.loads(self.body[: self.json_bytes]):
            yield change, self.body[at : at + size]
            at += size


@dataclass
class LogState:
    """What of a log is whole: its last generation, where each ends, and what lies behind a damaged place."""

    head: Head | None = None
    end: int = 0
    size: int = 0
    generations: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    beyond: int = 0

    def take_history(self, base: Frame) -> None:
        """Note the generations before the base, which nothing can be repeated from: they end at 0."""
        if b'["history",' in base.body[: base.json_bytes]:
            for change, _ in base.changes():
                if change[0] == "history":
                    self.generations.update({row[0]: (bytes.fromhex(row[1]), 0) for row in change[1]})

    def holds(self, head: Head) -> bool:
        """Tell whether a generation is one of this log's."""
        return self.generations.get(head.generation, (b"", 0))[0] == head.token


def scan(path: Path) -> LogState:
    """Read a log to its end, or to the first place that is damaged."""
    state = LogState()
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return state
    with file:
        state.size = os.fstat(file.fileno()).st_size
        for frame in read_frames(file):
            if frame.base:
                state.take_history(frame)
            if frame.last:
                state.head, state.end = frame.head, frame.end
                state.generations[frame.head.generation] = frame.head.token, frame.end
        if state.end < state.size:
            state.beyond = _beyond(file, state.end)
    return state


def read_frames(file: IO[bytes], start: int = 0, *, check: bool = True) -> Iterator[Frame]:
    """Read whole frames from an offset on; ends at the first damaged one. Unchecked, they have no body."""
    at, size = start, os.fstat(file.fileno()).st_size
    file.seek(at)
    while found := _header(file.read(_HEADER_BYTES)):
        base, last, head, json_bytes, vector_bytes, crc = found
        length = json_bytes + vector_bytes
        if at == 0 and not base:
            return
        if at + _HEADER_BYTES + length > size:
            return
        body = file.read(length) if check else b""
        if check and zlib.crc32(body) != crc:
            return
        if not check:
            file.seek(length, os.SEEK_CUR)
        at += _HEADER_BYTES + length
        yield Frame(head, base, last, body, json_bytes, at)


def _header(data: bytes) -> tuple[bool, bool, Head, int, int, int] | None:
    if len(data) < _HEADER_BYTES or data[:4] != _MAGIC:
        return None
    if _CRC.unpack_from(data, _FIELDS.size)[0] != zlib.crc32(data[: _FIELDS.size]):
        return None
    _, base, last, generation, token, items, next_number, content, *sizes = _FIELDS.unpack_from(data)
    return bool(base), bool(last), Head(generation, token, items, next_number, content), *sizes


def _beyond(file: IO[bytes], start: int) -> int:
    """Give the highest generation that finished behind a damaged place, 0 when none did."""
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    highest, at = 0, data.find(_MAGIC, start)
    while at >= 0:
        found = _header(data[at : at + _HEADER_BYTES])
        if found is not None and found[1]:
            body = data[at + _HEADER_BYTES : at + _HEADER_BYTES + found[3] + found[4]]
            if zlib.crc32(body) == found[5]:
                highest = max(highest, found[2].generation)
        at = data.find(_MAGIC, at + 1)
    data.close()
    return highest


def write_changes(file: IO[bytes], head: Head, changes: Iterable[Change], *, base: bool = False) -> None:
    """Write one generation as frames of some megabytes; the caller puts them on disk."""
    texts: list[str] = []
    vectors: list[bytes] = []
    size = 0
    for change, added in changes:
        text = json.dumps([change, len(added)], ensure_ascii=True, separators=(",", ":"))
        if size and size + len(text) + len(added) > _FRAME_BYTES:
            _write_frame(file, head, texts, vectors, base=base, last=False)
            texts, vectors, size = [], [], 0
        texts.append(text)
        vectors.append(added)
        size += len(text) + len(added)
    _write_frame(file, head, texts, vectors, base=base, last=True)


def _write_frame(
    file: IO[bytes], head: Head, texts: list[str], vectors: list[bytes], *, base: bool, last: bool
) -> None:
    text, data = f"[{','.join(texts)}]".encode(), b"".join(vectors)
    crc = zlib.crc32(data, zlib.crc32(text))
    fields = _FIELDS.pack(
        _MAGIC,
        base,
        last,
        head.generation,
        head.token,
        head.items,
        head.next_number,
        head.content,
        len(text),
        len(data),
        crc,
    )
    rest = memoryview(b"".join((fields, _CRC.pack(zlib.crc32(fields)), text, data)))
    # An unbuffered file may take a part only, before it says that the disk is full.
    while rest:
        rest = rest[file.write(rest) :]


class LogWriter:
    """Append generations to a log.

    Args:
        path: The log, whole up to its end.
    """

    def __init__(self, path: Path) -> None:
        # Unbuffered: after a failed write nothing may be left over that a later one would bring along.
        self._file = path.open("r+b", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)

    def append(self, head: Head, changes: Iterable[Change]) -> None:
        """Write one generation and put it on disk; then call `keep` or `undo`."""
        write_changes(self._file, head, changes)
        os.fsync(self._file.fileno())

    def keep(self) -> None:
        """Leave what was appended where it is."""
        self._end = self._file.tell()

    def undo(self) -> None:
        """Take back what was appended, whole or in part, since the last `keep`."""
        if self._file.seek(0, os.SEEK_END) > self._end:
            os.ftruncate(self._file.fileno(), self._end)
            os.fsync(self._file.fileno())
        self._file.seek(self._end)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __del__(self) -> None:
        # Like a connection of SQLite, it may be left to the garbage collector.
        if hasattr(self, "_file"):
            self._file.close()
