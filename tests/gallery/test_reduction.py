from __future__ import annotations

import numpy as np
import pytest

from cfcd.gallery.indexes.reduction import Reduction
from tests.gallery.index_support import clustered


def test_it_keeps_inner_products_as_well_as_any_projection_can() -> None:
    rows = clustered(600)
    reduction = Reduction.learn(rows, 12)
    kept = reduction.apply(rows)
    assert kept.shape == (600, 12)
    left, values, right = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    best = (left[:, :12] * values[:12]) @ right[:12]
    assert kept @ kept.T == pytest.approx(best @ best.T, abs=1e-5)


def test_whitening_makes_equal_variances_and_unit_rows() -> None:
    rows = clustered(600)
    reduction = Reduction.learn(rows, 12, whiten=True)
    before = (rows - reduction.mean) @ reduction.components.T
    assert np.cov(before.T, bias=True) == pytest.approx(np.eye(12), abs=1e-3)
    assert np.linalg.norm(reduction.apply(rows), axis=1) == pytest.approx(np.ones(600), abs=1e-5)


@pytest.mark.parametrize("whiten", [False, True])
def test_signs_do_not_depend_on_the_order_of_rows(whiten: bool) -> None:
    rows = clustered(600)
    first = Reduction.learn(rows, 6, whiten=whiten).components
    second = Reduction.learn(rows[::-1], 6, whiten=whiten).components
    assert first == pytest.approx(second, rel=1e-3, abs=1e-3)
    assert (first[np.arange(6), np.abs(first).argmax(1)] > 0).all()


def test_directions_without_variance_are_not_blown_up() -> None:
    rows = np.zeros((50, 16), np.float32)
    rows[:, :3] = clustered(50, dim=3)
    assert np.isfinite(Reduction.learn(rows, 10, whiten=True).apply(rows)).all()
    assert np.isfinite(Reduction.learn(rows[:1], 10, whiten=True).apply(rows)).all()
