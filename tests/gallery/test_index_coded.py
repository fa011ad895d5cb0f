from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cfcd.gallery.indexes.search_index import HEADER, CodedIndex, Spec, load_index, make_index
from cfcd.gallery.truth.store import Store
from tests.gallery.index_support import DIM, add, clustered, everything, make_store, remove, slow_search

KINDS = ["codes", "pq", "ivf", "hnsw", "turbovec"]
SPECS = [*map(Spec, KINDS), Spec("exact", 16), Spec("pq", 16), Spec("codes", 16, whiten=True)]
COUNT = 1600


def build(spec: Spec, store: Store) -> CodedIndex:
    if spec.kind == "turbovec":
        pytest.importorskip("turbovec", reason="turbovec is not installed")
    index = make_index(spec, DIM)
    assert isinstance(index, CodedIndex)
    with store.reading():
        index.catch_up(store)
    return index


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that no test changes."""
    made = make_store(tmp_path_factory.mktemp("coded") / "g")
    add(made, clustered(COUNT))
    remove(made, list(range(5, 200, 7)))
    return made


@pytest.fixture
def changing(tmp_path: Path) -> Store:
    made = make_store(tmp_path / "g")
    add(made, clustered(COUNT))
    return made


def share_found(index: CodedIndex, store: Store, k: int = 10) -> float:
    """Recall the slow way, and on the way: scores are exact, order is right, nothing unknown is found."""
    held, found = dict(zip(*everything(store), strict=True)), 0
    queries = clustered(12, seed=5)
    for query, (numbers, scores) in zip(queries, index.search(queries, k), strict=True):
        assert len(numbers) == min(k, len(held))
        assert scores.tolist() == pytest.approx([held[n] @ query for n in numbers.tolist()], abs=1e-5)
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        found += len({number for number, _ in slow_search(store, query, k)} & set(numbers.tolist()))
    return found / (k * len(queries))


@pytest.mark.parametrize("spec", SPECS, ids=Spec.text)
def test_it_finds_nearly_what_a_slow_search_finds(store: Store, spec: Spec) -> None:
    index = build(spec, store)
    assert len(index) == len(store)
    least = 0.5 if spec.whiten else 0.85 if spec.reduce or spec.kind == "ivf" else 0.95
    assert share_found(index, store) >= least


@pytest.mark.parametrize("spec", SPECS, ids=Spec.text)
def test_only_allowed_rows_are_found_and_as_many_as_there_are(store: Store, spec: Spec) -> None:
    index = build(spec, store)
    query = clustered(1, seed=8)
    for allowed in (range(1, 30), range(100, 1500), range(50_000, 50_010), ()):
        rows = np.array(allowed, np.int64)
        expected = slow_search(store, query[0], 10, set(allowed))
        numbers, _ = index.search(query, 10, rows)[0]
        assert set(numbers.tolist()) <= set(allowed)
        assert len(numbers) == len(expected)
        if len(allowed) < 100:
            assert numbers.tolist() == [number for number, _ in expected]
        everywhere, _ = index.search(query, COUNT, rows)[0]
        assert set(everywhere.tolist()) == set(allowed) & set(everything(store)[0].tolist())


@pytest.mark.parametrize("spec", SPECS, ids=Spec.text)
def test_saved_and_loaded_it_answers_the_same(changing: Store, spec: Spec) -> None:
    index = build(spec, changing)
    index.measured = {"recall@10": 0.5}
    index.save(changing.folder)
    loaded = load_index(changing.folder, spec, DIM)
    assert loaded.measured == {"recall@10": 0.5}
    assert loaded.resident_bytes == index.resident_bytes
    with changing.reading():
        assert not loaded.catch_up(changing)
    queries = clustered(5, seed=6)
    for (numbers, scores), (again, same) in zip(
        index.search(queries, 7), loaded.search(queries, 7), strict=True
    ):
        assert numbers.tolist() == again.tolist()
        assert scores.tolist() == same.tolist()


@pytest.mark.parametrize("spec", SPECS, ids=Spec.text)
def test_it_catches_up_with_added_and_removed_rows(changing: Store, spec: Spec) -> None:
    index = build(spec, changing)
    index.save(changing.folder)
    loaded = load_index(changing.folder, spec, DIM)
    best = [number for number, _ in slow_search(changing, clustered(20, seed=5)[0], 300)]
    remove(changing, best[:200])
    add(changing, clustered(300, seed=1))
    remove(changing, [COUNT + 1, COUNT + 2])
    for one in (index, loaded):
        assert isinstance(one, CodedIndex)
        with changing.reading():
            assert one.catch_up(changing)
            assert not one.catch_up(changing)
        assert len(one) == len(changing) == COUNT + 300 - 202
        assert share_found(one, changing) >= (0.5 if spec.whiten else 0.85)
    # Where everything near a query is gone, what is left is found all the same.
    numbers, _ = index.search(clustered(20, seed=5)[:1], 10)[0]
    assert not set(numbers.tolist()) & set(best[:200])


def test_the_same_store_gives_the_same_index(store: Store, tmp_path: Path) -> None:
    for spec in (Spec("pq"), Spec("codes", 16, whiten=True)):
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            build(spec, store).save(tmp_path / name)
        first, second = (json.loads((tmp_path / name / HEADER).read_text()) for name in ("a", "b"))
        assert first["files"]["faiss"]["digest"] == second["files"]["faiss"]["digest"]


@pytest.mark.parametrize("ending", ["faiss", "npz", "json"])
def test_a_flipped_byte_is_noticed_wherever_it_is(changing: Store, ending: str) -> None:
    index = build(Spec("pq"), changing)
    index.save(changing.folder)
    file = next(changing.folder.glob(f"index*.{ending}"))
    whole = file.read_bytes()
    rng = np.random.default_rng(3)
    for at in rng.integers(0, len(whole) - 1, 25):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(0, 7))
        file.write_bytes(damaged)
        assert load_index(changing.folder, Spec("pq"), DIM).generation == 0
    file.write_bytes(whole[:-2])  # a header ends with a brace and a new line
    assert load_index(changing.folder, Spec("pq"), DIM).generation == 0
    file.write_bytes(whole)
    assert load_index(changing.folder, Spec("pq"), DIM).generation == changing.generation


def test_an_index_of_another_store_is_not_believed(changing: Store, tmp_path: Path) -> None:
    index = build(Spec("pq"), changing)
    other = make_store(tmp_path / "other")
    add(other, clustered(1500, seed=9))
    with other.reading():
        index.catch_up(other)
    assert len(index) == 1500
    assert share_found(index, other) >= 0.9


@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize("kind", ["pq", "ivf", "turbovec"])
def test_hardly_any_rows(tmp_path: Path, kind: str, count: int) -> None:
    tiny = make_store(tmp_path / "g")
    add(tiny, clustered(count))
    index = build(Spec(kind), tiny)
    query = clustered(1, seed=4)
    assert len(index.search(query, 50)[0][0]) == count
    index.save(tiny.folder)
    loaded = load_index(tiny.folder, Spec(kind), DIM)
    with tiny.reading():
        loaded.catch_up(tiny)
    assert len(loaded.search(query, 50)[0][0]) == count
    add(tiny, clustered(30, seed=2))
    with tiny.reading():
        loaded.catch_up(tiny)
    assert len(loaded.search(query, 50)[0][0]) == count + 30


def test_growth_removals_and_drift_wear_an_index_out(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g")
    add(store, clustered(3000))
    index = build(Spec("codes"), store)
    assert not index.is_worn(store)
    add(store, clustered(1500, seed=3))
    with store.reading():
        index.catch_up(store)
        assert not index.is_worn(store)
    strange = np.random.default_rng(0).standard_normal((1500, DIM)).astype(np.float32)
    add(store, strange / np.linalg.norm(strange, axis=1, keepdims=True))
    with store.reading():
        index.catch_up(store)
        assert index.is_worn(store)
    removed = build(Spec("codes"), store)
    remove(store, list(range(1, 2500)))
    with store.reading():
        removed.catch_up(store)
        assert removed.is_worn(store)
