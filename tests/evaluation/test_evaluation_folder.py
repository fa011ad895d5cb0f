from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.errors import EvaluationError
from cfcd.evaluation import FolderReport, evaluate_descriptors

# Unit vectors with few distinct inner products, all exact in float32: ties everywhere.
FEW = np.array(
    [[1, 0, 0, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5]],
    dtype=np.float32,
)


def slow_evaluate(rows, labels, queries, gallery):
    """Rank, walk and average one query after the other, as the definitions say."""
    found = []
    for q in queries:
        order = sorted((g for g in gallery if g != q), key=lambda g: -float(rows[q] @ rows[g]))
        right = [labels[g] == labels[q] for g in order]
        if labels[q] is None or not any(right):
            continue
        precision = [sum(right[: i + 1]) / (i + 1) for i in range(len(order))]
        r = sum(right)
        found.append(
            {
                "query": q,
                "ap": 100 * sum(p for p, ok in zip(precision, right, strict=True) if ok) / r,
                "at_r": 100 * sum(p for p, ok in zip(precision[:r], right[:r], strict=True) if ok) / r,
                "r_precision": 100 * sum(right[:r]) / r,
                "first": right.index(True) + 1,
                "top": [(g, labels[g] == labels[q]) for g in order[:10]],
            }
        )
    return found


@st.composite
def problems(draw):
    n = draw(st.integers(2, 24))
    rows = FEW[draw(st.lists(st.integers(0, len(FEW) - 1), min_size=n, max_size=n))]
    labels = draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=n, max_size=n))
    subset = st.one_of(st.none(), st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    return rows, labels, draw(subset), draw(subset)


@given(problems())
def test_report_equals_the_slow_reference(problem):
    rows, labels, queries, gallery = problem
    ids = [f"image{i}" for i in range(len(rows))]
    asked = range(len(rows)) if queries is None else queries
    offered = range(len(rows)) if gallery is None else gallery
    expected = slow_evaluate(rows, labels, asked, offered)
    if not expected:
        with pytest.raises(EvaluationError):
            evaluate_descriptors(rows, labels, ids, queries=queries, gallery=gallery)
        return
    report = evaluate_descriptors(rows, labels, ids, queries=queries, gallery=gallery, recalls=(1000, 2))
    assert [q.id for q in report.per_query] == [ids[e["query"]] for e in expected]
    assert [q.ap for q in report.per_query] == pytest.approx([e["ap"] for e in expected])
    assert [q.rank_of_first for q in report.per_query] == [e["first"] for e in expected]
    for result, e in zip(report.per_query, expected, strict=True):
        assert [(i, ok) for i, _, ok in result.top] == [(ids[g], ok) for g, ok in e["top"]]
    assert report.mAP == pytest.approx(np.mean([e["ap"] for e in expected]))
    assert report.mAP_at_R == pytest.approx(np.mean([e["at_r"] for e in expected]))
    assert report.r_precision == pytest.approx(np.mean([e["r_precision"] for e in expected]))
    assert set(report.recall_at) == {1, 2, 5, 10, 1000}
    for k in report.recall_at:
        assert report.recall_at[k] == pytest.approx(100 * np.mean([e["first"] <= k for e in expected]))
    assert report.skipped_queries == len(asked) - len(expected)
    assert report.gallery == len(offered)
    for c in report.per_class:
        members = [e for e in expected if labels[e["query"]] == c.label]
        assert c.queries == len(members)
        assert c.mAP == pytest.approx(np.mean([e["ap"] for e in members]))
        assert c.recall_at_1 == pytest.approx(100 * np.mean([e["first"] == 1 for e in members]))


def random_rows(n: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def evaluate(rows, labels, **more) -> FolderReport:
    return evaluate_descriptors(rows, labels, [f"{i}.jpg" for i in range(len(rows))], **more)


def test_protocol_names_what_ran():
    rows, labels = random_rows(6), list("aabbab")
    assert evaluate(rows, labels).protocol == "leave-one-out"
    assert evaluate(rows, labels, queries=[0, 1], gallery=[2, 3, 4, 5]).protocol == "query/gallery"
    assert evaluate(rows, labels, queries=[0, 1]).gallery == 6
    assert evaluate(rows, labels, queries=[0, 1, 4], gallery=[4, 1, 0]).protocol == "leave-one-out"


def test_recall_at_nothing_is_refused():
    with pytest.raises(EvaluationError, match="R@0 is not defined"):
        evaluate(random_rows(4), list("aabb"), recalls=(0, 1))


def test_perfect_descriptors_score_100():
    report = evaluate(FEW[[0, 0, 1, 1, 1]], list("aabbb"))
    assert (report.mAP, report.mAP_at_R, report.recall_at[1]) == (100, 100, 100)


def test_trapezoid_rule_is_passed_on_and_stated():
    rows, labels = random_rows(30), ["a", "b", "c"] * 10
    standard, trapezoid = evaluate(rows, labels), evaluate(rows, labels, rule="trapezoid")
    assert standard.mAP > trapezoid.mAP > 0
    assert (standard.ap_rule, trapezoid.ap_rule) == ("standard", "trapezoid")


def test_half_precision_storage_is_accepted_and_hardly_matters():
    rows, labels = random_rows(200, 64), [f"class{i % 7}" for i in range(200)]
    assert evaluate(rows.astype(np.float16), labels).mAP == pytest.approx(evaluate(rows, labels).mAP, abs=0.1)


def test_progress_reaches_the_end():
    seen: list[tuple[int, int]] = []
    evaluate(random_rows(150), ["a", "b", None] * 50, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (100, 100)
    assert seen == sorted(seen)


def test_top_bounds_the_hits_kept():
    report = evaluate(random_rows(9), ["a"] * 9, top=3)
    assert {len(q.top) for q in report.per_query} == {3}
    assert {len(q.top) for q in evaluate(random_rows(9), ["a"] * 9).per_query} == {8}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": [None] * 6}, "None of the 6 images has a label"),
        ({"labels": list("abcdef")}, "None of the 6 queries has another image of its label"),
        ({"labels": list("aabb")}, "6 descriptors, 4 labels and 6 ids"),
        ({"ids": ["x"]}, "6 descriptors, 6 labels and 1 ids"),
        ({"queries": []}, "query set is empty"),
        ({"gallery": []}, "gallery is empty"),
        ({"gallery": [0, 1, 6]}, "gallery names row 6, but there are only rows 0 to 5"),
        ({"queries": [0, -1]}, "query set names row -1"),
        ({"queries": [1, 3, 1]}, "query set names row 1 twice"),
        ({"gallery": [True, False, True, True, True, True]}, "type bool"),
        ({"queries": [0], "gallery": [1, 2, 3]}, "None of the 1 queries"),
    ],
)
def test_data_without_a_measure_is_refused(change, says):
    given_ = {"labels": list("abbabb"), "ids": [f"{i}.jpg" for i in range(6)]} | change
    if "queries" in change and change["queries"] == [0]:
        given_["labels"] = list("abbbab")
    with pytest.raises(EvaluationError, match=says) as caught:
        evaluate_descriptors(random_rows(6), **given_)
    assert caught.value.mend


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.nan, "'2.jpg' holds NaN"),
        (np.inf, "'2.jpg' holds NaN or infinity"),
        (3.0, "'2.jpg' has length"),
        (0, "length"),
    ],
)
def test_a_bad_row_is_named(value, says):
    rows = random_rows(5)
    rows[2] = value
    with pytest.raises(EvaluationError, match=says):
        evaluate(rows, list("aabab"))


@pytest.mark.parametrize("rows", [np.zeros(5, np.float32), np.eye(5, dtype=np.int64)])
def test_descriptors_of_another_kind_are_refused(rows):
    with pytest.raises(EvaluationError, match="are not rows of floats"):
        evaluate(rows, list("aabab"))
