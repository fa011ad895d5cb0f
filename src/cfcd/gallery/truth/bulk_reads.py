"""Descriptors of many items at once: what a store in a folder and one on a server have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cfcd.errors import GalleryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# As many are asked for at a time: two megabytes of 512 dimensions from a server.
_BLOCK = 1024


class BulkReads:
    """Read descriptors in the order asked for; the store brings `descriptors_of`, in its own order."""

    if TYPE_CHECKING:

        def meta(self, key: str) -> str: ...  # noqa: D102
        def descriptors_of(  # noqa: D102
            self, numbers: NDArray[np.int64]
        ) -> tuple[NDArray[np.int64], NDArray[np.float16]]: ...
        def lacks(self, number: int) -> GalleryError: ...  # noqa: D102

    def descriptor(self, number: int) -> NDArray[np.float32]:
        """Read one item's descriptor, (D,) float32; raises as `descriptors`."""
        found: NDArray[np.float32] = self.descriptors([number])[0]
        return found

    def descriptors(self, numbers: NDArray[np.int64] | Sequence[int]) -> NDArray[np.float32]:
        """Read the descriptors of row numbers, (n, D) float32 in the order of the numbers.

        Raises:
            DamagedStore: In a folder: one is damaged or not there.
            GalleryError: On a server: one is not there any more.
        """
        wanted = np.asarray(numbers, np.int64)
        parts = []
        for start in range(0, len(wanted), _BLOCK):
            block = wanted[start : start + _BLOCK]
            held, vectors = self.descriptors_of(np.unique(block))
            if len(missing := np.setdiff1d(block, held)):
                raise self.lacks(int(missing[0]))
            parts.append(vectors.astype(np.float32)[np.searchsorted(held, block)])
        return np.concatenate(parts) if parts else np.empty((0, int(self.meta("dim") or 0)), np.float32)
