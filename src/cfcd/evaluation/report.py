"""Hold what an evaluation found, for programs and for people."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cfcd.errors import EvaluationError
from cfcd.evaluation.curves import RECALL_LEVELS
from cfcd.evaluation.metrics import ApRule

LEAVE_ONE_OUT = "leave-one-out"
QUERY_GALLERY = "query/gallery"
RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class QueryResult:
    """Say how one query did.

    Attributes:
        id: The query image.
        label: Its label.
        ap: Average precision in percent.
        rank_of_first: 1-based rank of the first right image; None if none was ranked.
        positives: Right images in the gallery.
        top: (id, score, correct) of the best hits, best first.
    """

    id: str
    label: str
    ap: float
    rank_of_first: int | None
    positives: int
    top: tuple[tuple[str, float, bool], ...]


@dataclass(frozen=True)
class ClassResult:
    """Say how the queries of one label did on average, in percent."""

    label: str
    queries: int
    mAP: float  # noqa: N815
    recall_at_1: float


@dataclass(frozen=True)
class FolderReport:
    """Hold the result of one evaluation; all measures are in percent and must agree with each other.

    Attributes:
        protocol: "leave-one-out" or "query/gallery".
        queries: Queries that count: labelled and with a positive in the gallery.
        gallery: Gallery items (in leave-one-out each query sees one fewer).
        skipped_queries: Queries without label or positive, left out of every mean.
        mAP: Mean average precision.
        mAP_at_R: Mean MAP@R of Musgrave et al. (2020).
        r_precision: Mean R-precision: the share of right images among the first R, R being all right ones.
            NMI is left out on purpose: it measures one run of a clustering as much as the descriptors.
        recall_at: k -> share of the queries with a right image among the top k.
        per_class: One result per label, in alphabetical order.
        per_query: One result per counted query, in query order.
        ap_rule: How average precision was summed, see `average_precision`.
        precision_at: Mean interpolated precision at 0, 1, ... 100 percent recall, see
            `interpolated_precision`; empty if it was not computed.

    Raises:
        EvaluationError: The parts contradict each other.
    """

    protocol: str
    queries: int
    gallery: int
    skipped_queries: int
    mAP: float  # noqa: N815
    mAP_at_R: float  # noqa: N815
    r_precision: float
    recall_at: Mapping[int, float]
    per_class: tuple[ClassResult, ...]
    per_query: tuple[QueryResult, ...]
    ap_rule: ApRule = "standard"
    precision_at: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a report whose parts contradict each other."""
        recalls = [self.recall_at[k] for k in sorted(self.recall_at)]
        percents = [
            self.mAP,
            self.mAP_at_R,
            self.r_precision,
            *recalls,
            *self.precision_at,
            *(q.ap for q in self.per_query),
        ]
        aps = [q.ap for q in self.per_query]
        checks = {
            "the protocol is known": self.protocol in {LEAVE_ONE_OUT, QUERY_GALLERY},
            "there are queries and gallery items": self.queries > 0 and self.gallery > 0,
            "no count is negative": self.skipped_queries >= 0,
            "every measure lies from 0 to 100": all(0 <= p <= 100 + 1e-9 for p in percents),
            "recall is given at 1, 5 and 10": set(RECALLS) <= set(self.recall_at),
            "the precision-recall curve is whole": len(self.precision_at) in {0, RECALL_LEVELS},
            "recall grows with k": recalls == sorted(recalls),
            "mAP@R is at most R-precision": self.mAP_at_R <= self.r_precision + 1e-9,
            "there is one result per query": len(aps) == self.queries,
            "the classes hold all queries": sum(c.queries for c in self.per_class) == self.queries,
            "mAP is the mean over the queries": math.isclose(
                self.mAP, math.fsum(aps) / max(1, len(aps)), abs_tol=1e-6
            ),
        }
        for claim, holds in checks.items():
            if not holds:
                raise EvaluationError(
                    f"A report must be such that {claim}, and this one is not.",
                    "Let evaluate_descriptors make the report.",
                )

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: percentages to four decimals, without the single queries."""
        return {
            "mAP": round(self.mAP, 4),
            "mAP@R": round(self.mAP_at_R, 4),
            "R-precision": round(self.r_precision, 4),
            **{f"R@{k}": round(v, 4) for k, v in sorted(self.recall_at.items())},
            "protocol": self.protocol,
            "ap_rule": self.ap_rule,
            "queries": self.queries,
            "gallery": self.gallery,
            "skipped_queries": self.skipped_queries,
            "classes": len(self.per_class),
            "per_class": [
                {
                    "label": c.label,
                    "queries": c.queries,
                    "mAP": round(c.mAP, 4),
                    "R@1": round(c.recall_at_1, 4),
                }
                for c in self.per_class
            ],
        }

    def worst(self, n: int) -> list[QueryResult]:
        """Return the n queries with the lowest average precision, worst first, ties in query order."""
        return sorted(self.per_query, key=lambda q: q.ap)[:n]

    def summary(self, max_classes: int = 20) -> str:
        """Return aligned text for people: the headline, then the classes, worst first.

        Args:
            max_classes: Classes shown at most; how many are hidden is said.
        """
        figures = {"mAP": self.mAP, "mAP@R": self.mAP_at_R, "R-precision": self.r_precision}
        figures |= {f"R@{k}": v for k, v in sorted(self.recall_at.items())}
        lines = [
            "   ".join(f"{name} {value:.1f}" for name, value in figures.items()) + "   (percent)",
            f"{self.protocol}: {_count(self.queries, 'query', 'queries')} "
            f"against {_count(self.gallery, 'image', 'images')}",
        ]
        if self.skipped_queries:
            skipped = _count(self.skipped_queries, "query", "queries")
            lines[-1] += f"; {skipped} without label or right image left out"
        shown = sorted(self.per_class, key=lambda c: c.mAP)[:max_classes]
        if not shown:
            return "\n".join(lines)
        names = [_printable(c.label) for c in shown]
        column = max(len("class (worst first)"), *map(_width, names))
        lines += ["", f"{'class (worst first)':<{column}}  queries    mAP    R@1"]
        for name, c in zip(names, shown, strict=True):
            pad = " " * (column - _width(name))
            lines.append(f"{name}{pad}  {c.queries:7d}  {c.mAP:5.1f}  {c.recall_at_1:5.1f}")
        if hidden := len(self.per_class) - len(shown):
            lines.append(f"... and {_count(hidden, 'better class', 'better classes')}")
        return "\n".join(lines)


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _printable(text: str, longest: int = 40) -> str:
    """Make a label safe for a terminal and short enough for a column."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _width(text: str) -> int:
    """Count terminal cells: East Asian wide characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
