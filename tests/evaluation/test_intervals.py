"""Intervals and paired tests against hand-made cases, slow references and known distributions."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.errors import EvaluationError
from cfcd.evaluation import intervals
from cfcd.evaluation.intervals import bootstrap_mean, paired_difference

values = st.lists(st.integers(-100, 100), min_size=1, max_size=40)
pairs = st.lists(st.tuples(st.integers(-100, 100), st.integers(-100, 100)), min_size=1, max_size=30)


def slow_bootstrap(sample: list[float], resamples: int, seed: int) -> tuple[float, float]:
    """Percentiles of plain Python resampling; another generator, so only near."""
    rng = random.Random(seed)
    means = sorted(math.fsum(rng.choices(sample, k=len(sample))) / len(sample) for _ in range(resamples))
    return means[round(0.025 * (resamples - 1))], means[round(0.975 * (resamples - 1))]


def slow_p(differences: list[int]) -> float:
    """Every sign pattern, ties included, in exact integers."""
    observed = abs(sum(differences))
    patterns = list(itertools.product((-1, 1), repeat=len(differences)))
    sums = (abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns)
    return sum(total >= observed for total in sums) / len(patterns)


def test_an_interval_agrees_with_slow_resampling():
    sample = [random.Random(3).betavariate(2, 1) * 100 for _ in range(60)]
    found = bootstrap_mean(sample)
    low, high = slow_bootstrap(sample, 10_000, seed=1)
    assert found.mean == pytest.approx(math.fsum(sample) / 60)
    assert found.low == pytest.approx(low, abs=0.5)
    assert found.high == pytest.approx(high, abs=0.5)


def test_an_interval_has_the_width_of_the_normal_theory():
    sample = np.random.default_rng(5).normal(50, 10, 2000)
    found = bootstrap_mean(sample)
    reach = 1.96 * sample.std() / math.sqrt(2000)
    assert found.low == pytest.approx(sample.mean() - reach, abs=0.05 * reach)
    assert found.high == pytest.approx(sample.mean() + reach, abs=0.05 * reach)


@pytest.mark.parametrize("kind", ["normal", "uniform", "zero or hundred"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(kind: str):
    rng = np.random.default_rng(11)
    draw = {
        "normal": lambda: rng.normal(50, 10, 80),
        "uniform": lambda: rng.uniform(0, 100, 80),
        "zero or hundred": lambda: 100.0 * rng.integers(0, 2, 80),
    }[kind]
    found = [bootstrap_mean(draw(), resamples=800, seed=seed) for seed in range(300)]
    assert 0.91 <= np.mean([i.low <= 50 <= i.high for i in found]) <= 0.98


def test_a_higher_level_is_wider_and_more_queries_are_narrower():
    sample = np.random.default_rng(0).uniform(0, 100, 50)
    narrow, wide = bootstrap_mean(sample, level=0.5), bootstrap_mean(sample, level=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    many = bootstrap_mean(np.tile(sample, 16))
    few = bootstrap_mean(sample)
    assert (many.high - many.low) == pytest.approx((few.high - few.low) / 4, rel=0.1)


@pytest.mark.parametrize("sample", [[0.0] * 30 + [100.0] * 50, [0.0, 50.0, 100.0] * 20])
def test_few_distinct_values_give_the_same_interval(sample: list[float], monkeypatch: pytest.MonkeyPatch):
    """Drawing how often a value occurs is drawing the values themselves."""
    drawn = intervals._resampled_means(np.array(sample), 20_000, np.random.default_rng(1))
    monkeypatch.setattr(intervals, "_FEW_VALUES", 0)
    plain = intervals._resampled_means(np.array(sample), 20_000, np.random.default_rng(1))
    assert (drawn != plain).any()
    assert drawn.mean() == pytest.approx(plain.mean(), abs=0.2)
    assert drawn.std() == pytest.approx(plain.std(), rel=0.03)


def test_equal_values_leave_no_doubt():
    assert bootstrap_mean([25.0] * 7) == intervals.Interval(25.0, 25.0, 25.0)
    assert bootstrap_mean([40.0]) == intervals.Interval(40.0, 40.0, 40.0)


@given(values, st.sampled_from([0.5, 2.0, 4.0]), st.integers(-50, 50))
def test_an_interval_moves_and_stretches_with_the_values(sample: list[int], scale: float, shift: int):
    plain = bootstrap_mean(sample, resamples=200)
    moved = bootstrap_mean([scale * v + shift for v in sample], resamples=200)
    for name in ("mean", "low", "high"):
        assert getattr(moved, name) == pytest.approx(scale * getattr(plain, name) + shift, abs=1e-9)
    assert min(sample) - 1e-9 <= plain.low <= plain.high <= max(sample) + 1e-9


def test_memory_is_bounded_whatever_the_block(monkeypatch: pytest.MonkeyPatch):
    sample = np.random.default_rng(2).uniform(0, 100, 33)
    other = sample + np.random.default_rng(4).normal(1, 5, 33)
    whole = bootstrap_mean(sample, resamples=500), paired_difference(sample, other, resamples=500)
    shapes = []
    original = np.random.default_rng

    class Watched:
        def __init__(self, seed: int) -> None:
            self.rng = original(seed)

        def integers(self, low, high, size, **more):
            shapes.append(size)
            return self.rng.integers(low, high, size, **more)

    monkeypatch.setattr(intervals, "_ENTRIES_AT_ONCE", 100)
    monkeypatch.setattr(intervals.np.random, "default_rng", Watched)
    cut = bootstrap_mean(sample, resamples=500), paired_difference(sample, other, resamples=500)
    assert max(rows * columns for rows, columns in shapes) <= 100
    assert sum(rows for rows, _ in shapes) == 3 * 500
    assert cut[0].low == pytest.approx(whole[0].low)
    assert cut[1].high == pytest.approx(whole[1].high)


def test_a_paired_difference_by_hand():
    """Differences 1, 2, 3: only all plus and all minus reach 6, so p = 2/8."""
    found = paired_difference([10, 20, 30], [11, 22, 33])
    assert (found.mean, found.p) == (2.0, 0.25)
    assert (found.wins, found.losses, found.ties) == (3, 0, 0)
    # 5, -1, 0: +-5 +-1 reaches 4 always: p = 1.
    found = paired_difference([0, 1, 7], [5, 0, 7])
    assert (found.p, found.wins, found.losses, found.ties) == (1.0, 1, 1, 1)


def test_a_run_equals_itself():
    found = paired_difference([10, 20, 30], [10, 20, 30])
    assert found == intervals.Paired(0.0, 0.0, 0.0, 1.0, 0, 0, 3)


@settings(max_examples=40)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
def test_small_cases_are_exact(differences: list[int]):
    found = paired_difference([0.0] * len(differences), differences)
    assert found.p == pytest.approx(slow_p(differences))


def test_drawn_signs_are_near_the_exact_test():
    rng = np.random.default_rng(8)
    a = rng.uniform(0, 100, 13)
    b = a + rng.normal(3, 6, 13)
    exact, drawn = paired_difference(a, b), paired_difference(a, b, resamples=8000)
    assert exact.p != drawn.p
    assert drawn.p == pytest.approx(exact.p, abs=0.02)


def test_a_drawn_p_is_never_zero():
    a = np.zeros(100)
    found = paired_difference(a, a + np.linspace(1, 2, 100), resamples=999)
    assert found.p == 1 / 1000


def test_the_test_cries_wolf_as_often_as_it_says():
    rng = np.random.default_rng(21)
    ps = [
        paired_difference(rng.normal(50, 10, 30), rng.normal(50, 10, 30), resamples=200, seed=seed).p
        for seed in range(400)
    ]
    assert 0.02 <= np.mean(np.array(ps) <= 0.05) <= 0.08
    assert 0.4 <= np.mean(np.array(ps) <= 0.5) <= 0.6


@settings(max_examples=50)
@given(pairs)
def test_swapping_the_runs_turns_the_sign(rows: list[tuple[int, int]]):
    a, b = [r[0] for r in rows], [r[1] for r in rows]
    there, back = paired_difference(a, b, resamples=300), paired_difference(b, a, resamples=300)
    assert (back.mean, back.wins, back.losses, back.ties) == (
        -there.mean,
        there.losses,
        there.wins,
        there.ties,
    )
    assert back.p == there.p
    assert back.low == pytest.approx(-there.high, abs=1e-9)
    assert there.wins + there.losses + there.ties == len(rows)


@settings(max_examples=50)
@given(pairs, st.sampled_from([0.25, 3.0]))
def test_p_does_not_depend_on_the_unit(rows: list[tuple[int, int]], scale: float):
    a, b = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)
    plain = paired_difference(a, b, resamples=300)
    scaled = paired_difference(scale * a + 5, scale * b + 5, resamples=300)
    assert scaled.p == plain.p
    assert scaled.low == pytest.approx(scale * plain.low, abs=1e-9)


@pytest.mark.parametrize("sample", [[], [1.0, float("nan")], [float("inf")], [[1.0, 2.0]]])
def test_what_is_no_list_of_numbers_is_refused(sample):
    with pytest.raises(EvaluationError, match="one finite number per query"):
        bootstrap_mean(sample)


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 1}, {"level": 95}, {"resamples": 0}])
def test_senseless_options_are_refused(options):
    with pytest.raises(EvaluationError, match="makes no sense"):
        bootstrap_mean([1.0, 2.0], **options)


def test_runs_of_different_length_are_refused():
    with pytest.raises(EvaluationError, match="2 values with 3"):
        paired_difference([1, 2], [1, 2, 3])
