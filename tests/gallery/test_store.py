from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cfcd.catalog import Item, read_catalog
from cfcd.encoding import load_model
from cfcd.encoding.shards import FileStamp
from cfcd.errors import GalleryError
from cfcd.gallery import Gallery
from cfcd.gallery.truth import bulk_reads
from cfcd.gallery.truth.changes import DamagedStore
from cfcd.gallery.truth.store import FILE, Store
from tests.support import make_photo

ITEM = Item(
    id="a",
    path=Path("/photos/a.jpg"),
    label="arch",
    split="test",
    is_query=True,
    is_gallery=False,
    box=(1.0, 2.0, 30.5, 40.0),
    row=7,
    extra={"city": "Nîmes", "year": 1900},
)
STAMP = FileStamp(123, 456_789_012_345_678_901, b"0123456789abcdef")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    Store.create(tmp_path / "g", {"identity": "x", "dim": "4"})
    return Store(tmp_path / "g", write=True)


def test_an_item_comes_back_as_it_went_in(store: Store) -> None:
    vector = np.linspace(-1, 1, 16, dtype=np.float32)
    with store.changing():
        store.insert("here", "key", ITEM, STAMP, vector)
    found = store.find("a")
    assert found is not None
    assert (found.item, found.stamp, found.source, found.key) == (ITEM, STAMP, "here", "key")
    assert store.by_number([found.number, 99]) == {found.number: found}
    assert np.array_equal(store.descriptor(found.number), vector.astype(np.float16).astype(np.float32))
    assert store.find("b") is None


def test_many_descriptors_come_in_the_order_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.arange(40, dtype=np.float32).reshape(10, 4)
    with store.changing():
        for number, vector in enumerate(vectors):
            store.insert("here", f"{number}", replace(ITEM, id=f"{number}"), STAMP, vector)
    monkeypatch.setattr(bulk_reads, "_BLOCK", 3)
    wanted = [7, 2, 2, 10, 1, 7, 9]
    found = store.descriptors(wanted)
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors[np.array(wanted) - 1])
    assert store.descriptors(np.empty(0, np.int64)).shape == (0, 4)
    assert list(store.by_number([7, 99, 2, 7])) == [2, 7]
    with pytest.raises(DamagedStore, match="descriptor 11 is not there"):
        store.descriptors([3, 11, 4])


def test_a_failed_change_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.changing():
        store.insert("here", "key", ITEM, STAMP, np.ones(4, np.float32))
        raise ZeroDivisionError
    assert (len(store), store.generation) == (0, 0)


def test_row_numbers_are_never_used_twice(store: Store) -> None:
    for _ in range(3):
        with store.changing() as generation:
            store.insert("here", "key", ITEM, STAMP, np.ones(4, np.float32))
            found = store.find("a")
            assert found is not None
            assert found.number == generation
            store.remove([found.number], generation)
    assert store.removed_since(1).tolist() == [2, 3]


def test_a_reader_sees_one_generation_throughout(store: Store) -> None:
    reader = Store(store.folder)
    with reader.reading():
        assert (len(reader), reader.generation) == (0, 0)
        with store.changing():
            store.insert("here", "key", ITEM, STAMP, np.ones(4, np.float32))
        assert (len(reader), reader.generation) == (0, 0)
    assert (len(reader), reader.generation) == (1, 1)


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError), Store(store.folder).changing():
        pass


def test_another_format_is_refused(store: Store) -> None:
    store.close()
    (store.folder / "gallery.log").unlink()
    with sqlite3.connect(store.folder / FILE) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    connection.close()
    with pytest.raises(GalleryError, match="format 99"):
        Store(store.folder)


def test_a_descriptor_of_another_length_is_named(store: Store) -> None:
    with store.changing():
        store.insert("here", "key", ITEM, STAMP, np.ones(5, np.float32))
    with pytest.raises(GalleryError, match="4-dimensional"):
        list(store.descriptors_above(0, 4))


_RUN = """
import sys
from cfcd import load_model, read_catalog
from cfcd.gallery import open_or_create, update
update._BATCH_ROWS = 4
with open_or_create(sys.argv[2], precision="fp32") as gallery:
    gallery.update(read_catalog(sys.argv[1]), progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_writers_leave_a_gallery_that_opens_and_searches(tmp_path: Path) -> None:
    photos, folder = tmp_path / "photos", tmp_path / "g"
    photos.mkdir()
    for number in range(160):
        make_photo(number).save(photos / f"{number:03d}.jpg")
    encoder = load_model(precision="fp32")
    rng = np.random.default_rng(1)
    for round_number in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, str(photos), str(folder)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(int(rng.integers(1, 24))):
            process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.01)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not Gallery.exists(folder):
            continue
        with Gallery(folder, encoder) as gallery:
            catalog, _ = gallery.contents()
            assert len(set(catalog.ids)) == len(catalog) == len(gallery)
            assert len(gallery.search(make_photo(0), k=1000)) == len(gallery)
            # The first 40 files change half way: until an update has come to them, they are found by no rule.
            settled = [item for item in catalog if int(item.path.stem) >= 40]
            for item in settled[:: max(1, len(settled) // 5)]:
                assert gallery.search(item.path, k=1)[0].id == item.id
        if round_number == 3:
            # Half way, change files as well: killed while replacing must not lose or double a row.
            for number in range(0, 40, 2):
                make_photo(1000 + number).save(photos / f"{number:03d}.jpg")
    with Gallery(folder, encoder) as gallery:
        gallery.update(read_catalog(photos))
        assert len(gallery) == 160
        assert gallery.update(read_catalog(photos)).unchanged == 160
        for item in gallery.contents()[0]:
            best = gallery.search(item.path, k=1)[0]
            assert (best.id, round(best.score, 2)) == (item.id, 1.0)
