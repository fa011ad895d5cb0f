"""One search result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cfcd.catalog import Item


@dataclass(frozen=True)
class Hit:
    """One search result: rank from 1, the item's id, cosine score, and its catalog row.

    `verdict` is match, maybe or none once the gallery is calibrated, and None before.
    """

    rank: int
    id: str
    score: float
    verdict: str | None
    item: Item

    def to_json(self) -> dict[str, Any]:
        """Give the hit as plain data."""
        return {
            "rank": self.rank,
            "id": self.id,
            "score": round(self.score, 6),
            "verdict": self.verdict,
            "path": str(self.item.path),
            "label": self.item.label,
            "split": self.item.split,
            "box": self.item.box,
            "extra": dict(self.item.extra),
        }
