"""Hold what the evaluation on Revisited Oxford or Paris found, for programs and for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cfcd.errors import EvaluationError
from cfcd.evaluation.metrics import ApRule

# What counts as right, and what is taken out of the ranking before anything is counted (METHOD section 6).
PROTOCOLS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
_NAMED = 5


@dataclass(frozen=True)
class RevisitedQuery:
    """Say how one query did under each protocol; None where it has no right image.

    Attributes:
        id: The query's name in the ground truth.
        ap: Protocol -> average precision in percent.
        precision_at: Protocol -> k -> precision at k in percent.
        ranks: Protocol -> 0-based places of the right images, increasing, ignored images taken out.
        top: (id, score, right or wrong) of the best images of all, best first: right are easy and hard ones
            alike, None stands for junk. Distractors, whose names are not known, are "distractor ROW".
    """

    id: str
    ap: Mapping[str, float | None]
    precision_at: Mapping[str, Mapping[int, float] | None]
    ranks: Mapping[str, tuple[int, ...] | None]
    top: tuple[tuple[str, float, bool | None], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the query as plain data."""
        precision = {
            protocol: None if at is None else {f"P@{k}": value for k, value in at.items()}
            for protocol, at in self.precision_at.items()
        }
        ranks = {
            protocol: None if places is None else list(places) for protocol, places in self.ranks.items()
        }
        top = [list(hit) for hit in self.top]
        return {"id": self.id, "ap": dict(self.ap), "precision": precision, "ranks": ranks, "top": top}


@dataclass(frozen=True)
class ProtocolResult:
    """Say how the queries did under one protocol; measures in percent, NaN when no query counts.

    Attributes:
        protocol: "easy", "medium" or "hard".
        mAP: Mean average precision.
        precision_at: k -> mean precision at k.
        queries: Queries that count.
        without_positives: Names of the queries without a right image, left out of the means.
    """

    protocol: str
    mAP: float  # noqa: N815
    precision_at: Mapping[int, float]
    queries: int
    without_positives: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data; a mean over nothing is None."""
        measures = {"mAP": self.mAP, **{f"mP@{k}": value for k, value in self.precision_at.items()}}
        return {
            **{name: value if math.isfinite(value) else None for name, value in measures.items()},
            "queries": self.queries,
            "without_positives": list(self.without_positives),
        }


@dataclass(frozen=True)
class RevisitedReport:
    """Hold the result of one evaluation; all measures are in percent and must agree with each other.

    Attributes:
        protocols: One result per protocol, in the order asked for.
        per_query: One entry per query of the ground truth, in its order.
        database: Images of the database.
        distractors: Further images behind them.
        dim: D, numbers per descriptor.
        ap_rule: How average precision was summed, see `average_precision`.

    Raises:
        EvaluationError: The parts contradict each other.
    """

    protocols: tuple[ProtocolResult, ...]
    per_query: tuple[RevisitedQuery, ...]
    database: int
    distractors: int
    dim: int
    ap_rule: ApRule = "trapezoid"

    def __post_init__(self) -> None:
        """Refuse a report whose parts contradict each other."""
        for result in self.protocols:
            aps = [ap for query in self.per_query if (ap := query.ap[result.protocol]) is not None]
            agrees = (
                len(aps) == result.queries
                and len(aps) + len(result.without_positives) == len(self.per_query)
                and (not aps or math.isclose(result.mAP, math.fsum(aps) / len(aps), abs_tol=1e-9))
                and all(0 <= value <= 100 + 1e-9 for value in (*aps, *result.precision_at.values()) if aps)
            )
            if not agrees:
                raise EvaluationError(
                    f"The {result.protocol} figures of a report do not agree with its queries.",
                    "Let cfcd.evaluation.revisited make the report.",
                )

    def __getitem__(self, protocol: str) -> ProtocolResult:
        """Return the result of one protocol; raise KeyError when it was not asked for."""
        return {result.protocol: result for result in self.protocols}[protocol]

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes, unrounded, the single queries included."""
        return {
            "protocols": {result.protocol: result.to_json() for result in self.protocols},
            "ap_rule": self.ap_rule,
            "queries": len(self.per_query),
            "database": self.database,
            "distractors": self.distractors,
            "dim": self.dim,
            "per_query": [query.to_json() for query in self.per_query],
        }

    def text(self) -> str:
        """Return aligned text for people: a table of the protocols, and who was left out."""
        against = f"{self.database:,} images"
        if self.distractors:
            against += f" and {self.distractors:,} distractors"
        cuts = list(self.protocols[0].precision_at)
        heads = ["mAP", *(f"mP@{k}" for k in cuts), "queries"]
        lines = [
            f"{len(self.per_query):,} queries against {against} (percent)",
            "",
            f"{'':<8}" + "".join(f"{head:>9}" for head in heads),
        ]
        for result in self.protocols:
            values = [result.mAP, *(result.precision_at[k] for k in cuts)]
            cells = [f"{value:.2f}" if math.isfinite(value) else "-" for value in values]
            lines.append(f"{result.protocol:<8}" + "".join(f"{cell:>9}" for cell in (*cells, result.queries)))
        lines += [
            f"{result.protocol}: left out, nothing to find for {_some(result.without_positives)}"
            for result in self.protocols
            if result.without_positives
        ]
        return "\n".join(lines)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
