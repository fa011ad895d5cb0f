from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.explaining.network import Whitening
from cfcd.explaining.shares import describe, regrid, share_map, take_apart

PLAIN = Whitening(None, np.zeros(6))


def random_map(seed, c=6, h=3, w=4):
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(size=(c, h, w)), 0).astype(np.float32)


def random_whitening(seed, c=6, d=5, bias=1.0):
    rng = np.random.default_rng(1000 + seed)
    return Whitening(rng.normal(size=(d, c)), bias * rng.normal(size=d))


def slow_pooled(last_map, p, eps):
    """GeM as it is written in METHOD.md."""
    c, h, w = last_map.shape
    out = []
    for k in range(c):
        total = sum(max(float(last_map[k, y, x]), eps) ** p for y in range(h) for x in range(w))
        out.append((total / (h * w)) ** (1 / p))
    return np.array(out)


def slow_g(last_map, whitening, p, eps):
    f = slow_pooled(last_map, p, eps)
    return (f if whitening.matrix is None else whitening.matrix @ f) + whitening.bias


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("p", [1.0, 2.5, 3.0, 11.0])
@pytest.mark.parametrize("whitening", [PLAIN, random_whitening(0)], ids=["plain", "whitened"])
def test_parts_add_up_to_the_pooled_vector_and_give_the_descriptor(p, whitening):
    last_map = random_map(1)
    parts = take_apart(last_map, whitening, p, 1e-6)
    np.testing.assert_allclose(parts.of_pooled.sum((1, 2)), slow_pooled(last_map, p, 1e-6), rtol=1e-9)
    np.testing.assert_allclose(parts.g, slow_g(last_map, whitening, p, 1e-6), rtol=1e-9)
    assert parts.grid == (3, 4)


def test_a_part_is_the_input_times_its_slope():
    last_map, p, step = random_map(2) + np.float32(0.1), 3.0, 1e-6
    parts = take_apart(last_map, PLAIN, p, 1e-6).of_pooled
    for k, y, x in ((0, 0, 0), (3, 2, 1), (5, 1, 3)):
        ends = []
        for sign in (1, -1):
            moved = last_map.astype(np.float64)
            moved[k, y, x] *= 1 + sign * step
            ends.append(slow_pooled(moved, p, 1e-6)[k])
        assert parts[k, y, x] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1.0, 3.0, 7.5]),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4),
)
def test_shares_add_up_to_the_score_at_any_scales(seed, p, whitened, grids):
    whitening = random_whitening(seed) if whitened else PLAIN
    maps = [random_map(seed + i, 6, *grid) for i, grid in enumerate(grids)]
    other = unit(np.random.default_rng(seed).normal(size=5 if whitened else 6))
    scales = [take_apart(one, whitening, p, 1e-6) for one in maps]
    slow = unit(np.mean([unit(slow_g(one, whitening, p, 1e-6)) for one in maps], axis=0))
    np.testing.assert_allclose(describe(scales), slow, atol=1e-9)
    shares, constant = share_map(scales, whitening, other)
    assert shares.sum() == pytest.approx(slow @ other, abs=1e-9)
    assert shares.size == max(h * w for h, w in grids)
    assert (constant == 0) == (not whitened)


def test_shares_of_one_scale_equal_the_obvious_sum():
    last_map, whitening, p = random_map(3), random_whitening(3), 3.0
    other = unit(np.arange(1.0, 6.0))
    shares, constant = share_map([take_apart(last_map, whitening, p, 1e-6)], whitening, other)
    f, g = slow_pooled(last_map, p, 1e-6), slow_g(last_map, whitening, p, 1e-6)
    length = math.sqrt(sum(value * value for value in g))
    powers = np.maximum(last_map.astype(float), 1e-6) ** p
    for y in range(3):
        for x in range(4):
            own = f * powers[:, y, x] / powers.sum((1, 2))
            expected = (whitening.matrix @ own) @ other / length + whitening.bias @ other / length / 12
            assert shares[y, x] == pytest.approx(expected, abs=1e-9)
    assert constant == pytest.approx(whitening.bias @ other / length)


def test_the_bias_can_be_taken_out_again():
    last_map, with_bias = random_map(4), random_whitening(4, bias=3)
    other = unit(np.ones(5))
    scales = [take_apart(last_map, with_bias, 3.0, 1e-6)]
    shares, constant = share_map(scales, with_bias, other)
    alone = np.tensordot(with_bias.matrix.T @ other, scales[0].of_pooled, 1) / np.linalg.norm(scales[0].g)
    np.testing.assert_allclose(shares - constant / shares.size, alone, atol=1e-12)


def test_an_empty_map_is_shared_evenly():
    parts = take_apart(np.zeros((6, 2, 2), np.float32), PLAIN, 3.0, 1e-6)
    shares, _ = share_map([parts], PLAIN, unit(np.ones(6)))
    np.testing.assert_allclose(shares, 0.25)


@settings(max_examples=25, deadline=None)
@given(*[st.integers(1, 9)] * 4, st.integers(0, 100))
def test_another_grid_keeps_the_sum_and_the_areas(h, w, height, width, seed):
    shares = np.random.default_rng(seed).normal(size=(h, w))
    out = regrid(shares, (height, width))
    assert out.shape == (height, width)
    assert out.sum() == pytest.approx(shares.sum(), abs=1e-9)
    slow = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        for y, x in np.ndindex(h, w):
            down = max(0, min((i + 1) / height, (y + 1) / h) - max(i / height, y / h)) * h
            across = max(0, min((j + 1) / width, (x + 1) / w) - max(j / width, x / w)) * w
            slow[i, j] += down * across * shares[y, x]
    np.testing.assert_allclose(out, slow, atol=1e-9)
