from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.errors import EvaluationError, IdentityMismatch
from cfcd.evaluation.landmarks_v2 import (
    global_average_precision,
    landmark_recognition,
    landmark_retrieval,
    winner,
)
from cfcd.evaluation.landmarks_v2_files import Descriptors, Solution

# Unit vectors with few distinct inner products, all exact in float32: ties everywhere.
FEW = np.array(
    [[1, 0, 0, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5]],
    dtype=np.float32,
)


def solution(answers, usage=None, ignored=0) -> Solution:
    usage = usage or dict.fromkeys(answers, "Private")
    return Solution({query: frozenset(right) for query, right in answers.items()}, usage, ignored)


def named(prefix, rows) -> Descriptors:
    return Descriptors.of([f"{prefix}{at}" for at in range(len(rows))], np.asarray(rows, np.float32))


def slow_map_at_100(rankings, answers):
    """Walk down the first hundred places of every query that counts."""
    total = 0.0
    for query, right in answers.items():
        correct, ap = 0, 0.0
        for place, name in enumerate(rankings.get(query, [])[:100], start=1):
            if name in right:
                correct += 1
                ap += correct / place
        total += ap / min(len(right), 100)
    return total / len(answers)


def slow_gap(predictions, truth):
    """Sort, walk, and count."""
    order = sorted(predictions.items(), key=lambda entry: entry[0])
    order = sorted(order, key=lambda entry: entry[1][1], reverse=True)
    correct, total = 0, 0.0
    for place, (query, (landmark, _)) in enumerate(order, start=1):
        if landmark in truth[query]:
            correct += 1
            total += correct / place
    return total / sum(1 for right in truth.values() if right)


@st.composite
def collections(draw):
    """Queries and a gallery with ties, some of them without a descriptor, in some order."""
    n_queries, n_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    kinds = st.integers(0, len(FEW) - 1)
    queries = FEW[draw(st.lists(kinds, min_size=n_queries, max_size=n_queries))]
    gallery = FEW[draw(st.lists(kinds, min_size=n_gallery, max_size=n_gallery))]
    usages = draw(
        st.lists(st.sampled_from(["Public", "Private"]), min_size=n_queries + 1, max_size=n_queries + 1)
    )
    return queries, gallery, {f"q{at}": usage for at, usage in enumerate(usages)}  # one more than descriptors


def order_of(row, gallery):
    return sorted(range(len(gallery)), key=lambda at: (-float(row @ gallery[at]), at))


@given(collections(), st.data())
def test_retrieval_equals_the_slow_reference(problem, data):
    queries, gallery, usages = problem
    images = [f"x{at}" for at in range(len(gallery) + 2)]  # two are not in the gallery
    subsets = st.lists(st.sampled_from(images), min_size=1, unique=True)
    answers = {query: data.draw(subsets) for query in usages}
    asked = {f"q{at}": [f"x{g}" for g in order_of(row, gallery)] for at, row in enumerate(queries)}
    if set().union(*answers.values()).isdisjoint(images[:-2]):
        with pytest.raises(EvaluationError, match="is in the gallery"):
            landmark_retrieval(named("q", queries), named("x", gallery), solution(answers, usages))
        return
    report = landmark_retrieval(named("q", queries), named("x", gallery), solution(answers, usages, 3))
    for name in ("Public", "Private", "all"):
        chosen = {query: right for query, right in answers.items() if name in ("all", usages[query])}
        assert report.queries[name] == len(chosen)
        if chosen:
            assert report.scores[name] == pytest.approx(100 * slow_map_at_100(asked, chosen))
        else:
            assert report.scores[name] is None
    assert report.missing == (f"q{len(queries)}",)
    assert (report.ignored, report.gallery) == (3, len(gallery))
    # The query without a descriptor has found nothing.
    assert [detail.top for detail in report.details] == [*(tuple(names[:10]) for names in asked.values()), ()]
    assert report.details[-1].ap == 0


@given(collections(), st.integers(1, 5), st.sampled_from(["sum", "max"]), st.data())
def test_recognition_equals_the_slow_reference(problem, k, vote, data):
    queries, gallery, usages = problem
    landmarks = data.draw(
        st.lists(st.sampled_from(["7", "8", "9", None]), min_size=len(gallery), max_size=len(gallery))
    )
    answers = {query: data.draw(st.sets(st.sampled_from(["7", "8", "9"]))) for query in usages}
    labels = {f"x{at}": label for at, label in enumerate(landmarks) if label is not None}
    if not labels:
        with pytest.raises(EvaluationError, match="has a landmark"):
            landmark_recognition(named("q", queries), named("x", gallery), labels, solution(answers, usages))
        return
    predictions = {}
    for at, row in enumerate(queries):
        nearest = [g for g in order_of(row, gallery) if landmarks[g] is not None][:k]
        votes = {}
        for g in nearest:
            votes.setdefault(landmarks[g], []).append(float(row @ gallery[g]))
        figures = {label: sum(given) if vote == "sum" else max(given) for label, given in votes.items()}
        best = max(figures.values())
        first = next(landmarks[g] for g in nearest if figures[landmarks[g]] == best)
        predictions[f"q{at}"] = (first, best)
    report = landmark_recognition(
        named("q", queries), named("x", gallery), labels, solution(answers, usages), k=k, vote=vote
    )
    assert {p.id: (p.landmark, p.score) for p in report.details} == predictions
    assert report.gallery == len(labels)
    for name in ("Public", "Private", "all"):
        truth = {query: right for query, right in answers.items() if name in ("all", usages[query])}
        chosen = {query: found for query, found in predictions.items() if query in truth}
        assert report.queries[name] == sum(map(bool, truth.values()))
        if any(truth.values()):
            assert report.scores[name] == pytest.approx(100 * slow_gap(chosen, truth))
        else:
            assert report.scores[name] is None


@given(
    st.dictionaries(
        st.sampled_from([f"q{n}" for n in range(9)]),
        st.tuples(st.sampled_from("ab"), st.sampled_from([0.1, 0.5, 0.9])),
    ),
    st.permutations(range(9)),
    st.lists(st.sampled_from([frozenset(), frozenset("a"), frozenset("ab")]), min_size=9, max_size=9),
)
def test_gap_equals_the_slow_reference_whatever_the_order(predictions, order, rights):
    truth = {f"q{n}": right for n, right in enumerate(rights)}
    shuffled = {f"q{n}": predictions[f"q{n}"] for n in order if f"q{n}" in predictions}
    if not any(truth.values()):
        with pytest.raises(EvaluationError, match="0 queries have a landmark"):
            global_average_precision(shuffled, truth)
        return
    value = global_average_precision(shuffled, truth)
    assert value == pytest.approx(slow_gap(predictions, truth))
    assert 0 <= value <= 1


def test_gap_worked_by_hand():
    truth = {"a": frozenset("1"), "b": frozenset("23"), "c": frozenset(), "d": frozenset("4")}
    predictions = {"b": ("3", 0.7), "a": ("1", 0.9), "c": ("1", 0.8)}
    # Places: a right (1/1), c without landmark, b right (2/3); d is not answered. Three have a landmark.
    assert global_average_precision(predictions, truth) == pytest.approx((1 + 2 / 3) / 3)
    # Equal confidence: by id, so that c comes before d whichever was written first.
    tied = {"d": ("4", 0.5), "c": ("1", 0.5)}
    assert global_average_precision(tied, truth) == pytest.approx((1 / 2) / 3)
    assert global_average_precision({}, truth) == 0
    with pytest.raises(EvaluationError, match="1 predictions are for unknown queries"):
        global_average_precision({"x": ("1", 1.0)}, truth)


def test_sum_and_max_can_disagree():
    names, scores = ["1", "2", "2"], [0.9, 0.6, 0.5]
    assert winner(names, scores, "max") == ("1", 0.9)
    assert winner(names, scores, "sum") == ("2", pytest.approx(1.1))
    assert winner(["2", "1"], [0.5, 0.5], "sum") == ("2", 0.5)


def fan(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ([0, 2, 5], (1 + 2 / 3 + 3 / 6) / 3),
        (range(150), 1.0),  # a hundred of them fill all places that count
        (range(50), 1.0),
        ([*range(50), *range(200, 300)], 50 / 100),
        (range(100, 300), 0.0),
        ([99], 1 / 100),
    ],
)
def test_retrieval_worked_by_hand(right, expected):
    gallery = named("x", fan(np.linspace(0, 1.5, 300)))
    report = landmark_retrieval(
        named("q", [[1.0, 0.0]]), gallery, solution({"q0": [f"x{at}" for at in right]})
    )
    assert report.scores == {
        "Public": None,
        "Private": pytest.approx(100 * expected),
        "all": report.scores["Private"],
    }
    [detail] = report.details
    assert (detail.positives, detail.found) == (len(right), sum(at < 100 for at in right))
    assert report.to_json()["public"] is None
    assert "public" not in report.summary()


def test_a_query_without_descriptor_counts_as_not_answered():
    gallery = named("x", FEW)
    answers = {"q0": ["x0"], "q9": ["x1"]}
    report = landmark_retrieval(named("q", FEW[:1]), gallery, solution(answers))
    assert report.scores["all"] == pytest.approx(50)
    assert report.missing == ("q9",)
    assert "1 queries have no descriptor" in report.summary()
    found = landmark_recognition(
        named("q", FEW[:1]), gallery, {"x0": "1", "x1": "2"}, solution({"q0": ["1"], "q9": ["2"]}), k=1
    )
    assert found.scores["all"] == pytest.approx(50)


def test_the_report_states_the_protocol():
    report = landmark_recognition(
        named("q", FEW[:2]),
        named("x", FEW),
        {"x0": "1", "x1": "2"},
        solution({"q0": ["1"], "q1": []}, ignored=4),
    )
    value = report.to_json()
    assert {key: value[key] for key in ("task", "measure", "neighbours", "vote", "unlabelled_left_out")} == {
        "task": "recognition",
        "measure": "GAP",
        "neighbours": 5,
        "vote": "sum",
        "unlabelled_left_out": 3,
    }
    assert value["queries"] == {"public": 0, "private": 1, "all": 1}
    assert "4 queries ignored" in report.summary()
    assert "vote sum" in report.summary()


def test_progress_ends_at_the_whole_gallery():
    seen = []
    landmark_retrieval(
        named("q", FEW[:1]),
        named("x", FEW),
        solution({"q0": ["x0"]}),
        progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(5, 5)]


def test_what_does_not_fit_is_refused():
    queries, gallery, right = named("q", FEW), named("x", FEW), solution({"q0": ["x0"]})
    with pytest.raises(EvaluationError, match="Queries have 2 numbers, the gallery 4"):
        landmark_retrieval(named("q", FEW[:, :2]), gallery, right)
    with pytest.raises(EvaluationError, match="None of the 1 queries of the solution"):
        landmark_retrieval(named("other", FEW), gallery, right)
    with pytest.raises(EvaluationError, match="None of the 1 right images"):
        landmark_retrieval(queries, gallery, solution({"q0": ["y"]}))
    with pytest.raises(EvaluationError, match=r"descriptor of 'x1' holds NaN"):
        broken = FEW.copy()
        broken[1, 2] = np.nan
        landmark_retrieval(queries, named("x", broken), right)
    with pytest.raises(EvaluationError, match=r"descriptor of 'q0' has length 2"):
        landmark_retrieval(named("q", FEW * 2), gallery, right)
    with pytest.raises(IdentityMismatch, match="encoded with m1, the other with m2"):
        landmark_retrieval(
            Descriptors.of(["q0"], FEW[:1], "m1"), Descriptors.of(["x0"], FEW[:1], "m2"), right
        )
    for k, vote in itertools.product((0, 1), ("sum", "median")):
        if (k, vote) != (1, "sum"):
            with pytest.raises(EvaluationError, match=f"'{vote}' of {k} neighbours is unknown"):
                landmark_recognition(queries, gallery, {"x0": "1"}, right, k=k, vote=vote)
