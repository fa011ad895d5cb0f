"""Compare two runs on the same queries: how much they differ, how sure that is, and where."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cfcd.errors import EvaluationError
from cfcd.evaluation.comparison_settings import differing
from cfcd.evaluation.intervals import Interval, Paired, bootstrap_mean, paired_difference
from cfcd.evaluation.saved import SavedQuery, SavedReport

_SAME_FACTS = ("protocol", "ap_rule")
_RECALLS = (1, 5, 10)
_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class Measure:
    """Compare one measure over the queries: all in percent, the difference is B - A.

    Attributes:
        name: Such as "mAP", "mAP medium" or "R@1".
        queries: How many have it in both runs.
        a: Mean of run A with its interval.
        b: Mean of run B with its interval.
        difference: Their paired difference.
    """

    name: str
    queries: int
    a: Interval
    b: Interval
    difference: Paired


@dataclass(frozen=True)
class ClassChange:
    """Hold the mean average precision of one label in both runs, in percent."""

    label: str
    queries: int
    a: float
    b: float

    @property
    def change(self) -> float:
        """Give B - A."""
        return self.b - self.a


@dataclass(frozen=True)
class Protocol:
    """Compare one kind of average precision: the only one, or one of easy, medium, hard.

    Attributes:
        name: Its name, "" for the only one.
        measures: Its mean first, then the means of further measures, or R@k, as far as both reports tell.
        classes: Changes per label, gains first; empty without labels.
        pairs: (id, percent in A, percent in B) of every common query, in the order of A.
    """

    name: str
    measures: tuple[Measure, ...]
    classes: tuple[ClassChange, ...]
    pairs: tuple[tuple[str, float, float], ...]

    def changed(self, most: int, *, better: bool) -> list[tuple[str, float, float]]:
        """Give the queries that gained (or lost) most from A to B, the largest change first."""
        sign = 1 if better else -1
        some = [pair for pair in self.pairs if sign * (pair[2] - pair[1]) > 0]
        return sorted(some, key=lambda pair: -sign * (pair[2] - pair[1]))[:most]


@dataclass(frozen=True)
class Comparison:
    """Hold what two runs differ by.

    Attributes:
        a: The first report.
        b: The second.
        protocols: One for each kind of average precision that both have.
        notes: In what the reports differ although they were compared, one sentence each.
    """

    a: SavedReport
    b: SavedReport
    protocols: tuple[Protocol, ...]
    notes: tuple[str, ...]

    def verdict(self, protocol: Protocol) -> str:
        """Say in a sentence which run is better, and whether that could be chance."""
        mean = protocol.measures[0]
        d = mean.difference
        if not d.wins + d.losses:
            return f"A and B have the same average precision on each of {mean.queries:,} queries."
        sure = f"95 % interval {d.low:+.1f} to {d.high:+.1f}, p {p_words(d.p)}, {mean.queries:,} queries"
        if d.p >= 0.05:
            return f"{mean.name} changes by {d.mean:+.1f} from A to B, which may be chance ({sure})."
        return f"{'B' if d.mean > 0 else 'A'} is better: {mean.name} changes by {d.mean:+.1f} ({sure})."

    def to_json(self) -> dict[str, Any]:
        """Give the comparison as plain data: percentages to four decimals, differences B - A."""
        return {
            "a": {"report": str(self.a.path), "model": self.a.model},
            "b": {"report": str(self.b.path), "model": self.b.model},
            "differing": {name: list(both) for name, both in differing(self.a, self.b).items()},
            "notes": list(self.notes),
            "protocols": [
                {
                    "name": protocol.name,
                    "verdict": self.verdict(protocol),
                    "measures": [_rounded(asdict(measure)) for measure in protocol.measures],
                    "classes": [
                        {**_rounded(asdict(c)), "change": round(c.change, 4)} for c in protocol.classes
                    ],
                    "queries": [[key, round(a, 4), round(b, 4)] for key, a, b in protocol.pairs],
                }
                for protocol in self.protocols
            ],
        }


def compare(a: SavedReport, b: SavedReport, *, common: bool = False) -> Comparison:
    """Compare two reports of the same data.

    Args:
        a: The first report, such as the one of the model at hand.
        b: The second, such as the one of a new model.
        common: Compare on the queries that both have, although queries or gallery differ; what differs is
            said in the notes.

    Raises:
        EvaluationError: The reports measure different things, have no query in common, or differ in queries
            or gallery and `common` was not asked for.
    """
    for name in _SAME_FACTS:
        if a.facts.get(name) != b.facts.get(name):
            raise EvaluationError(
                f"A was measured with {name} {a.facts.get(name)!r}, B with {b.facts.get(name)!r}.",
                "Evaluate both in the same way; such numbers cannot be compared.",
            )
    names = [name for name in a.names if name in b.names]
    if not names:
        raise EvaluationError(
            f"A has the average precisions {_listed(a.names)}, B has {_listed(b.names)}.",
            "Compare two reports of the same evaluation.",
        )
    notes = tuple(_differences(a, b))
    if notes and not common:
        raise EvaluationError(
            f"The reports are not of the same data: {' '.join(notes)}",
            "Evaluate both on the same data, or compare on the common queries with --common.",
        )
    if a.facts.get("cropped") != b.facts.get("cropped"):
        notes = (*notes, "Whether the queries were cropped is known of one report only.")
    others = {query.id: query for query in b.queries}
    both = [(query, others[query.id]) for query in a.queries if query.id in others]
    protocols = [_protocol(name, both) for name in names]
    if not any(protocols):
        raise EvaluationError("The reports have no query in common.", "Compare reports of the same data.")
    return Comparison(a, b, tuple(p for p in protocols if p is not None), notes)


def p_words(p: float) -> str:
    """Write a p-value as papers do."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _protocol(name: str, both: Sequence[tuple[SavedQuery, SavedQuery]]) -> Protocol | None:
    having = [(a, b) for a, b in both if name in a.ap and name in b.ap]
    if not having:
        return None
    pairs = tuple((a.id, a.ap[name], b.ap[name]) for a, b in having)
    measures = [_measure(f"mAP {name}".strip(), [p[1] for p in pairs], [p[2] for p in pairs])]
    kept = [set(query.precision.get(name, {})) for pair in having for query in pair]
    ranked = all(name in query.rank_of_first for pair in having for query in pair)
    for measure in sorted(set.intersection(*kept), key=lambda measure: (len(measure), measure)):
        columns = [[pair[side].precision[name][measure] for pair in having] for side in (0, 1)]
        measures.append(_measure(f"m{measure}", *columns))
    # Benchmarks that give the precision of the first k leave recall at k out.
    for k in _RECALLS if ranked and len(measures) == 1 else ():
        columns = [[_found(pair[side], name, k) for pair in having] for side in (0, 1)]
        measures.append(_measure(f"R@{k}", *columns))
    return Protocol(name, tuple(measures), _classes(name, having), pairs)


def _found(query: SavedQuery, name: str, k: int) -> float:
    rank = query.rank_of_first[name]
    return 100.0 * (rank is not None and rank <= k)


def _measure(name: str, a: Sequence[float], b: Sequence[float]) -> Measure:
    return Measure(name, len(a), bootstrap_mean(a), bootstrap_mean(b), paired_difference(a, b))


def _classes(name: str, having: Sequence[tuple[SavedQuery, SavedQuery]]) -> tuple[ClassChange, ...]:
    members: dict[str, list[tuple[float, float]]] = {}
    for a, b in having:
        if a.label is not None:
            members.setdefault(a.label, []).append((a.ap[name], b.ap[name]))
    changes = [
        ClassChange(label, len(found), _mean(p[0] for p in found), _mean(p[1] for p in found))
        for label, found in members.items()
    ]
    return tuple(sorted(changes, key=lambda c: (-c.change, c.label)))


def _differences(a: SavedReport, b: SavedReport) -> list[str]:
    """Say in what the data differ, one sentence each."""
    first, second = ({query.id: query for query in report.queries} for report in (a, b))
    said = []
    for name, own, other in (("A", first, second), ("B", second, first)):
        if alone := [key for key in own if key not in other]:
            said.append(f"Only in {name}: {_some(alone)}.")
    shared = [key for key in first if key in second]
    if changed := [key for key in shared if first[key].label != second[key].label]:
        said.append(f"With another label: {_some(changed)}.")
    if changed := [key for key in shared if first[key].positives != second[key].positives]:
        said.append(f"With another number of right images: {_some(changed)}.")
    for name in ("gallery", "database", "distractors"):
        sizes = [report.facts.get(name) for report in (a, b)]
        if sizes[0] != sizes[1]:
            said.append(f"Size of the {name}: {sizes[0]} in A, {sizes[1]} in B.")
    if not said:
        facts = {"data": "The galleries hold other images or labels.", "ground_truth": "The answers differ."}
        for name, sentence in facts.items():
            digests = [_digest(report.facts.get(name)) for report in (a, b)]
            if None not in digests and digests[0] != digests[1]:
                said.append(sentence)
    return said


def _digest(data: Any) -> Any:
    return data.get("digest") if isinstance(data, Mapping) else None


def _some(queries: Sequence[str]) -> str:
    count = "1 query" if len(queries) == 1 else f"{len(queries):,} queries"
    return f"{count}, {_listed(queries)}"


def _listed(names: Sequence[str]) -> str:
    shown = [repr(name) for name in names[:_NAMED_AT_MOST]]
    return ", ".join(shown) + (" and others" if len(names) > _NAMED_AT_MOST else "")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: round(one, 6) if name == "p" else _rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)
