"""Revisited Oxford and Paris on descriptors: Easy, Medium and Hard, exact with any number of distractors.

Protocol: Radenović et al., "Revisiting Oxford and Paris", CVPR 2018,
https://github.com/filipradenovic/revisitop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfcd.catalog.revisited import load_ground_truth
from cfcd.errors import EvaluationError
from cfcd.evaluation.metrics import AP_RULES, ApRule, average_precision
from cfcd.evaluation.revisited_ranks import Integers, Placed, Progress, place_known
from cfcd.evaluation.revisited_report import PROTOCOLS, ProtocolResult, RevisitedQuery, RevisitedReport
from cfcd.evaluation.revisited_rows import Rows, as_rows

__all__ = ["PROTOCOLS", "ProtocolResult", "RevisitedQuery", "RevisitedReport", "revisited"]

_KINDS = ("easy", "hard", "junk")
_MEND = "Give a ground truth such as gnd_roxford5k.pkl, as its publisher made it."


@dataclass(frozen=True, eq=False)
class Truth:
    """A checked ground truth: names, and per query the rows of the database of each kind, increasing."""

    database: list[str]
    queries: list[str]
    rows: list[dict[str, Integers]]


def revisited(
    queries: Any,
    database: Any,
    ground_truth: Mapping[str, Any] | str | Path,
    *,
    distractors: Any = None,
    block: int | None = None,
    protocols: Sequence[str] = ("easy", "medium", "hard"),
    ks: Sequence[int] = (1, 5, 10),
    ap_rule: ApRule = "trapezoid",
    top: int = 10,
    normalise: bool = False,
    progress: Progress | None = None,
) -> RevisitedReport:
    """Evaluate descriptors by the protocols of Revisited Oxford and Paris.

    Images are ranked by descending inner product, ties by the order of the database with the distractors
    behind it: exactly as by a stable sort of all scores, but in memory bounded by a few blocks. Easy: easy
    images are right, hard and junk ones are ignored. Medium: easy and hard are right, junk is ignored.
    Hard: hard images are right, easy and junk ones are ignored. Ignored images are taken out of the ranking
    before anything is counted. A query without a right image is left out of the means of that protocol.

    Precision at k is that of the authors' evaluator: with m the place of the last right image (from 1), the
    share of right images among the first min(k, m).

    Args:
        queries: (Q, D) unit rows in the order of `qimlist`: numpy array, torch tensor, or a `.npy` file.
        database: (N, D) unit rows in the order of `imlist`, likewise.
        ground_truth: The file (`gnd_roxford5k.pkl`, or JSON), or what it holds: imlist, qimlist, gnd.
        distractors: (M, D) unit rows: array, tensor, `.npy` file (it stays on the disk), folder made by
            `cfcd encode`, or a list of these.
        block: Rows scored at a time; chosen by D when None.
        protocols: Any of "easy", "medium", "hard".
        ks: Where precision is measured.
        ap_rule: "trapezoid", the benchmark's own, or "standard", see `average_precision`.
        top: How many of the best images to name for each query.
        normalise: Divide rows by their lengths instead of refusing those that are not unit vectors.
        progress: Called with (done, total) database images and distractors.

    Returns:
        The report, all measures in percent.

    Raises:
        CatalogError: The ground truth cannot be read safely or is of another shape.
        EvaluationError: Descriptors and ground truth do not fit together, a row is no finite unit vector, an
            option is unknown, or no query has a right image.
    """
    _check_options(protocols, (*ks, top), ap_rule)
    truth = read_truth(ground_truth)
    query_rows = as_rows(queries, "the query array", truth.queries)
    image_rows = as_rows(database, "the database array", truth.database)
    further = None if distractors is None else as_rows(distractors, "the distractor array")
    return measure(
        query_rows,
        image_rows,
        truth,
        further,
        block=block,
        protocols=protocols,
        ks=ks,
        ap_rule=ap_rule,
        top=top,
        normalise=normalise,
        progress=progress,
    )


def measure(
    queries: Rows,
    database: Rows,
    truth: Truth,
    distractors: Rows | None = None,
    *,
    block: int | None = None,
    protocols: Sequence[str] = ("easy", "medium", "hard"),
    ks: Sequence[int] = (1, 5, 10),
    ap_rule: ApRule = "trapezoid",
    top: int = 10,
    normalise: bool = False,
    progress: Progress | None = None,
) -> RevisitedReport:
    """Do what `revisited` does with sources that were looked at and options that were checked."""
    if not any(_rows(entry, PROTOCOLS[name][0]).size for name in protocols for entry in truth.rows):
        raise EvaluationError(
            f"None of the {len(truth.queries)} queries has a right image under {', '.join(protocols)}.", _MEND
        )
    right = {kind for name in protocols for kind in PROTOCOLS[name][0]}
    known = [_rows(entry, _KINDS) for entry in truth.rows]
    asked = [np.isin(every, _rows(entry, right)) for every, entry in zip(known, truth.rows, strict=True)]
    places = place_known(
        queries,
        database,
        distractors,
        known,
        asked,
        top=top,
        block=block,
        normalise=normalise,
        progress=progress,
    )
    per_query = tuple(
        _judge(name, entry, placed, truth.database, protocols, ks, ap_rule)
        for name, entry, placed in zip(truth.queries, truth.rows, places, strict=True)
    )
    return RevisitedReport(
        protocols=tuple(_summarise(name, per_query, ks) for name in protocols),
        per_query=per_query,
        database=len(database),
        distractors=0 if distractors is None else len(distractors),
        dim=queries.dim,
        ap_rule=ap_rule,
    )


def read_truth(ground_truth: Mapping[str, Any] | str | Path) -> Truth:
    """Read and check a ground truth: names without repetition, rows that are there and of one kind each.

    Raises:
        CatalogError: It cannot be read safely, or lacks imlist, qimlist or gnd.
        EvaluationError: Names or rows contradict each other.
    """
    if isinstance(ground_truth, str | Path):
        ground_truth = load_ground_truth(Path(ground_truth))
    try:
        database, queries = list(ground_truth["imlist"]), list(ground_truth["qimlist"])
        entries = list(ground_truth["gnd"])
    except (KeyError, TypeError) as error:
        raise EvaluationError("The ground truth lacks imlist, qimlist or gnd.", _MEND) from error
    if len(entries) != len(queries):
        raise EvaluationError(
            f"The ground truth names {len(queries)} queries and has {len(entries)} entries in gnd.", _MEND
        )
    for key, names in (("imlist", database), ("qimlist", queries)):
        if not names:
            raise EvaluationError(f"The ground truth has an empty {key}.", _MEND)
        if len(set(names)) < len(names):
            twice = next(name for at, name in enumerate(names) if name in names[:at])
            raise EvaluationError(f"The ground truth names {twice!r} twice in {key}.", _MEND)
    rows = [_checked(entry, name, len(database)) for name, entry in zip(queries, entries, strict=True)]
    return Truth(database, queries, rows)


def _checked(entry: Any, name: str, size: int) -> dict[str, Integers]:
    if not isinstance(entry, Mapping) or not any(kind in entry for kind in _KINDS):
        raise EvaluationError(f"The query {name!r} has neither easy nor hard nor junk images.", _MEND)
    rows: dict[str, Integers] = {}
    for kind in _KINDS:
        given = entry.get(kind)
        # What is no list becomes one of no number, which is refused below.
        listed: list[Any] = [] if given is None else list(given) if isinstance(given, Iterable) else [None]
        if not all(isinstance(row, int | np.integer) and not isinstance(row, bool) for row in listed):
            raise EvaluationError(f"The {kind} images of {name!r} are no list of row numbers.", _MEND)
        if outside := [row for row in listed if not 0 <= row < size]:
            raise EvaluationError(
                f"The query {name!r} counts row {outside[0]} as {kind}, and imlist has {size} names.", _MEND
            )
        rows[kind] = np.sort(np.array(listed, np.int64))
    values, counts = np.unique(_rows(rows, _KINDS), return_counts=True)
    if len(values) and counts.max() > 1:
        raise EvaluationError(f"The query {name!r} lists row {values[counts.argmax()]} twice.", _MEND)
    return rows


def _rows(entry: Mapping[str, Integers], kinds: Iterable[str]) -> Integers:
    return np.sort(np.concatenate([entry[kind] for kind in kinds]))


def _check_options(protocols: Sequence[str], ks: Sequence[int], ap_rule: str) -> None:
    unknown = [name for name in protocols if name not in PROTOCOLS]
    if unknown or not protocols or len(set(protocols)) < len(protocols):
        what = f"The protocol {unknown[0]!r} is unknown." if unknown else "Each protocol is to be named once."
        raise EvaluationError(what, f"Choose from {', '.join(PROTOCOLS)}.")
    if not all(isinstance(k, int) and k > 0 for k in ks):
        raise EvaluationError(
            f"One of {', '.join(map(str, ks))} is no number of images.", "Give whole numbers from 1."
        )
    if ap_rule not in AP_RULES:
        raise EvaluationError(
            f"The average precision rule {ap_rule!r} is unknown.", f"Use one of {', '.join(AP_RULES)}."
        )


def _judge(
    name: str,
    entry: Mapping[str, Integers],
    placed: Placed,
    names: Sequence[str],
    protocols: Sequence[str],
    ks: Sequence[int],
    ap_rule: ApRule,
) -> RevisitedQuery:
    aps: dict[str, float | None] = {}
    precisions: dict[str, Mapping[int, float] | None] = {}
    places: dict[str, tuple[int, ...] | None] = {}
    for protocol in protocols:
        right, ignored = (_rows(entry, kinds) for kinds in PROTOCOLS[protocol])
        if not len(right):
            aps[protocol] = precisions[protocol] = places[protocol] = None
            continue
        ranks = _ranks_without(placed, right, ignored)
        aps[protocol] = 100 * average_precision(ranks, len(ranks), ap_rule)
        precisions[protocol] = {k: 100 * _precision_at(ranks, k) for k in ks}
        places[protocol] = tuple(ranks.tolist())
    return RevisitedQuery(name, aps, precisions, places, _hits(entry, placed, names))


def _hits(
    entry: Mapping[str, Integers], placed: Placed, names: Sequence[str]
) -> tuple[tuple[str, float, bool | None], ...]:
    right, junk = set(_rows(entry, ("easy", "hard")).tolist()), set(entry["junk"].tolist())
    hits = []
    for row, score in zip(placed.best.tolist(), placed.best_scores.tolist(), strict=True):
        name = names[row] if row < len(names) else f"distractor {row - len(names)}"
        hits.append((name, score, None if row in junk else row in right))
    return tuple(hits)


def _ranks_without(placed: Placed, right: Integers, ignored: Integers) -> Integers:
    """Give the places of right images, increasing, when ignored ones are taken out of the ranking."""
    of_right = np.searchsorted(placed.positions, right)
    of_ignored = np.searchsorted(placed.positions, ignored)
    mine, theirs = placed.scores[of_right, None], placed.scores[None, of_ignored]
    earlier = (theirs > mine) | ((theirs == mine) & (ignored[None] < right[:, None]))
    ranks: Integers = np.sort(placed.ranks[of_right] - earlier.sum(axis=1))
    return ranks


def _precision_at(ranks: Integers, k: int) -> float:
    depth = min(k, int(ranks[-1]) + 1)
    return int(np.count_nonzero(ranks < depth)) / depth


def _summarise(protocol: str, per_query: Sequence[RevisitedQuery], ks: Sequence[int]) -> ProtocolResult:
    aps = [ap for query in per_query if (ap := query.ap[protocol]) is not None]
    precisions = [at for query in per_query if (at := query.precision_at[protocol]) is not None]
    return ProtocolResult(
        protocol=protocol,
        mAP=_mean(aps),
        precision_at={k: _mean([at[k] for at in precisions]) for k in ks},
        queries=len(aps),
        without_positives=tuple(query.id for query in per_query if query.ap[protocol] is None),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
