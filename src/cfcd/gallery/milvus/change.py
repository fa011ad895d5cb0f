"""What a gallery on a Milvus server is to be told together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfcd.catalog import Item
    from cfcd.encoding.shards import FileStamp
    from cfcd.gallery.truth.rows import Skipped

    Added = tuple[int | None, str, str, Item, FileStamp, NDArray[np.floating[Any]] | None]


class Change:
    """Rows to write, with a number if it is kept and a descriptor unless that stays, and rows to remove."""

    def __init__(self) -> None:
        self.added: list[Added] = []
        self.ids: set[str] = set()
        self.lifted: set[int] = set()
        self.removed: set[int] = set()
        self.skipped: dict[str, dict[str, Skipped]] = {}
        self.left: set[str] | None = None

    @property
    def away(self) -> set[int]:
        """Give the numbers of rows that are removed, or have their ids taken until they are put back."""
        return self.lifted | self.removed

    def add(self, row: Added) -> None:
        """Write a row."""
        self.added.append(row)
        self.ids.add(row[3].id)
