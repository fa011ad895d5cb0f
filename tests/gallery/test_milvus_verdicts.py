"""Thresholds and duplicates of a gallery on a real Milvus server against those of a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cfcd.catalog import Catalog, read_catalog
from cfcd.errors import GalleryError
from cfcd.gallery import Gallery
from cfcd.gallery.calibration.measuring import calibrate
from cfcd.gallery.duplicates.groups import find_duplicates
from cfcd.gallery.milvus import calibration as milvus_calibration
from cfcd.gallery.milvus.address import MilvusAddress
from cfcd.gallery.milvus.client import MilvusClient
from cfcd.gallery.milvus.gallery import MilvusGallery
from cfcd.gallery.milvus.store import MilvusStore
from tests.gallery.milvus_support import Cli, update_both
from tests.gallery.search_support import META, make_catalog, make_gallery, objects
from tests.support import make_photo

ROWS, LABELS = objects(30, 4, 0.5)


@pytest.fixture
def pair(place: str, tmp_path: Path) -> Iterator[tuple[Gallery, MilvusGallery]]:
    """The same made-up descriptors in a folder and on the server."""
    MilvusStore.create(MilvusAddress.parse(place), META)
    with make_gallery(tmp_path / "made-up", ROWS, LABELS) as folder, MilvusGallery(place) as remote:
        remote.add(make_catalog(LABELS), ROWS)
        yield folder, remote


def test_thresholds_and_verdicts(
    pair: tuple[Gallery, MilvusGallery], place: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, remote = pair
    monkeypatch.setattr(milvus_calibration, "FRESH_SECONDS", float("inf"))
    assert remote.calibration is None
    assert remote.info()["calibration"] is None
    ours, theirs = (calibrate(gallery, precision=0.8).calibration for gallery in pair)
    assert theirs.match.score == pytest.approx(ours.match.score, abs=1e-6)
    assert theirs.maybe.score == pytest.approx(ours.maybe.score, abs=1e-6)
    assert theirs.match.above == ours.match.above
    assert {**theirs.made, "data": ""} == {**ours.made, "data": ""}
    for query in range(0, len(ROWS), 10):
        hits, found = (gallery.search_id(f"item{query}", 12) for gallery in pair)
        assert [(hit.id, hit.verdict) for hit in hits] == [(hit.id, hit.verdict) for hit in found]
    assert {hit.verdict for hit in remote.search_id("item0", 100)} == {"match", "maybe", "none"}
    info = remote.info()["calibration"]
    assert info == pytest.approx(folder.info()["calibration"], abs=1e-6)
    assert (info["precision"], info["items"], info["outgrown"]) == (0.8, 120, False)

    out = cli("calibrate", place.replace("//", "//me:hidden@"), "--leave-one-out", "--precision", "0.85")
    assert f"kept in {place}" in out.stdout
    assert "hidden" not in out.stdout + out.stderr
    assert remote.calibration.match.wanted == 0.8  # not asked again yet
    monkeypatch.setattr(milvus_calibration, "FRESH_SECONDS", 0.0)
    assert remote.calibration.match.wanted == 0.85
    assert "(precision 0.85), maybe from" in cli("info", place).stdout
    assert json.loads(cli("info", place, "--json").stdout)["calibration"]["precision"] == 0.85


def test_thresholds_are_not_those_of_a_dropped_collection(
    pair: tuple[Gallery, MilvusGallery], place: str
) -> None:
    calibrate(pair[1], precision=0.8)
    address = MilvusAddress.parse(place)
    client = MilvusClient(address)
    client.drop(address.collection)
    client.close()
    MilvusStore.create(address, META)
    with MilvusGallery(place) as again:
        assert again._milvus.notes.get(milvus_calibration.NOTE) is not None
        assert again.calibration is None
    another = replace(pair[1]._calibrations.read(pair[1]._store, META["identity"]), identity="another model")
    pair[1]._calibrations.write(another)
    assert pair[1].calibration is None
    pair[1]._milvus.notes.put({milvus_calibration.NOTE: "{}"})
    pair[1]._calibrations._asked = None  # type: ignore[attr-defined]
    assert pair[1].calibration is None


def test_duplicates(
    both: tuple[Gallery, Gallery], photos: Path, place: str, cli: Cli, tmp_path: Path
) -> None:
    (photos / "church" / "copy.jpg").write_bytes((photos / "arch" / "0.jpg").read_bytes())
    make_photo(0).save(photos / "bridge" / "again.png")
    (photos / "arch" / "0.png").write_bytes((photos / "bridge" / "again.png").read_bytes())
    update_both(both, read_catalog(photos))
    for options in ({}, {"all_pairs_up_to": 1}, {"where": "label != 'church'"}, {"pixels": False}):
        ours, theirs = (find_duplicates(gallery, **options) for gallery in both)  # type: ignore[arg-type]
        assert ours.groups, options
        assert [[one.to_json() for one in group] for group in theirs.groups] == [
            [one.to_json() for one in group] for group in ours.groups
        ]
        assert (theirs.items, theirs.all_pairs) == (ours.items, ours.all_pairs)
    outs = [tmp_path / "ours", tmp_path / "theirs"]
    for gallery, out in zip((both[0].folder, place), outs, strict=True):
        assert "could go" in cli("duplicates", gallery, "--out", out).stdout
    tables = [(out / "duplicates.csv").read_text() for out in outs]
    assert tables[0] == tables[1]
    assert f"Duplicates in {place}" in (outs[1] / "duplicates.html").read_text()


def test_rows_that_go_while_they_are_read(pair: tuple[Gallery, MilvusGallery]) -> None:
    store = pair[1]._milvus
    kept = list(store.items())
    pair[1].remove(["item5"])
    store.items = lambda: iter(kept)  # type: ignore[method-assign, misc]
    with pytest.raises(GalleryError, match="row 6 any more"):
        find_duplicates(pair[1], pixels=False)
    with pytest.raises(GalleryError, match="row 6 any more"):
        store.descriptors([3, 6])
    # What another machine has added meanwhile is left for the next time.
    store.items = lambda: iter(kept[6:])  # type: ignore[method-assign, misc]
    for most in (1, 1000):
        assert find_duplicates(pair[1], pixels=False, threshold=0.5, all_pairs_up_to=most).items == 114


def test_descriptors_of_many_rows(pair: tuple[Gallery, MilvusGallery]) -> None:
    wanted = [9, 3, 3, 120, 1]
    ours, theirs = (gallery._store.descriptors(wanted) for gallery in pair)
    assert (ours == theirs).all()
    blocks = [pair[1]._store.descriptors_above(0, 16, 50), pair[0]._store.descriptors_above(0, 16, 50)]
    for (numbers, rows), (other_numbers, other_rows) in zip(*blocks, strict=True):
        assert numbers.tolist() == other_numbers.tolist()
        assert np.array_equal(rows, other_rows)
    assert [part.tolist() for part in pair[1]._store.descriptors_of(ROWS[:0, 0].astype(int))] == [[], []]


def test_calibrating_with_labelled_pictures(both: tuple[Gallery, Gallery], photos: Path) -> None:
    update_both(both, read_catalog(photos))
    asked: Catalog = read_catalog(photos)
    for wanted in (0.3, 0.5):
        found = [calibrate(gallery, asked, precision=wanted, maybe=0.2) for gallery in both]
        assert found[0].calibration.made["copies"] == found[1].calibration.made["copies"] == 12
        assert found[0].calibration.match.score == pytest.approx(found[1].calibration.match.score, abs=1e-5)
