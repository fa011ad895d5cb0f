from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cfcd.errors import EvaluationError
from cfcd.evaluation.metrics import (
    average_precision,
    average_precision_at_r,
    positions_of,
    r_precision,
    rankings,
    scores_of,
    sort_keys,
)

relevance = st.lists(st.booleans(), min_size=1, max_size=40).filter(any)


def slow_average_precision(right: list[bool], rule: str) -> float:
    """Walk down the list as the definition says."""
    total, found = 0.0, 0
    for rank, is_right in enumerate(right):
        if is_right:
            precision_here = (found + 1) / (rank + 1)
            precision_before = found / rank if rank else 1.0
            total += precision_here if rule == "standard" else (precision_before + precision_here) / 2
            found += 1
    return total / found


def slow_map_at_r(right: list[bool]) -> float:
    r = sum(right)
    return sum(sum(right[: i + 1]) / (i + 1) for i in range(r) if right[i]) / r


@given(relevance, st.sampled_from(["standard", "trapezoid"]))
def test_average_precision_is_the_walk_down_the_list(right, rule):
    value = average_precision(np.flatnonzero(right), sum(right), rule)
    assert value == pytest.approx(slow_average_precision(right, rule), abs=1e-12)


@given(relevance)
def test_average_precision_at_r_is_the_walk_down_the_first_r_places(right):
    assert average_precision_at_r(np.flatnonzero(right), sum(right)) == pytest.approx(
        slow_map_at_r(right), abs=1e-12
    )


@given(relevance)
def test_r_precision_is_the_share_of_right_ones_in_the_first_r_places(right):
    r = sum(right)
    value = r_precision(np.flatnonzero(right), r)
    assert value == pytest.approx(sum(right[:r]) / r, abs=1e-12)
    assert value >= average_precision_at_r(np.flatnonzero(right), r) - 1e-12


def test_values_worked_by_hand():
    ranks = np.array([0, 2])
    assert average_precision(ranks, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(ranks, 2, "trapezoid") == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert average_precision_at_r(ranks, 2) == pytest.approx(1 / 2)
    assert r_precision(ranks, 2) == pytest.approx(1 / 2)
    assert r_precision(ranks, 3) == pytest.approx(2 / 3)
    assert average_precision(ranks, 4) == pytest.approx((1 + 2 / 3) / 4)
    assert average_precision(np.arange(5), 5) == 1
    assert average_precision(np.array([], dtype=int), 3) == 0


@pytest.mark.parametrize(
    ("ranks", "n", "says"),
    [
        ([2, 1], 2, "increasing"),
        ([1, 1], 2, "increasing"),
        ([-1, 1], 2, "0-based"),
        ([0, 1], 1, "2 ranked positives"),
        ([], 0, "0 in all"),
    ],
)
def test_impossible_ranks_are_refused(ranks, n, says):
    with pytest.raises(EvaluationError, match=says):
        average_precision(np.array(ranks, dtype=int), n)
    with pytest.raises(EvaluationError, match=says):
        average_precision_at_r(np.array(ranks, dtype=int), n)
    with pytest.raises(EvaluationError, match=says):
        r_precision(np.array(ranks, dtype=int), n)


def test_unknown_rule_is_refused():
    with pytest.raises(EvaluationError, match="'interpolated' is unknown"):
        average_precision(np.array([0]), 1, "interpolated")


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.one_of(
            st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0**-140]),
            st.floats(-1, 1, width=32),
        ),
    )
)
def test_key_order_is_the_stable_descending_order(scores):
    expected = np.argsort(-scores, axis=1, kind="stable")
    keys = sort_keys(scores)
    assert np.array_equal(np.argsort(keys, axis=1), expected)
    assert np.array_equal(scores_of(keys), scores)
    assert np.array_equal(positions_of(keys), np.broadcast_to(np.arange(scores.shape[1]), scores.shape))
    far = np.full(scores.shape, 2**32 - 1)
    assert np.array_equal(positions_of(sort_keys(scores, far)), far)


@given(
    descriptors=hnp.arrays(
        np.float32, st.tuples(st.integers(2, 15), st.just(3)), elements=st.sampled_from([-1, 0, 0.5])
    ),
    entries=st.integers(1, 60),
)
def test_rankings_equal_a_stable_sort_whatever_the_chunk(descriptors, entries):
    n = len(descriptors)
    left_out = np.where(np.arange(n) % 3 == 0, -1, np.arange(n))
    ranked = list(rankings(descriptors, descriptors, left_out, entries_at_once=entries))
    assert len(ranked) == n
    for q, ranking in enumerate(ranked):
        scores = [float(descriptors[q] @ row) for row in descriptors]
        expected = sorted((g for g in range(n) if g != left_out[q]), key=lambda g: (-scores[g], g))
        assert ranking.size == len(expected)
        assert ranking.top(n).tolist() == expected
        assert ranking.ranks_of(np.array(expected)).tolist() == list(range(len(expected)))
        assert ranking.scores.tolist() == scores


def test_equal_descriptors_tie_wherever_they_stand():
    rng = np.random.default_rng(0)
    one = rng.standard_normal(200).astype(np.float32)
    gallery = rng.standard_normal((97, 200)).astype(np.float32)
    twins = np.array([1, 30, 31, 64, 96])
    gallery[twins] = one
    [ranking] = rankings(one[None], gallery, np.array([-1]))
    assert ranking.top(5).tolist() == twins.tolist()
    assert len(set(ranking.scores[twins])) == 1
