"""Precision-recall curves against hand-made cases and a slow reference in fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.evaluation import evaluate_descriptors
from cfcd.evaluation.curves import interpolated_precision


def slow_curve(ranks: list[int], n: int) -> list[float]:
    """The definition, level by level: the best precision at any recall not below the level."""
    points = [(Fraction(j, n), Fraction(j, rank + 1)) for j, rank in enumerate(ranks, start=1)]
    return [
        float(max((p for recall, p in points if recall >= Fraction(i, 100)), default=0)) for i in range(101)
    ]


@given(st.sets(st.integers(0, 60), max_size=12), st.integers(0, 5))
def test_a_curve_agrees_with_its_definition(ranks: set[int], missing: int):
    n = max(1, len(ranks) + missing)
    found = interpolated_precision(np.array(sorted(ranks)), n)
    assert found.tolist() == pytest.approx(slow_curve(sorted(ranks), n))
    assert (np.diff(found) <= 0).all()


def test_curves_by_hand():
    assert interpolated_precision(np.array([0, 1, 2]), 3).tolist() == [1.0] * 101
    # Positives at places 1 and 4: precision 1 up to half of them, then 2/4.
    half = interpolated_precision(np.array([0, 3]), 2)
    assert half[:51].tolist() == [1.0] * 51
    assert half[51:].tolist() == [0.5] * 50
    # A precision that rises again lifts the curve before it: 1/3, 2/4 from the start.
    assert interpolated_precision(np.array([2, 3]), 2).tolist() == [0.5] * 101
    assert interpolated_precision(np.array([], dtype=int), 2).tolist() == [0.0] * 101
    # One of two found: what lies beyond half is never reached.
    assert interpolated_precision(np.array([0]), 2)[[0, 50, 51, 100]].tolist() == [1, 1, 0, 0]


def test_a_report_holds_the_mean_curve_of_its_queries():
    rows = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    report = evaluate_descriptors(rows, ["a", "a", "b"], ["x", "y", "z"])
    # x finds y at once; y finds x at once: 0.8 against 0.6.
    assert report.precision_at == pytest.approx([100.0] * 101)
    report = evaluate_descriptors(rows, ["a", "b", "a"], ["x", "y", "z"])
    # Both find the b first: precision 1/2 at every recall.
    assert report.precision_at == pytest.approx([50.0] * 101)
