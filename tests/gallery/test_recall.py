from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cfcd.gallery.indexes.engines import FaissEngine
from cfcd.gallery.indexes.recall import measure_recall
from cfcd.gallery.indexes.search_index import CodedIndex, Spec
from cfcd.gallery.truth.store import Store
from tests.gallery.index_support import DIM, add, clustered, everything, make_store, remove


def slow_recall(index: CodedIndex, store: Store, queries: int, k: int) -> float:
    """The definition, query by query, for scores of which no two are equal."""
    numbers, vectors = everything(store)
    step = -(-len(numbers) // queries)
    shares = []
    for own, query in list(zip(numbers, vectors, strict=True))[::step]:
        scores = vectors @ query
        scores[numbers == own] = -np.inf
        best = set(numbers[np.argsort(-scores)[:k]].tolist())
        found = [n for n in index.search(query[None].astype(np.float32), k + 1)[0][0].tolist() if n != own]
        shares.append(len(best & set(found[:k])) / k)
    return float(np.mean(shares))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = make_store(tmp_path / "g")
    add(made, clustered(2000))
    remove(made, list(range(1, 1000, 9)))
    return made


def test_it_is_what_the_slow_way_measures(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # So few candidates that much is missed.
    monkeypatch.setattr(FaissEngine, "depth", lambda _self, k: k)
    index = CodedIndex(Spec("codes"), DIM)
    with store.reading():
        index.catch_up(store)
        measured = measure_recall(index, store, queries=25)
        again = measure_recall(index, store, queries=25)
    assert measured["queries"] == len(range(0, len(store), -(-len(store) // 25)))
    assert measured["items"] == len(store)
    assert measured["search_ms"] > 0
    for k in (10, 100):
        expected = slow_recall(index, store, 25, k)
        assert 0.1 < expected < 1
        assert measured[f"recall@{k}"] == again[f"recall@{k}"] == pytest.approx(expected, abs=1e-4)


def test_of_twins_it_does_not_matter_which_comes(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g")
    add(store, np.repeat(clustered(8), 200, axis=0))
    index = CodedIndex(Spec("codes"), DIM)
    with store.reading():
        index.catch_up(store)
        assert measure_recall(index, store)["recall@100"] == 1


def test_fewer_items_than_asked_for(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g")
    index = CodedIndex(Spec("pq"), DIM)
    add(store, clustered(1))
    with store.reading():
        index.catch_up(store)
        assert measure_recall(index, store) == {}
    add(store, clustered(4, seed=1))
    with store.reading():
        index.catch_up(store)
        assert measure_recall(index, store)["recall@100"] == 1
