"""The files of a saved index: whole and as they were written, or not used at all.

index.json                     which files count, what they hold, and a digest of itself
index-KIND-GENERATION.faiss    the codes of the items
index-KIND-GENERATION.npz      row numbers, removed rows and the reduction; kinds with codes only
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfcd.errors import GalleryError
from cfcd.files import write_json

if TYPE_CHECKING:
    from cfcd.gallery.indexes.search_index import SearchIndex

HEADER = "index.json"
FORMAT = 2
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Spec:
    """What an index is made of: its kind, and the dimensions its codes are made in.

    Args:
        kind: One of `cfcd.gallery.indexes.search_index.KINDS`.
        reduce: Components that descriptors are reduced to by PCA in the index; None keeps all.
        whiten: Give the reduced components equal variance.
    """

    kind: str
    reduce: int | None = None
    whiten: bool = False

    def code_dim(self, dim: int) -> int:
        """Give the number of components that are coded, out of D."""
        return dim if self.reduce is None else min(self.reduce, dim)

    def text(self) -> str:
        """Give it in a few words."""
        reduced = "" if self.reduce is None else f", {self.reduce} dimensions"
        return f"{self.kind}{reduced}{', whitened' if self.whiten else ''}"


@dataclass(frozen=True)
class Header:
    """What `index.json` says; `details` is what only the index itself understands."""

    spec: Spec
    dim: int
    generation: int
    token: bytes
    highest: int
    items: int
    resident_bytes: int
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, index: SearchIndex, details: dict[str, Any] | None = None) -> Header:
        """Describe an index that is about to be saved."""
        return cls(
            spec=index.spec,
            dim=index.dim,
            generation=index.generation,
            token=index.token,
            highest=index.highest,
            items=len(index),
            resident_bytes=index.resident_bytes,
            measured=index.measured,
            details=details or {},
        )

    def restore(self, index: SearchIndex) -> None:
        """Bring an index whose codes have been read to the state it was saved in."""
        index.generation, index.token, index.highest = self.generation, self.token, self.highest
        index.measured = self.measured


def file_digest(path: Path) -> str:
    """Compute a digest of a file's bytes: CRC-32 of every 16 MiB, in two threads.

    A gigabyte takes about a third of the time that BLAKE2b would, and opening a large gallery is mostly this.
    """

    def checksum(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return zlib.crc32(file.read(_BLOCK)).to_bytes(4, "little")

    size = path.stat().st_size
    with ThreadPoolExecutor(2) as threads:
        blocks = b"".join(threads.map(checksum, range(0, size, _BLOCK)))
    return hashlib.blake2b(size.to_bytes(8, "little") + blocks, digest_size=16).hexdigest()


def write_index(folder: Path, header: Header, parts: dict[str, Callable[[Path], None]]) -> None:
    """Write the files of an index, then the header that makes them count, then delete those before.

    Args:
        folder: The gallery.
        header: Its `files` are filled in here.
        parts: By the ending of each file, what writes it to a path.

    Raises:
        GalleryError: The disk refused.
    """
    stem = f"index-{header.spec.kind}-{header.generation:09d}"
    files: dict[str, dict[str, str]] = {}
    for ending, write in parts.items():
        file = folder / f"{stem}.{ending}"
        temporary = folder / f".{stem}.{os.getpid()}.tmp"
        try:
            write(temporary)
            files[ending] = {"name": file.name, "digest": file_digest(temporary)}
            temporary.replace(file)
        except (OSError, RuntimeError) as error:  # faiss reports a full disk as RuntimeError
            raise GalleryError(
                f"The index of {folder} could not be written: {error}.",
                "All items are kept; with space on the disk the next cfcd index writes it.",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
    content = {
        "format": FORMAT,
        "kind": header.spec.kind,
        "reduce": header.spec.reduce,
        "whiten": header.spec.whiten,
        "dim": header.dim,
        "generation": header.generation,
        "token": header.token.hex(),
        "highest": header.highest,
        "items": header.items,
        "resident_bytes": header.resident_bytes,
        "files": files,
        "measured": header.measured,
        "details": header.details,
    }
    write_json(folder / HEADER, {**content, "check": _check(content)})
    names = {file["name"] for file in files.values()}
    for old in [*folder.glob("index-*"), *folder.glob(".index-*.tmp")]:
        if old.name not in names:
            old.unlink(missing_ok=True)


def read_header(folder: Path) -> Header | None:
    """Read what `index.json` says of the saved index; None when it is missing, damaged or older."""
    try:
        content = json.loads((folder / HEADER).read_bytes())
        if content.pop("check") != _check(content) or content["format"] != FORMAT:
            return None
        return Header(
            spec=Spec(content["kind"], content["reduce"], content["whiten"]),
            dim=content["dim"],
            generation=content["generation"],
            token=bytes.fromhex(content["token"]),
            highest=content["highest"],
            items=content["items"],
            resident_bytes=content["resident_bytes"],
            files=content["files"],
            measured=content["measured"],
            details=content["details"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def matching_header(folder: Path, spec: Spec, dim: int) -> Header | None:
    """Read what `index.json` says if it is of an index made like this, otherwise None."""
    header = read_header(folder)
    return header if header is not None and (header.spec, header.dim) == (spec, dim) else None


def checked_file(folder: Path, header: Header, ending: str) -> Path | None:
    """Give a file of the index when its bytes are those that were written, otherwise None."""
    try:
        entry = header.files[ending]
        file = folder / Path(entry["name"]).name
        return file if file_digest(file) == entry["digest"] else None
    except (OSError, KeyError):
        return None


def _check(content: dict[str, Any]) -> str:
    """Compute the digest of a header: a flipped digit in it would be valid JSON."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
