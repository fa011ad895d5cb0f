"""Hold what an evaluation on Google Landmarks v2 found, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEPTH = 100
"""Places of a ranking that count in retrieval."""


@dataclass(frozen=True)
class RetrievalQuery:
    """Say how one query did: its average precision in percent, its positives, and its ten best hits."""

    id: str
    usage: str
    ap: float
    positives: int
    found: int
    top: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """Say which landmark one query was given, how surely, and whether it is there; None for none."""

    id: str
    usage: str
    landmark: str
    score: float
    right: bool
    has_landmark: bool


@dataclass(frozen=True)
class LandmarksReport:
    """Hold the result of one of the two tasks.

    Attributes:
        task: "retrieval" or "recognition".
        scores: mAP@100 or GAP in percent by "Public", "Private" and "all"; None where no query counts.
        queries: How many queries count, by the same keys: in recognition those with a landmark.
        gallery: Images that were searched.
        ignored: Queries that the solution leaves out.
        missing: Queries without a descriptor; they found nothing, and count.
        protocol: Further facts that make the score what it is.
        model: What made the descriptors, as far as it is known.
        details: In retrieval one entry per query that counts, in recognition one per query with a
            descriptor; in the order of the solution.
    """

    task: str
    scores: Mapping[str, float | None]
    queries: Mapping[str, int]
    gallery: int
    ignored: int
    missing: tuple[str, ...]
    protocol: Mapping[str, Any]
    model: str | None
    details: tuple[RetrievalQuery, ...] | tuple[Prediction, ...]

    @property
    def measure(self) -> str:
        """Name the measure."""
        return f"mAP@{DEPTH}" if self.task == "retrieval" else "GAP"

    def to_json(self) -> dict[str, Any]:
        """Give plain data: percentages to four decimals, without the single queries."""
        return {
            "task": self.task,
            "measure": self.measure,
            "protocol": f"{self.measure} of Google Landmarks v2 {self.task}",
            **{
                name.lower(): None if score is None else round(score, 4)
                for name, score in self.scores.items()
            },
            "queries": {name.lower(): count for name, count in self.queries.items()},
            "gallery": self.gallery,
            "ignored_queries": self.ignored,
            "missing_queries": len(self.missing),
            **self.protocol,
            "model": self.model,
        }

    def per_query(self) -> list[dict[str, Any]]:
        """List what `cfcd compare` needs of the queries; none of recognition, whose GAP is no mean."""
        return [
            {
                "id": query.id,
                "ap": {"all": round(query.ap, 6), query.usage.lower(): round(query.ap, 6)},
                "positives": query.positives,
            }
            for query in self.details
            if isinstance(query, RetrievalQuery)
        ]

    def summary(self) -> str:
        """Give a few lines for people."""
        figures = [
            f"{name.lower()} {score:.2f} ({self.queries[name]:,} queries)"
            for name, score in self.scores.items()
            if score is not None
        ]
        lines = [
            f"{self.measure}   " + "   ".join(figures) + "   (percent)",
            f"{self.task} on Google Landmarks v2 against {self.gallery:,} images; "
            f"{self.ignored:,} queries ignored by the solution",
            ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.protocol.items()),
        ]
        if self.missing:
            lines.append(f"{len(self.missing):,} queries have no descriptor, and count as not answered")
        if self.model:
            lines.append(f"model {self.model}")
        return "\n".join(lines)
