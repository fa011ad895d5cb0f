"""One search result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cfcd.catalog import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Hit:
    """One search result: rank from 1, the item's id, cosine score, and its catalog row.

    `verdict` is match, maybe or none once the gallery is calibrated, and None before. `descriptor` is the
    item's (D,) float32 unit descriptor where the search was asked for it.
    """

    rank: int
    id: str
    score: float
    verdict: str | None
    item: Item
    descriptor: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    @property
    def uri(self) -> str:
        """Give the picture's place as a URI, or the path as it is where it names no place on this system."""
        return self.item.path.as_uri() if self.item.path.is_absolute() else str(self.item.path)

    def to_json(self) -> dict[str, Any]:
        """Give the hit as plain data; the key descriptor is there only with a descriptor."""
        found = {
            "rank": self.rank,
            "id": self.id,
            "score": round(self.score, 6),
            "verdict": self.verdict,
            "path": str(self.item.path),
            "uri": self.uri,
            "label": self.item.label,
            "split": self.item.split,
            "box": self.item.box,
            "extra": dict(self.item.extra),
        }
        if self.descriptor is not None:
            found["descriptor"] = [round(float(value), 7) for value in self.descriptor]
        return found
