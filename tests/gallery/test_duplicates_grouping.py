"""Links and leaders: against a slow reference, and without chains that swallow everything."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.gallery.duplicates import leaders as duplicates_leaders
from cfcd.gallery.duplicates import links as duplicates_links
from cfcd.gallery.duplicates.leaders import follow_leaders
from cfcd.gallery.duplicates.links import Components, link_all_pairs, link_neighbours, unit_rows


class SomeStore:
    """Descriptors by ascending row number, in blocks of three."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors.astype(np.float16)
        self.numbers = np.arange(len(vectors), dtype=np.int64) * 2 + 5

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, len(self.vectors), 3):
            yield self.numbers[first : first + 3], self.vectors[first : first + 3]


class SomeIndex:
    """The k nearest by exact scores."""

    def __init__(self, store: SomeStore) -> None:
        self.store = store

    def search(self, queries: np.ndarray, k: int, allowed: None) -> list[tuple[np.ndarray, np.ndarray]]:
        scores = queries @ unit_rows(self.store.vectors).T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return [(self.store.numbers[row], scores[at, row]) for at, row in enumerate(order)]


def slow_components(near: np.ndarray) -> list[list[int]]:
    label = list(range(len(near)))
    for _ in range(len(near)):
        for a in range(len(near)):
            for b in range(len(near)):
                if near[a, b]:
                    label[a] = label[b] = min(label[a], label[b])
    return [
        [at for at, own in enumerate(label) if own == root]
        for root in sorted(set(label))
        if label.count(root) > 1
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.3, 0.6, 0.9]))
def test_links_are_those_of_all_pairs(seed: int, count: int, threshold: float) -> None:
    store = SomeStore(np.random.default_rng(seed).normal(size=(count, 3)))
    rows = unit_rows(store.vectors)
    scores = rows @ rows.T
    if np.abs(scores - threshold).min() < 1e-5:  # rounding decides there
        return
    expected = slow_components(scores >= threshold)
    before = duplicates_links._BLOCK
    duplicates_links._BLOCK = 4
    try:
        exact = Components(count)
        link_all_pairs(store.blocks(), count, 3, threshold, exact)
    finally:
        duplicates_links._BLOCK = before
    assert [group.tolist() for group in exact.groups()] == expected
    if np.abs(scores - threshold + duplicates_links._SLACK).min() > 1e-5:
        index = Components(count)
        blocks = store.blocks()
        link_neighbours(SomeIndex(store), blocks, store.numbers, threshold, index)  # type: ignore[arg-type]
        assert [group.tolist() for group in index.groups()] == slow_components(
            scores >= threshold - duplicates_links._SLACK
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=8))
def test_components_are_joined_in_any_order(joins: list[list[int]]) -> None:
    near = np.eye(10, dtype=bool)
    joined = Components(10)
    for some in joins:
        joined.join(np.array(some))
        for a in some:
            near[a, some] = True
    assert [group.tolist() for group in joined.groups()] == slow_components(near | near.T)


def slow_leaders(rows: np.ndarray, threshold: float) -> dict[int, int]:
    leaders: list[int] = []
    joined = {}
    for at, row in enumerate(rows):
        scores = [float(rows[leader] @ row) for leader in leaders]
        if scores and max(scores) >= threshold:
            joined[at] = leaders[int(np.argmax(scores))]
        else:
            leaders.append(at)
    return joined


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0.2, 0.7, 0.95]))
def test_each_joins_the_leader_it_is_most_like(seed: int, count: int, threshold: float) -> None:
    rows = unit_rows(np.random.default_rng(seed).normal(size=(count, 3)))
    before = duplicates_leaders._BLOCK
    duplicates_leaders._BLOCK = 4
    try:
        found = follow_leaders(count, lambda a, b: rows[a:b], threshold, lambda place, leader: True)
    finally:
        duplicates_leaders._BLOCK = before
    scores = rows @ rows.T
    close = np.abs(scores - threshold).min() < 1e-5 or any(
        b - a < 1e-5 for row in scores for a, b in pairwise(sorted(row))
    )
    if not close:
        assert {one.place: one.leader for one in found} == slow_leaders(rows, threshold)
    for one in found:
        assert one.similarity == pytest.approx(float(rows[one.place] @ rows[one.leader]), abs=1e-5)
        assert one.leader not in {other.place for other in found}


def test_a_chain_does_not_become_one_group() -> None:
    angles = np.arange(12) * 0.2  # neighbours: cosine 0.98, ends of the chain: below zero
    rows = unit_rows(np.stack((np.cos(angles), np.sin(angles)), axis=1))
    joined = Components(12)
    store = SomeStore(rows)
    link_all_pairs(store.blocks(), 12, 2, 0.97, joined)
    assert len(joined.groups()) == 1  # alike, one after the other
    found = follow_leaders(12, lambda a, b: rows[a:b], 0.97, lambda place, leader: True)
    assert [(one.place, one.leader) for one in found] == [(at, at - 1) for at in range(1, 12, 2)]


def test_leaders_are_asked_best_first_and_not_for_ever() -> None:
    rows = unit_rows(np.ones((30, 2)))
    asked: list[tuple[int, int]] = []

    def never(place: int, leader: int) -> bool:
        asked.append((place, leader))
        return False

    assert follow_leaders(30, lambda a, b: rows[a:b], 0.9, never) == []
    assert [leader for place, leader in asked if place == 5] == [0, 1, 2, 3, 4]
    assert sum(place == 29 for place, _ in asked) == duplicates_leaders.MOST_COMPARED
