"""What an explanation says, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Box

TOLERANCE = 1e-4
"""By how much the shares may miss the score; fp32 misses it by about 1e-7."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Hold what each region of one picture has in the score.

    Attributes:
        shares: (h, w) float64, read-only: they add up to the score; shares below nought speak against it.
        constant: Part of the score that belongs to the network's bias and to no region; it is in `shares`,
            spread evenly.
        area: (x1, y1, x2, y2) in pixels of the upright picture, what the shares cover.
        size: (width, height) in pixels of the upright picture.
        descriptor: (D,) float32 unit vector.
    """

    shares: NDArray[np.float64] = field(repr=False)
    constant: float
    area: Box
    size: tuple[int, int]
    descriptor: NDArray[np.float32] = field(repr=False)

    def __post_init__(self) -> None:
        self.shares.setflags(write=False)

    @property
    def boxed(self) -> bool:
        """Tell whether a part of the picture was taken alone."""
        return self.area != (0, 0, *self.size)

    @property
    def against(self) -> float:
        """Give the sum of the shares below nought, as a number of 0 or less."""
        return float(self.shares[self.shares < 0].sum())

    @property
    def decided(self) -> bool:
        """Tell whether regions speak for a match, with less than half as much against it."""
        total = float(self.shares.sum())
        return total > 0 and -self.against < (total - self.against) / 2

    def strongest(self, part: float = 0.5) -> NDArray[np.bool_]:
        """Mark the fewest cells (h, w) that have a part of the score; none where it is not decided."""
        marked = np.zeros(self.shares.size, bool)
        total = float(self.shares.sum())
        if self.decided:
            order = np.argsort(-self.shares, axis=None, kind="stable")
            reached = np.cumsum(self.shares.reshape(-1)[order]) >= part * total * (1 - 1e-12)
            marked[order[: int(np.argmax(reached)) + 1]] = True
        return marked.reshape(self.shares.shape)

    def within(self, box: Box) -> float:
        """Add up the shares within (x1, y1, x2, y2) pixels; cells cut by its edges count in part."""
        x1, y1, x2, y2 = self.area
        down = _covered(self.shares.shape[0], (box[1] - y1) / (y2 - y1), (box[3] - y1) / (y2 - y1))
        across = _covered(self.shares.shape[1], (box[0] - x1) / (x2 - x1), (box[2] - x1) / (x2 - x1))
        return float(down @ self.shares @ across)

    def to_json(self) -> dict[str, Any]:
        """Give the regions as plain data."""
        return {
            "size": list(self.size),
            "area": list(self.area),
            "grid": list(self.shares.shape),
            "shares": [[round(float(share), 8) for share in row] for row in self.shares],
            "constant": round(self.constant, 8),
            "against": round(self.against, 8),
            "decided": self.decided,
        }


def _covered(cells: int, start: float, stop: float) -> NDArray[np.float64]:
    edges = np.arange(cells + 1) / cells
    covered: NDArray[np.float64] = np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start)
    return np.clip(covered, 0, None) * cells


@dataclass(frozen=True)
class Match:
    """Join two places that are each other's most alike.

    Attributes:
        query: (x, y) in pixels of the upright picture.
        hit: Likewise.
        cosine: Of the two local descriptors.
        distinct: Whether no other place of the query comes near: the ratio test that training makes.
    """

    query: tuple[float, float]
    hit: tuple[float, float]
    cosine: float
    distinct: bool


@dataclass(frozen=True, eq=False)
class Explanation:
    """Say which regions of two pictures make up the score of one against the other.

    Attributes:
        model: Label of the model that was asked.
        score: Cosine of the two descriptors, computed in fp32 whatever the encoder's precision.
        query: The query's regions.
        hit: The hit's regions.
        matches: Places that are alike, the most alike first (see `match_maps`).
        parity: Lowest cosine between a descriptor made up of its regions and that of the network.

    Raises:
        ModelError: The shares do not add up to the score.
    """

    model: str
    score: float
    query: Regions
    hit: Regions
    matches: tuple[Match, ...]
    parity: float

    def __post_init__(self) -> None:
        if not self.error <= TOLERANCE:  # not a number fails too
            raise ModelError(
                f"The shares of {self.model} miss the score {self.score:.6f} by {self.error:.1e}.",
                "Report this model: its scores should decompose over positions.",
            )

    @property
    def error(self) -> float:
        """Give by how much the shares miss the score, of the picture where they miss it more."""
        return max(abs(math.fsum(side.shares.flat) - self.score) for side in (self.query, self.hit))

    def to_json(self) -> dict[str, Any]:
        """Give the explanation as plain data."""
        return {
            "model": self.model,
            "score": round(self.score, 8),
            "query": self.query.to_json(),
            "hit": self.hit.to_json(),
            "matches": [
                {
                    "query": [round(value, 1) for value in match.query],
                    "hit": [round(value, 1) for value in match.hit],
                    "cosine": round(match.cosine, 6),
                    "distinct": match.distinct,
                }
                for match in self.matches
            ],
            "checks": {"parity": self.parity, "error": self.error},
        }
