from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cfcd.catalog import Catalog, Item
from cfcd.errors import GalleryError, MissingExtra
from cfcd.gallery import Gallery
from cfcd.gallery.indexes import choice, upkeep
from cfcd.gallery.indexes import engines as index_engines
from cfcd.gallery.indexes.choice import Choice, read_choice, write_choice
from cfcd.gallery.indexes.search_index import CodedIndex, ExactIndex, Spec, saved_header
from cfcd.gallery.indexes.upkeep import describe_index, index_in_memory, keep_index
from cfcd.gallery.truth.store import Store
from tests.gallery.index_support import DIM, add, clustered, make_store, remove


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = make_store(tmp_path / "g")
    add(made, clustered(1500))
    return made


def choose(store: Store, wanted: Choice) -> dict[str, object]:
    with store.changing():
        write_choice(store, wanted)
    keep_index(store.folder, store, DIM)
    with store.reading():
        return describe_index(store.folder, store, DIM)


def test_a_named_index_is_built_measured_and_kept(store: Store) -> None:
    found = choose(store, Choice("codes"))
    assert (found["kind"], found["chosen"]) == ("codes", "named")
    assert found["measured"] == "with 188 of 1500 items as queries"
    recall = found["recall@10"]
    assert isinstance(recall, float)
    assert 0.9 < recall <= 1
    before = saved_header(store.folder, store)
    add(store, clustered(300, seed=4))
    remove(store, [1, 2, 3])
    keep_index(store.folder, store, DIM)
    assert saved_header(store.folder, store) == before  # so few are caught up with in memory
    with store.reading():
        held = index_in_memory(store.folder, store, DIM, None)
        assert isinstance(held, CodedIndex)
        held.catch_up(store)
        assert index_in_memory(store.folder, store, DIM, held) is held
        assert len(held) == 1797
    add(store, clustered(900, seed=5))
    keep_index(store.folder, store, DIM)
    after = saved_header(store.folder, store)
    assert before is not None
    assert after is not None
    assert (after.items, after.measured) == (2697, before.measured)  # added to, not learnt anew
    assert after.details == before.details


def test_an_unchanged_gallery_is_left_alone(store: Store) -> None:
    choose(store, Choice("pq"))
    files = {file.name: file.stat().st_mtime_ns for file in store.folder.glob("index*")}
    keep_index(store.folder, store, DIM)
    assert {file.name: file.stat().st_mtime_ns for file in store.folder.glob("index*")} == files
    assert sorted(Path(name).suffix for name in files) == [".faiss", ".json", ".npz"]


def test_much_growth_is_learnt_anew(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g")
    add(store, clustered(1000))
    choose(store, Choice("codes"))
    add(store, clustered(2000, seed=1))
    keep_index(store.folder, store, DIM)
    header = saved_header(store.folder, store)
    assert header is not None
    assert header.details["trained_items"] == 1000
    strange = np.random.default_rng(0).standard_normal((2000, DIM))
    add(store, strange / np.linalg.norm(strange, axis=1, keepdims=True))
    keep_index(store.folder, store, DIM)
    header = saved_header(store.folder, store)
    assert header is not None
    assert header.details["trained_items"] == header.measured["items"] == 5000


def test_size_alone_changes_the_kind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "EXACT_ITEMS", 2000)
    keep_index(store.folder, store, DIM)
    with store.reading():
        held = index_in_memory(store.folder, store, DIM, None)
        held.catch_up(store)
        assert describe_index(store.folder, store, DIM)["recall"] == "exact"
    assert isinstance(held, ExactIndex)
    add(store, clustered(600, seed=1))
    keep_index(store.folder, store, DIM)
    with store.reading():
        held = index_in_memory(store.folder, store, DIM, held)
        assert held.spec == Spec("pq")  # a reader follows
        assert not held.catch_up(store)
    remove(store, list(range(1, 900)))
    keep_index(store.folder, store, DIM)
    assert saved_header(store.folder, store).spec == Spec("pq")  # type: ignore[union-attr]
    remove(store, list(range(900, 1150)))
    keep_index(store.folder, store, DIM)
    assert saved_header(store.folder, store).spec == Spec("exact")  # type: ignore[union-attr]


def test_budgets_choose(store: Store) -> None:
    found = choose(store, Choice(recall=0.5, latency=60.0))
    assert (found["kind"], found["recall"]) == ("exact", "exact")
    found = choose(store, Choice(memory=1500 * 30, recall=0.5))
    assert (found["kind"], found["chosen"]) == ("codes", "for memory 4.5e-05 GB, recall@10 0.5")
    assert "unmet" not in found
    kept = read_choice(store)
    assert kept.chosen == "codes"
    add(store, clustered(200, seed=3))
    keep_index(store.folder, store, DIM)
    assert read_choice(store) == kept


def test_what_no_kind_can_keep_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "KINDS", ("exact", "codes"))
    found = choose(store, Choice(memory=1000))
    assert found["kind"] == "codes"  # the smallest
    assert found["unmet"] == ["memory 1e-06 GB: codes takes 1.95e-05 GB"]
    kept = choose(store, Choice(recall=1.0, latency=1e-9))["unmet"]
    assert isinstance(kept, list)
    assert any("latency" in miss for miss in kept)


def test_a_reduced_index_is_described(store: Store) -> None:
    found = choose(store, Choice("exact", reduce=16))
    assert (found["kind"], found["dimensions"], found["whitened"]) == ("exact", 16, False)
    assert isinstance(found["recall@10"], float)


def test_a_small_gallery_writes_no_index(tmp_path: Path) -> None:
    small = make_store(tmp_path / "g")
    add(small, clustered(900))
    found = choose(small, Choice("hnsw"))
    assert found["kind"] == "exact"
    assert not list(small.folder.glob("index*"))


def test_a_disk_that_refuses_leaves_the_items(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_engine: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("write error: No space left on device")

    monkeypatch.setattr(index_engines.FaissEngine, "write", refuse)
    with pytest.raises(GalleryError, match="No space left"):
        choose(store, Choice("pq"))
    monkeypatch.undo()
    assert not list(store.folder.glob(".index*"))
    keep_index(store.folder, store, DIM)
    assert saved_header(store.folder, store) is not None


def test_what_is_not_installed_is_not_chosen(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "turbovec", None)
    with pytest.raises(MissingExtra, match="turbovec"):
        gallery.choose_index(Choice("turbovec"))
    assert gallery.info()["index"]["chosen"] == "by size"


def test_a_gallery_searches_the_same_with_every_index(gallery: Gallery) -> None:
    vectors = clustered(1200, dim=gallery.dim, centres=60)
    items = [Item(id=f"v{at}", path=Path(f"/v{at}.jpg"), label=str(at % 5)) for at in range(len(vectors))]
    gallery.add(Catalog.from_items(items, source=Path("/made"), root=Path("/made"), kind="made"), vectors)
    query = clustered(1, seed=3, dim=gallery.dim, centres=60)[0]
    expected = [(hit.id, round(hit.score, 4)) for hit in gallery.search_vector(query, 5)]
    for wanted in (Choice("codes", reduce=64), Choice("pq", reduce=32), Choice(memory=10**9, recall=0.1)):
        gallery.choose_index(wanted)
        with gallery._store.reading():
            assert read_choice(gallery._store) in (wanted, replace(wanted, chosen="exact"))
        found = [(hit.id, round(hit.score, 4)) for hit in gallery.search_vector(query, 5)]
        assert len(set(found) & set(expected)) >= 3
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        assert gallery.search_vector(vectors[7], 1)[0].id == "v7"
        gallery.remove(["v7"])
        assert gallery.search_vector(vectors[7], 1)[0].id != "v7"
        one = Catalog.from_items([items[7]], source=Path("/made"), root=Path("/made"), kind="made")
        gallery.add(one, vectors[7:8])
        expected = [(hit.id, round(hit.score, 4)) for hit in gallery.search_vector(query, 5)]
    assert gallery.info()["index"]["kind"] == "exact"
