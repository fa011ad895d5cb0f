from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cfcd.evaluation.top_hits import top_hits


def full_sort(queries, gallery, k):
    """Sort the whole gallery stably by scores summed in float64 and rounded once."""
    scores = (queries.astype(np.float64) @ gallery.astype(np.float64).T).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def in_blocks(gallery, sizes, seed=None):
    """Cut the gallery into blocks; with a seed they come in another order, and rows within them too."""
    places = np.arange(len(gallery))
    if seed is not None:
        np.random.default_rng(seed).shuffle(places)
    cuts = np.cumsum(sizes)
    return [(at, gallery[at]) for at in np.split(places, cuts[cuts < len(gallery)]) if len(at)]


def unit(rng, n, dim):
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(
    gallery=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 40), st.just(4)), elements=st.sampled_from([-0.5, 0.0, 0.5])
    ),
    queries=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=st.sampled_from([-0.5, 0.0, 0.5])
    ),
    k=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 15), min_size=1, max_size=6),
    seed=st.one_of(st.none(), st.integers(0, 3)),
    at_once=st.integers(1, 4),
)
def test_ties_fall_as_in_a_stable_full_sort(gallery, queries, k, sizes, seed, at_once):
    order, scores = full_sort(queries, gallery, k)
    found, figures = top_hits(queries, in_blocks(gallery, sizes, seed), k, queries_at_once=at_once)
    here = order.shape[1]
    assert np.array_equal(found[:, :here], order)
    assert np.array_equal(figures[:, :here], scores)
    assert (found[:, here:] == -1).all()
    assert np.isneginf(figures[:, here:]).all()


@pytest.mark.parametrize("dim", [3, 64, 700])
@pytest.mark.parametrize("stored", [np.float16, np.float32, np.float64])
def test_equals_the_full_sort_to_the_last_bit(dim, stored):
    rng = np.random.default_rng(dim)
    gallery, queries = unit(rng, 1500, dim), unit(rng, 40, dim)
    gallery[rng.integers(0, 1500, 300)] = gallery[7]  # the same picture over and over
    # Neighbours closer to each other than float32 sums are exact.
    gallery[700:900] = gallery[7] + rng.standard_normal((200, dim)).astype(np.float32) * 1e-7
    queries[:3] = gallery[7]
    gallery = gallery.astype(stored)
    order, scores = full_sort(queries, gallery, 100)
    for seed in (None, 1):
        found, figures = top_hits(queries, in_blocks(gallery, [300] * 4, seed), 100, queries_at_once=16)
        assert np.array_equal(found, order)
        assert np.array_equal(figures, scores)


def test_a_gallery_that_gets_better_and_better_loses_nothing():
    rng = np.random.default_rng(0)
    gallery, queries = unit(rng, 600, 16), unit(rng, 1, 16)
    gallery = gallery[np.argsort(gallery @ queries[0])]
    found, _ = top_hits(queries, in_blocks(gallery, [50] * 12), 30)
    assert found[0].tolist() == full_sort(queries, gallery, 30)[0][0].tolist()
