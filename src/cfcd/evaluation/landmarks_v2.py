"""Google Landmarks v2: retrieval by mAP@100 and recognition by GAP (micro-AP), all in percent.

Source of the measures: Weyand et al., "Google Landmarks Dataset v2", CVPR 2020; the conventions
are those of the organisers' own scoring: equal confidences in the order of the image ids, for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cfcd.errors import EvaluationError, IdentityMismatch
from cfcd.evaluation.landmarks_v2_files import USAGES, Descriptors, Solution
from cfcd.evaluation.landmarks_v2_report import DEPTH, LandmarksReport, Prediction, RetrievalQuery
from cfcd.evaluation.metrics import average_precision
from cfcd.evaluation.top_hits import top_hits

Vote = Literal["sum", "max"]
VOTES: tuple[Vote, ...] = ("sum", "max")
Progress = Callable[[int, int], None]


def landmark_retrieval(
    queries: Descriptors, gallery: Descriptors, solution: Solution, *, progress: Progress | None = None
) -> LandmarksReport:
    """Compute mAP@100: test images search the index.

    AP@100 of a query with m index images of its landmark is the sum of precision@k over its right places
    k = 1..100, over min(m, 100). All m count, also those that are not in the gallery. A query without a
    descriptor has AP 0, as in the organisers' scoring.

    Raises:
        EvaluationError: No query or no right image has a descriptor, lengths differ, or a row is not a
            finite unit vector.
        IdentityMismatch: The two sides come from different models.
    """
    wanted: frozenset[str] = frozenset().union(*solution.answers.values())
    absent = len(wanted.difference(gallery.ids))
    if absent == len(wanted):
        raise EvaluationError(
            f"None of the {absent:,} right images of the solution is in the gallery.",
            "Check that the ids are those of the index images, such as 0123456789abcdef.",
        )
    asked, missing, hits, _ = _search(queries, gallery, solution, DEPTH, progress)
    details = []
    found = dict(zip(asked, hits, strict=True))
    for query in solution.of(None):
        right = solution.answers[query]
        names = [gallery.ids[place] for place in found.get(query, ()) if place >= 0]
        ranks = np.flatnonzero([name in right for name in names])
        ap = 100 * average_precision(ranks, min(len(right), DEPTH))
        details.append(
            RetrievalQuery(query, solution.usage[query], ap, len(right), len(ranks), tuple(names[:10]))
        )
    scores: dict[str, float | None] = {}
    counts: dict[str, int] = {}
    for name, usage in _usages():
        aps = [detail.ap for detail in details if usage in (None, detail.usage)]
        counts[name] = len(aps)
        scores[name] = math.fsum(aps) / len(aps) if aps else None
    return LandmarksReport(
        "retrieval",
        scores,
        counts,
        len(gallery),
        solution.ignored,
        missing,
        {"right_images_not_in_gallery": absent},
        queries.model or gallery.model,
        tuple(details),
    )


def landmark_recognition(
    queries: Descriptors,
    gallery: Descriptors,
    landmarks: Mapping[str, str],
    solution: Solution,
    *,
    k: int = 5,
    vote: Vote = "sum",
    progress: Progress | None = None,
) -> LandmarksReport:
    """Compute GAP: test images take the landmark that their nearest training images vote for.

    The k nearest images give their inner products to their landmarks, which are summed ("sum") or of which
    the largest counts ("max"); the best landmark is the prediction, its figure the confidence, and among
    equals the landmark with the nearest image wins. Images without a landmark are no part of the gallery.

    Raises:
        EvaluationError: As `landmark_retrieval`, or no image of the gallery has a landmark, or k is below 1.
        IdentityMismatch: The two sides come from different models.
    """
    if k < 1 or vote not in VOTES:
        raise EvaluationError(
            f"A vote by {vote!r} of {k} neighbours is unknown.", "Use sum or max, of 1 or more."
        )
    labelled = gallery.only([name for name in gallery.ids if name in landmarks])
    if not len(labelled):
        raise EvaluationError(
            f"None of the {len(gallery)} images of the gallery has a landmark.",
            "Give the labels by train_clean.csv or train.csv of the same images.",
        )
    asked, missing, hits, similarities = _search(queries, labelled, solution, k, progress)
    details = []
    for query, places, scores in zip(asked, hits, similarities, strict=True):
        names = [landmarks[labelled.ids[place]] for place in places if place >= 0]
        landmark, score = winner(names, scores[: len(names)].tolist(), vote)
        right = solution.answers[query]
        details.append(
            Prediction(query, solution.usage[query], landmark, score, landmark in right, bool(right))
        )
    figures: dict[str, float | None] = {}
    counts: dict[str, int] = {}
    for name, usage in _usages():
        chosen = {p.id: (p.landmark, p.score) for p in details if usage in (None, p.usage)}
        truth = {query: solution.answers[query] for query in solution.of(usage)}
        counts[name] = sum(map(bool, truth.values()))
        figures[name] = 100 * global_average_precision(chosen, truth) if counts[name] else None
    return LandmarksReport(
        "recognition",
        figures,
        counts,
        len(labelled),
        solution.ignored,
        missing,
        {"neighbours": k, "vote": vote, "unlabelled_left_out": len(gallery) - len(labelled)},
        queries.model or gallery.model,
        tuple(details),
    )


def winner(landmarks: Sequence[str], scores: Sequence[float], vote: Vote) -> tuple[str, float]:
    """Let neighbours, best first, vote by their scores; give the winner and its figure."""
    figures: dict[str, float] = {}
    for landmark, score in zip(landmarks, scores, strict=True):
        before = figures.get(landmark)
        figures[landmark] = (
            score if before is None else before + score if vote == "sum" else max(before, score)
        )
    return max(figures.items(), key=lambda entry: entry[1])  # the first of equals


def global_average_precision(
    predictions: Mapping[str, tuple[str, float]], truth: Mapping[str, frozenset[str]]
) -> float:
    """Compute GAP: sum P(i) rel(i) / M over all predictions by descending confidence, then by image id.

    P(i) is the share of right ones among the first i, M the number of queries with a landmark. A prediction
    for a query without one is wrong; a query without a prediction only adds to M.

    Args:
        predictions: Query id -> landmark and confidence.
        truth: Query id -> its landmarks, for every query that counts.

    Returns:
        A fraction from 0 to 1.

    Raises:
        EvaluationError: No query has a landmark, or a prediction is for none of the queries.
    """
    strangers = predictions.keys() - truth.keys()
    with_landmark = sum(map(bool, truth.values()))
    if strangers or not with_landmark:
        raise EvaluationError(
            f"{len(strangers)} predictions are for unknown queries, {with_landmark} queries have a landmark.",
            "Predict for queries of the solution.",
        )
    order = sorted(predictions, key=lambda query: (-predictions[query][1], query))
    ranks = np.flatnonzero([predictions[query][0] in truth[query] for query in order])
    return average_precision(ranks, with_landmark)


def check_same_model(first: str, second: str) -> None:
    """Refuse to compare descriptors of two models.

    Raises:
        IdentityMismatch: The labels of the models differ.
    """
    if first != second:
        raise IdentityMismatch(
            f"One side was encoded with {first}, the other with {second}.", "Encode both with one model."
        )


def _usages() -> list[tuple[str, str | None]]:
    return [*((usage, usage) for usage in USAGES), ("all", None)]


def _search(
    queries: Descriptors, gallery: Descriptors, solution: Solution, k: int, progress: Progress | None
) -> tuple[list[str], tuple[str, ...], NDArray[np.int64], NDArray[np.float32]]:
    """Search the best k for the queries that count: their ids, those without descriptor, places, scores."""
    if queries.dim != gallery.dim:
        raise EvaluationError(
            f"Queries have {queries.dim} numbers, the gallery {gallery.dim}.", "Encode both with one model."
        )
    if queries.model and gallery.model:
        check_same_model(queries.model, gallery.model)
    counted = solution.of(None)
    chosen = queries.only(counted)
    if not len(chosen):
        raise EvaluationError(
            f"None of the {len(counted):,} queries of the solution has a descriptor.",
            "Check that the ids are those of the test images, such as 0123456789abcdef.",
        )

    def watched() -> Any:
        done = 0
        for positions, rows in gallery.blocks():
            yield positions, rows
            done += len(positions)
            if progress is not None:
                progress(done, len(gallery))

    hits, scores = top_hits(chosen.whole(), watched(), k)
    here = set(chosen.ids)
    return list(chosen.ids), tuple(q for q in counted if q not in here), hits, scores
