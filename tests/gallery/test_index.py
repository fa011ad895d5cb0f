from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.gallery.indexes.search_index import ExactIndex
from cfcd.gallery.truth.store import Store

DIM = 8


def vector(seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal(DIM).astype(np.float16).astype(np.float32)
    return found / np.linalg.norm(found)


def add(store: Store, *seeds: int) -> None:
    with store.changing():
        for seed in seeds:
            item = Item(id=str(seed), path=Path(f"/{seed}.jpg"))
            store.insert("test", item.id, item, FileStamp(1, 1, b""), vector(seed))


def remove(store: Store, *seeds: int) -> None:
    numbers = [found.number for seed in set(seeds) if (found := store.find(str(seed)))]
    with store.changing() as generation:
        store.remove(numbers, generation)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    Store.create(tmp_path / "g", {})
    return Store(tmp_path / "g", write=True)


@pytest.fixture
def filled(store: Store) -> Store:
    add(store, *range(40))
    remove(store, 3, 17, 39)
    return store


def slow_search(store: Store, query: np.ndarray, k: int) -> list[tuple[int, float]]:
    hits = []
    for numbers, vectors in store.descriptors_above(0, DIM, block=3):
        scores = vectors.astype(np.float64) @ query.astype(np.float64)
        hits += zip(numbers.tolist(), scores.tolist(), strict=True)
    return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]


def assert_equal(index: ExactIndex, store: Store, k: int = 5) -> None:
    query = vector(12345)
    numbers, scores = index.search(query[None], k)[0]
    expected = slow_search(store, query, k)
    assert scores.tolist() == pytest.approx([score for _, score in expected], abs=1e-5)
    assert numbers.tolist() == [number for number, _ in expected]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), max_size=6)), max_size=8),
    lag=st.integers(1, 4),
)
def test_an_index_that_catches_up_equals_one_built_afresh(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, list[int]]], lag: int
) -> None:
    folder = tmp_path_factory.mktemp("index") / "g"
    Store.create(folder, {})
    store, index, held = Store(folder, write=True), ExactIndex(DIM), set()
    for number, (adding, seeds) in enumerate(steps):
        if adding:
            add(store, *sorted(set(seeds) - held))
            held |= set(seeds)
        else:
            remove(store, *seeds)
            held -= set(seeds)
        if number % lag == 0:
            index.catch_up(store)
    index.catch_up(store)
    assert len(index) == len(store) == len(held)
    assert_equal(index, store)
    store.close()


def test_saved_and_loaded(store: Store) -> None:
    add(store, *range(20))
    index = ExactIndex(DIM)
    index.catch_up(store)
    index.save(store.folder)
    loaded = ExactIndex.load(store.folder, DIM)
    assert (loaded.generation, loaded.highest, len(loaded)) == (store.generation, 20, 20)
    assert not loaded.catch_up(store)
    assert_equal(loaded, store)
    remove(store, 3)
    add(store, 77)
    assert loaded.catch_up(store)
    assert_equal(loaded, store)


@pytest.mark.parametrize("damage", ["cut", "flip", "absent", "header", "foreign"])
def test_a_damaged_index_is_rebuilt(store: Store, damage: str) -> None:
    add(store, *range(20))
    index = ExactIndex(DIM)
    index.catch_up(store)
    index.save(store.folder)
    file = next(store.folder.glob("*.faiss"))
    data = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[-5] ^= 255
        file.write_bytes(data)
    elif damage == "absent":
        file.unlink()
    elif damage == "header":
        (store.folder / "index.json").write_text('{"kind": "exact"')
    else:
        other = ExactIndex(DIM + 1)
        other.save(store.folder)
    loaded = ExactIndex.load(store.folder, DIM)
    loaded.catch_up(store)
    assert len(loaded) == 20
    assert_equal(loaded, store)


def test_only_one_index_file_stays(store: Store) -> None:
    index = ExactIndex(DIM)
    for seed in range(3):
        add(store, seed)
        index.catch_up(store)
        index.save(store.folder)
    assert len(list(store.folder.glob("*.faiss"))) == 1


def test_equal_scores_come_by_row_number(store: Store) -> None:
    with store.changing():
        for number in range(6):
            item = Item(id=f"twin {number}", path=Path("/twin.jpg"))
            store.insert("test", item.id, item, FileStamp(1, 1, b""), vector(1))
    index = ExactIndex(DIM)
    index.catch_up(store)
    assert index.search(vector(1)[None], 6)[0][0].tolist() == [1, 2, 3, 4, 5, 6]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(allowed=st.sets(st.integers(1, 60)), k=st.integers(1, 50))
def test_only_allowed_rows_are_found(filled: Store, allowed: set[int], k: int) -> None:
    index = ExactIndex(DIM)
    index.catch_up(filled)
    query = vector(99)
    numbers, scores = index.search(query[None], k, np.array(sorted(allowed), np.int64))[0]
    expected = [hit for hit in slow_search(filled, query, 100) if hit[0] in allowed][:k]
    assert numbers.tolist() == [number for number, _ in expected]
    assert scores.tolist() == pytest.approx([score for _, score in expected], abs=1e-5)


def test_an_empty_index_finds_nothing() -> None:
    results = ExactIndex(DIM).search(np.stack([vector(1), vector(2)]), 5)
    assert [len(numbers) for numbers, _ in results] == [0, 0]
