"""Choose score thresholds by pooled hits, and say honestly how good they are.

The hits of one query are not independent draws: all of them are right or wrong together more often than not.
Bounds therefore count queries instead of hits, as if a query's hits were one, which is the cautious end.
Queries of one object resemble each other too; the estimate on held-out objects is there for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfcd.errors import EvaluationError
from cfcd.gallery.calibration.thresholds import Bin, HeldOut, Share, Threshold

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Numbers = NDArray[np.int64]

_ONE_SIDED = 1.6448536269514722  # 95 % of a normal distribution lie below
_TWO_SIDED = 1.959963984540054  # 95 % lie within
_FOLDS = 5
_MOST_BINS = 20
_HITS_A_BIN = 40


@dataclass(frozen=True)
class Pairs:
    """Hits of known worth, (P,) each.

    Attributes:
        scores: Cosines.
        right: Whether query and hit show one object.
        queries: The query's number.
        objects: The number of the query's label.
        first: Whether it is the best hit of its query.
    """

    scores: Doubles
    right: Bools
    queries: Numbers
    objects: Numbers
    first: Bools

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, chosen: Bools) -> Pairs:
        """Take some of the hits."""
        return Pairs(
            self.scores[chosen],
            self.right[chosen],
            self.queries[chosen],
            self.objects[chosen],
            self.first[chosen],
        )


def wilson_bound(share: Doubles, n: Numbers | Doubles, z: float) -> Doubles:
    """Give the end of Wilson's score interval that lies below a share; above it for negative z.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927); Brown,
    Cai & DasGupta, "Interval estimation for a binomial proportion" (2001) recommend it for small n.

    Args:
        share: Observed shares between 0 and 1.
        n: Independent observations behind each, at least 1.
        z: Quantile of the normal distribution.
    """
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(np.maximum(share * (1 - share), 0) / n + z * z / (4 * n * n))
    return np.asarray((centre - spread) / (1 + z * z / n), np.float64)


def share_of(pairs: Pairs) -> Share:
    """Give the share of right hits and its two-sided 95 % interval, by queries."""
    hits, queries = len(pairs), len(np.unique(pairs.queries))
    if not hits:
        return Share(0, 0, 0, 0.0, 1.0)
    right = int(pairs.right.sum())
    share, n = np.array([right / hits]), np.array([queries])
    low, high = (float(wilson_bound(share, n, z)[0]) for z in (_TWO_SIDED, -_TWO_SIDED))
    return Share(right, hits, queries, max(0.0, low), min(1.0, high))


def fit_threshold(pairs: Pairs, wanted: float) -> Threshold:
    """Find the lowest score at and above which precision is shown to be at least the wanted one.

    Shown: the one-sided 95 % lower Wilson bound holds. Because the lowest of many scores is taken, precision
    above it is somewhat flattered; the held-out estimate is not.

    Raises:
        EvaluationError: There are too few queries, or the precision is not reached; the message says what
            can be.
    """
    queries = len(np.unique(pairs.queries))
    needed = math.ceil(_ONE_SIDED**2 * wanted / (1 - wanted) - 1e-9)
    if queries < needed:
        most = queries / (queries + _ONE_SIDED**2)
        raise EvaluationError(
            f"{_count(queries, 'query', 'queries')} with a hit cannot show a precision of {wanted:g}: even "
            f"without any mistake that takes {needed}.",
            f"Give more labelled pictures, or ask for at most {math.floor(100 * most) / 100:g}.",
        )
    score, bound, reached = _lowest(pairs, wanted)
    above = pairs.only(pairs.scores >= score)
    if not reached:
        share = share_of(above)
        best = math.floor(1000 * bound) / 1000
        queries_above = _count(share.queries, "query", "queries")
        raise EvaluationError(
            f"A precision of {wanted:g} is not reached at any score: at best {best:.3f} can be shown, by the "
            f"{share.hits:,} hits of {queries_above} from score {score:.3f} on, of which "
            f"{100 * share.precision:.1f} % are right.",
            "So few pictures, or such hits, cannot show more: ask for less with --precision "
            f"{math.floor(100 * bound) / 100:g}, give more labelled pictures, or train the model on them.",
        )
    kept = above.right.sum() / pairs.right.sum()
    return Threshold(wanted, score, bound, share_of(above), float(kept), _held_out(pairs, wanted))


def reliability_curve(pairs: Pairs) -> tuple[Bin, ...]:
    """Give precision by score, ascending: up to 20 bins of about equally many hits."""
    order = np.argsort(pairs.scores, kind="stable")
    scores = pairs.scores[order]
    count = max(1, min(_MOST_BINS, len(scores) // _HITS_A_BIN))
    cuts = [0]
    for part in range(1, count):
        cut = int(np.searchsorted(scores, scores[part * len(scores) // count]))  # equal scores stay together
        if cut > cuts[-1]:
            cuts.append(cut)
    bins = []
    for start, stop in zip(cuts, [*cuts[1:], len(scores)], strict=True):
        chosen = np.zeros(len(scores), bool)
        chosen[order[start:stop]] = True
        bins.append(Bin(float(scores[start]), float(scores[stop - 1]), share_of(pairs.only(chosen))))
    return tuple(bins)


def _lowest(pairs: Pairs, wanted: float) -> tuple[float, float, bool]:
    """Give the lowest score whose bound reaches the wanted precision; else that of the best bound."""
    order = np.argsort(-pairs.scores, kind="stable")
    scores = pairs.scores[order]
    new = np.zeros(len(order), bool)
    new[np.unique(pairs.queries[order], return_index=True)[1]] = True
    precision = np.cumsum(pairs.right[order]) / np.arange(1, len(order) + 1)
    bounds = wilson_bound(precision, np.cumsum(new), _ONE_SIDED)
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # equal scores go together
    good = ends[bounds[ends] >= wanted]
    at = good[-1] if len(good) else ends[np.argmax(bounds[ends])]
    return float(scores[at]), float(bounds[at]), bool(len(good))


def _held_out(pairs: Pairs, wanted: float) -> HeldOut | None:
    """Choose the threshold without the queries of some objects, and judge it by those; for all in turn."""
    fold_of = _folds(pairs.objects)
    folds = len(set(fold_of.values()))
    if folds < 2:
        return None
    fold = np.array([fold_of[int(one)] for one in pairs.objects])
    above = np.zeros(len(pairs), bool)
    failed = 0
    for number in range(folds):
        held = fold == number
        score, _, reached = _lowest(pairs.only(~held), wanted)
        if reached:
            above |= held & (pairs.scores >= score)
        failed += not reached
    first = above & pairs.first
    return HeldOut(
        folds,
        failed,
        share_of(pairs.only(above)),
        share_of(pairs.only(first)),
        float((above & pairs.right).sum() / max(1, pairs.right.sum())),
        float(first.sum() / max(1, pairs.first.sum())),
    )


def _folds(objects: Numbers) -> dict[int, int]:
    """Share the objects out to folds of about equally many hits: the largest first, each to the smallest."""
    found, counts = np.unique(objects, return_counts=True)
    sizes = [0] * min(_FOLDS, len(found))
    folds = {}
    for at in np.argsort(-counts, kind="stable"):
        fold = sizes.index(min(sizes))
        folds[int(found[at])] = fold
        sizes[fold] += int(counts[at])
    return folds


def number_of(names: Sequence[str]) -> Numbers:
    """Give equal names equal numbers."""
    places: dict[str, int] = {}
    return np.array([places.setdefault(name, len(places)) for name in names], np.int64)


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
