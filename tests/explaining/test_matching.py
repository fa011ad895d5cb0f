from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.explaining import matching
from cfcd.explaining.matching import match_maps


def random_map(seed, h, w, c=5):
    return np.random.default_rng(seed).normal(size=(c, h, w)).astype(np.float32)


def slow_match(query, hit, ratio):
    """METHOD section 3, position by position."""
    c = len(query)
    left = [row / np.linalg.norm(row) for row in query.reshape(c, -1).T.astype(float)]
    right = [row / np.linalg.norm(row) for row in hit.reshape(c, -1).T.astype(float)]
    attention = np.abs(hit).reshape(c, -1).sum(0)
    top = sorted(range(len(right)), key=lambda j: (-attention[j], j))[: len(right) // 2]
    found = {}
    for j in top:
        distances = [np.linalg.norm(one - right[j]) for one in left]
        i = int(np.argmin(distances))
        back = [np.linalg.norm(left[i] - one) for one in right]
        if int(np.argmin(back)) == j:
            first, *others = sorted(distances)
            found[i, j] = not others or first / others[0] <= ratio
    return found


def as_dict(pairs):
    numbers = zip(pairs.query.tolist(), pairs.hit.tolist(), strict=True)
    return dict(zip(numbers, pairs.distinct.tolist(), strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), *[st.integers(1, 5)] * 4, st.sampled_from([0.7, 0.9, 1.0]))
def test_pairs_are_the_slow_ones(seed, h, w, height, width, ratio):
    query, hit = random_map(seed, h, w), random_map(seed + 1, height, width)
    pairs = match_maps(query, hit, ratio)
    assert as_dict(pairs) == slow_match(query, hit, ratio)
    assert np.all(np.diff(pairs.cosines) <= 0)


def test_distances_in_blocks_are_the_same(monkeypatch):
    query, hit = random_map(1, 6, 7), random_map(2, 5, 9)
    whole = match_maps(query, hit)
    monkeypatch.setattr(matching, "_ROWS", 4)
    assert as_dict(match_maps(query, hit)) == as_dict(whole)


def test_distinct_pairs_are_those_that_training_accepts():
    torch = pytest.importorskip("torch", reason="the light install has no torch")
    from cfcd.losses.local_triplets import local_descriptors, local_triplet_loss

    base = np.abs(random_map(3, 5, 5, 8))
    other = base[:, ::-1, :] + 0.4 * np.abs(random_map(4, 5, 5, 8))
    maps = torch.from_numpy(np.stack([base, other, base + 1]).astype(np.float32))
    found = local_triplet_loss(local_descriptors(maps, 3), ratio=0.9)
    pairs = as_dict(match_maps(maps[0].numpy(), maps[1].numpy(), 0.9))
    accepted = {pair for pair, distinct in pairs.items() if distinct}
    assert accepted == set(zip(found.anchors.tolist(), found.positives.tolist(), strict=True))
    assert 0 < len(accepted) < len(pairs)


def test_a_picture_matches_itself_place_by_place():
    one = random_map(5, 6, 4)
    pairs = match_maps(one, one)
    assert len(pairs.hit) == 12
    np.testing.assert_array_equal(pairs.query, pairs.hit)
    np.testing.assert_allclose(pairs.cosines, 1)
    assert pairs.distinct.all()


def test_equal_places_are_never_distinct():
    query, hit = np.ones((3, 2, 2), np.float32), np.ones((3, 2, 2), np.float32)
    assert not match_maps(query, hit).distinct.any()
    assert len(match_maps(np.zeros((3, 2, 2), np.float32), hit).hit) <= 2
