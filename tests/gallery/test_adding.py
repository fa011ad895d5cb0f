from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cfcd.encoding.shards import FileStamp
from cfcd.errors import UsageError
from cfcd.gallery import Gallery, adding
from tests.gallery.safety_support import DIM, catalog, held, make, vectors


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return make(tmp_path / "g")


def test_rows_are_added_and_replaced_by_source_and_id(gallery: Gallery) -> None:
    summary = gallery.add(catalog(["a", "b", "c"]), vectors(3, 1))
    assert (summary.added, summary.changed) == (3, 0)
    summary = gallery.add(catalog(["b", "d"], "new"), vectors(2, 2))
    assert (summary.added, summary.changed) == (1, 1)
    found = held(gallery)
    assert {name: item.label for name, (item, _) in found.items()} == {
        "a": None,
        "b": "new",
        "c": None,
        "d": "new",
    }
    for name, row in (("a", vectors(3, 1)[0]), ("b", vectors(2, 2)[0]), ("d", vectors(2, 2)[1])):
        assert found[name][1] == row.astype(np.float16).tobytes()


def test_an_id_of_another_source_gets_its_name_before_it(gallery: Gallery) -> None:
    gallery.add(catalog(["a", "b"]), vectors(2, 1))
    gallery.add(catalog(["b", "other/b"], source="/other.csv"), vectors(2, 2))
    gallery.add(catalog(["b"], source="/other.csv"), vectors(1, 3))
    assert held(gallery).keys() == {"a", "b", "other/b", "other/other/b"}
    gallery.add(catalog(["a"]), vectors(1, 3), source="named")
    assert gallery.info()["sources"] == {"/photos": 2, "/other.csv": 2, "named": 1}


def test_batches(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "_BATCH_ROWS", 4)
    seen: list[tuple[int, int]] = []
    gallery.add(
        catalog([str(number) for number in range(10)]),
        vectors(10, 1),
        progress=lambda *done: seen.append(done),
    )
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert gallery.info()["generation"] == 3
    rows = vectors(6, 2)
    rows[5] = 0
    with pytest.raises(UsageError, match="Row 5 of the descriptors is zero"):
        gallery.add(catalog([f"new {number}" for number in range(6)]), rows)
    assert len(gallery) == 14


def test_halves_are_kept_bit_for_bit_and_long_rows_are_normalised(gallery: Gallery) -> None:
    halves = vectors(3, 1).astype(np.float16)
    gallery.add(catalog(["a", "b", "c"]), halves)
    gallery.add(catalog(["d"]), halves[:1].astype(np.float32) * 7)
    found = held(gallery)
    assert [found[name][1] for name in "abc"] == [row.tobytes() for row in halves]
    assert np.allclose(np.frombuffer(found["d"][1], np.float16), halves[0], atol=1e-3)


def test_stamps_are_kept(gallery: Gallery) -> None:
    stamp = FileStamp(12, 34, b"digest")
    gallery.add(catalog(["a"]), vectors(1, 1), stamps=[stamp])
    stored = gallery._store.find("a")
    assert stored is not None
    assert stored.stamp == stamp


def test_what_does_not_fit_is_refused(gallery: Gallery) -> None:
    with pytest.raises(UsageError, match=r"shape \(2, 16\) for 1 rows"):
        gallery.add(catalog(["a"]), vectors(2, 1))
    with pytest.raises(UsageError, match=f"needs \\(1, {DIM}\\)"):
        gallery.add(catalog(["a"]), vectors(1, 1)[:, :5])
    with pytest.raises(UsageError, match="'b' twice"):
        gallery.add(catalog(["a", "b", "b"]), vectors(3, 1))
    with pytest.raises(UsageError, match="2 file stamps"):
        gallery.add(catalog(["a"]), vectors(1, 1), stamps=[FileStamp(1, 1, b"")] * 2)
    bad = vectors(1, 1)
    bad[0, 3] = np.inf
    with pytest.raises(UsageError, match="not finite"):
        gallery.add(catalog(["a"]), bad)
    assert len(gallery) == 0


def test_odd_values_come_back_equal_and_whole(gallery: Gallery) -> None:
    one = catalog(["a"])
    odd = replace(
        one,
        ids=["ø\0'\"\n"],
        labels=["\u200b 中"],
        boxes=[(-0.0, 0, 1e300, 3)],
        rows=[2**40],
        extra={"x": [float("nan")]},
    )
    gallery.add(odd, vectors(1, 1))
    gallery.close()
    (gallery.folder / "gallery.sqlite").unlink()
    with Gallery(gallery.folder) as again:
        item = again.find("ø\0'\"\n")
        assert (item.label, item.box, item.row) == ("\u200b 中", (0.0, 0.0, 1e300, 3.0), 2**40)


def test_pictures_of_several_sources_are_counted_and_one_source_removed(gallery: Gallery) -> None:
    gallery.add(catalog(["a", "b", "c"]), vectors(3, 1))
    assert gallery.shared_pictures() == (0, ["/photos"])
    gallery.add(catalog(["a", "b", "c"]), vectors(3, 1), source="/photos/catalog.csv")
    assert gallery.shared_pictures() == (3, ["/photos", "/photos/catalog.csv"])
    assert gallery.remove_source("/photos") == 3
    assert gallery.shared_pictures() == (0, ["/photos/catalog.csv"])
    assert gallery.remove_source("/nothing") == 0
    assert len(gallery) == 3
