"""Evaluate labelled descriptors: leave-one-out, or a query set against a gallery."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cfcd.errors import EvaluationError
from cfcd.evaluation.curves import RECALL_LEVELS, interpolated_precision
from cfcd.evaluation.metrics import (
    ApRule,
    average_precision,
    average_precision_at_r,
    r_precision,
    rankings,
)
from cfcd.evaluation.report import (
    LEAVE_ONE_OUT,
    QUERY_GALLERY,
    RECALLS,
    ClassResult,
    FolderReport,
    QueryResult,
)

__all__ = ["ClassResult", "FolderReport", "QueryResult", "evaluate_descriptors"]

_NORM_TOLERANCE = 0.01  # storage in float16 moves a norm by less than 0.001
_NONE = np.empty(0, dtype=np.int64)


def evaluate_descriptors(
    descriptors: NDArray[np.floating],
    labels: Sequence[str | None],
    ids: Sequence[str],
    *,
    queries: Sequence[int] | None = None,
    gallery: Sequence[int] | None = None,
    top: int = 10,
    rule: ApRule = "standard",
    recalls: Sequence[int] = RECALLS,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Measure how well labelled descriptors find their own kind.

    A gallery item is right when it bears the query's label. Each query ranks the gallery by descending
    inner product, ties by gallery order, and is left out of its own ranking. Without `queries` and
    `gallery` this is leave-one-out over all rows; with only one of them given, the other is all rows; with
    both naming the same rows it is leave-one-out over those.
    Queries without a label or without a right item are counted and left out of the means; gallery items
    without a label are distractors. Rows must be unit vectors: others are refused, not normalised, because
    a vector of another length did not come out of an encoder.

    Args:
        descriptors: (N, D) float32 unit rows.
        labels: (N,) labels, None where unknown.
        ids: (N,) names of the rows, for the report and for errors.
        queries: Row numbers of the queries.
        gallery: Row numbers of the gallery, in the order that breaks ties.
        top: Hits kept per query.
        rule: How average precision is summed, see `average_precision`.
        recalls: Give R@k for these k, and for 1, 5 and 10 in any case.
        progress: Called with (queries done, queries in all).

    Returns:
        The report, all measures in percent.

    Raises:
        EvaluationError: The lengths differ, a k is below 1, a row is not a finite unit vector, a set is empty
            or names a row twice or a row that is not there, nothing is labelled, or no query has a right
            item.
    """
    rows = _checked_rows(descriptors, labels, ids)
    depths = sorted({*RECALLS, *recalls})
    if depths[0] < 1:
        raise EvaluationError(f"R@{depths[0]} is not defined.", "Ask for recall at 1 or more.")
    query_rows = _checked_numbers(queries, len(rows), "query set")
    gallery_rows = _checked_numbers(gallery, len(rows), "gallery")
    members: dict[str, NDArray[np.int64]] = _positions_by_label([labels[g] for g in gallery_rows])
    place = np.full(len(rows), -1, dtype=np.int64)
    place[gallery_rows] = np.arange(len(gallery_rows))

    counted: list[tuple[int, NDArray[np.int64]]] = []
    for q in query_rows:
        label = labels[q]
        positives = members.get(label, _NONE) if label is not None else _NONE
        positives = positives[positives != place[q]]
        if len(positives):
            counted.append((int(q), positives))
    if not counted:
        raise EvaluationError(
            f"None of the {len(query_rows)} queries has another image of its label in the gallery.",
            "Give each label at least two images, and spell labels alike in queries and gallery.",
        )

    results: list[QueryResult] = []
    at_r: list[float] = []
    r_precisions: list[float] = []
    curve = np.zeros(RECALL_LEVELS)
    numbers = np.array([q for q, _ in counted])
    ranked = rankings(rows[numbers], rows[gallery_rows], place[numbers])
    for (q, positives), ranking in zip(counted, ranked, strict=True):
        ranks = ranking.ranks_of(positives)
        label = str(labels[q])
        hits = ranking.top(top)
        results.append(
            QueryResult(
                id=ids[q],
                label=label,
                ap=100 * average_precision(ranks, len(positives), rule),
                rank_of_first=int(ranks[0]) + 1,
                positives=len(positives),
                top=tuple(
                    (ids[gallery_rows[h]], float(ranking.scores[h]), labels[gallery_rows[h]] == label)
                    for h in hits
                ),
            )
        )
        curve += interpolated_precision(ranks, len(positives))
        at_r.append(100 * average_precision_at_r(ranks, len(positives)))
        r_precisions.append(100 * r_precision(ranks, len(positives)))
        if progress is not None and (len(results) % 64 == 0 or len(results) == len(counted)):
            progress(len(results), len(counted))
    return FolderReport(
        protocol=LEAVE_ONE_OUT if set(query_rows) == set(gallery_rows) else QUERY_GALLERY,
        queries=len(results),
        gallery=len(gallery_rows),
        skipped_queries=len(query_rows) - len(results),
        mAP=_mean(r.ap for r in results),
        mAP_at_R=_mean(at_r),
        r_precision=_mean(r_precisions),
        recall_at={k: _recall(results, k) for k in depths},
        per_class=_per_class(results),
        per_query=tuple(results),
        ap_rule=rule,
        precision_at=tuple((100 * curve / len(results)).tolist()),
    )


def _checked_rows(
    descriptors: NDArray[np.floating], labels: Sequence[str | None], ids: Sequence[str]
) -> NDArray[np.floating]:
    rows = np.asarray(descriptors)
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating):
        raise EvaluationError(
            f"Descriptors of shape {rows.shape} and type {rows.dtype} are not rows of floats.",
            "Pass an (N, D) float32 array.",
        )
    if not len(rows) == len(labels) == len(ids):
        raise EvaluationError(
            f"There are {len(rows)} descriptors, {len(labels)} labels and {len(ids)} ids.",
            "Pass one label (or None) and one id per descriptor.",
        )
    if all(label is None for label in labels):
        raise EvaluationError(
            f"None of the {len(labels)} images has a label, so no hit can be called right or wrong.",
            "Put the photos into one folder per object, or give the catalog a label column.",
        )
    check_unit_rows(rows, ids)
    return rows


def check_unit_rows(rows: NDArray[np.floating], ids: Sequence[str]) -> None:
    """Refuse (N, D) rows that are not finite unit vectors, naming the first by its id.

    Raises:
        EvaluationError: There is such a row.
    """
    # A NaN or an infinity anywhere in a row makes its norm NaN or infinite.
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    broken = np.flatnonzero(~np.isfinite(norms))
    if len(broken):
        raise EvaluationError(
            f"The descriptor of {ids[broken[0]]!r} holds NaN or infinity ({len(broken)} such).",
            "Look at that picture and encode it again.",
        )
    off = np.flatnonzero(np.abs(norms - 1) > _NORM_TOLERANCE)
    if len(off):
        raise EvaluationError(
            f"The descriptor of {ids[off[0]]!r} has length {norms[off[0]]:.4g}, not 1 ({len(off)} such).",
            "Pass descriptors as an encoder makes them, or divide each row by its length.",
        )


def _checked_numbers(numbers: Sequence[int] | None, n_rows: int, name: str) -> NDArray[np.int64]:
    if numbers is None:
        return np.arange(n_rows)
    given = np.asarray(numbers)
    if given.size == 0:
        raise EvaluationError(f"The {name} is empty.", "Check the split column of the catalog.")
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise EvaluationError(
            f"The {name} has type {given.dtype} and shape {given.shape}, and is not a list of row numbers.",
            "Pass row numbers; turn a mask into them with np.flatnonzero.",
        )
    outside = given[(given < 0) | (given >= n_rows)]
    if len(outside):
        raise EvaluationError(
            f"The {name} names row {outside[0]}, but there are only rows 0 to {n_rows - 1}.",
            "Pass row numbers of the descriptors.",
        )
    values, counts = np.unique(given, return_counts=True)
    if counts.max() > 1:
        raise EvaluationError(f"The {name} names row {values[counts.argmax()]} twice.", "Name each row once.")
    return given.astype(np.int64)


def _positions_by_label(labels: Sequence[str | None]) -> dict[str, NDArray[np.int64]]:
    positions: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        if label is not None:
            positions.setdefault(label, []).append(i)
    return {label: np.array(found) for label, found in positions.items()}


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


def _recall(results: Sequence[QueryResult], k: int) -> float:
    return _mean(100.0 * (r.rank_of_first is not None and r.rank_of_first <= k) for r in results)


def _per_class(results: Sequence[QueryResult]) -> tuple[ClassResult, ...]:
    members: dict[str, list[QueryResult]] = {}
    for result in results:
        members.setdefault(result.label, []).append(result)
    return tuple(
        ClassResult(label, len(found), _mean(r.ap for r in found), _recall(found, 1))
        for label, found in sorted(members.items())
    )
