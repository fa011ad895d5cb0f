"""Where an update takes pictures from: a catalog that is encoded now, or a folder encoded before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cfcd.catalog import Catalog, Item
from cfcd.encoding.bulk import encode_items
from cfcd.encoding.encoder import Encoder
from cfcd.encoding.shards import Encoded, FileStamp
from cfcd.errors import PictureError
from cfcd.files import content_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What `status` gives for a file that is there but cannot be reached: not missing, so nothing is removed.
UNREADABLE = (-1, -1)

Arrival = tuple[Item, FileStamp | None, "NDArray[np.float32] | PictureError"]


class Intake(Protocol):
    """What an update needs to know of incoming pictures."""

    catalog: Catalog

    def status(self, index: int) -> tuple[int, int] | None:
        """Give a file's size (bytes) and mtime (ns), None when it is missing, or UNREADABLE."""
        ...

    def digest(self, index: int) -> bytes | None:
        """Give the digest of a file's bytes, None when it cannot be read."""
        ...

    def encode(self, indices: Iterable[int]) -> Iterator[Arrival]:
        """Give item, stamp and descriptor (or error) of the rows, in order."""
        ...


class CatalogIntake:
    """Pictures on disk, encoded as they arrive."""

    def __init__(self, catalog: Catalog, encoder: Encoder) -> None:
        self.catalog = catalog
        self._encoder = encoder
        self._root = str(catalog.root)

    def status(self, index: int) -> tuple[int, int] | None:
        """Ask the file system."""
        # Joined as text: a Path takes several times as long, and there may be a million.
        path = os.path.join(self._root, self.catalog.paths[index])  # noqa: PTH118
        try:
            status = os.stat(self.catalog.file(index) if ".." in path else path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return UNREADABLE
        return status.st_size, status.st_mtime_ns

    def digest(self, index: int) -> bytes | None:
        """Read the file."""
        try:
            return content_digest(self.catalog.file(index))
        except OSError:
            return None

    def encode(self, indices: Iterable[int]) -> Iterator[Arrival]:
        """Decode and encode."""
        for job, result in encode_items(self._encoder, (self.catalog[index] for index in indices)):
            yield job.item, job.stamp, result


class EncodedIntake:
    """Descriptors made earlier by `encode_catalog`; the pictures need not be there any more."""

    def __init__(self, encoded: Encoded) -> None:
        self.catalog = encoded.catalog
        self._encoded = encoded

    def status(self, index: int) -> tuple[int, int]:
        """Give what was recorded when the file was encoded."""
        stamp = self._encoded.stamps[index]
        return stamp.size, stamp.mtime_ns

    def digest(self, index: int) -> bytes:
        """Give what was recorded when the file was encoded."""
        return self._encoded.stamps[index].digest

    def encode(self, indices: Iterable[int]) -> Iterator[Arrival]:
        """Look the descriptors up."""
        for index in indices:
            yield self.catalog[index], self._encoded.stamps[index], self._encoded.descriptors[index]
