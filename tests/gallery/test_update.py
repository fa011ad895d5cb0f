from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder, Reading, load_model
from cfcd.gallery import Gallery, UpdateSummary
from tests.support import make_photo


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model(precision="fp32")


@pytest.fixture
def gallery(tmp_path: Path, photos: Path, encoder: Encoder) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "gallery", encoder) as opened:
        opened.update(read_catalog(photos))
        yield opened


def counts(summary: UpdateSummary) -> dict[str, int]:
    return {name: count for name, count in summary.counts().items() if count}


def consistent(gallery: Gallery, encoder: Encoder) -> None:
    """Every item is found by its own picture: rows, descriptors and index belong together."""
    catalog, _ = gallery.contents()
    for item in catalog:
        best = gallery.search_vector(encoder.encode(item.path, box=item.box)[0], k=1)[0]
        assert best.score > 0.999, item.id
    assert len(gallery.search(make_photo(0), k=1000)) == len(catalog) == len(gallery)


def test_nothing_to_do_changes_nothing(gallery: Gallery, photos: Path) -> None:
    before = gallery.info()["generation"]
    seen: list[int] = []
    summary = gallery.update(read_catalog(photos), progress=lambda done, _total: seen.append(done))
    assert counts(summary) == {"unchanged": 12}
    assert seen == []
    assert gallery.info()["generation"] == before


def test_new_changed_and_deleted(gallery: Gallery, photos: Path, encoder: Encoder) -> None:
    make_photo(50).save(photos / "arch" / "new.jpg")
    make_photo(51).save(photos / "bridge" / "0.jpg")
    (photos / "church" / "3.jpg").unlink()
    summary = gallery.update(read_catalog(photos))
    assert counts(summary) == {"added": 1, "changed": 1, "removed": 1, "unchanged": 10}
    consistent(gallery, encoder)
    hits = gallery.search(photos / "bridge" / "0.jpg", k=1)
    assert hits[0].id == "bridge/0.jpg"


def test_a_touched_file_is_not_encoded_again(gallery: Gallery, photos: Path) -> None:
    os.utime(photos / "arch" / "0.jpg", ns=(1, 1))
    seen: list[int] = []
    summary = gallery.update(read_catalog(photos), progress=lambda done, _total: seen.append(done))
    assert counts(summary) == {"unchanged": 12}
    assert seen == []
    generation = gallery.info()["generation"]
    gallery.update(read_catalog(photos))
    assert gallery.info()["generation"] == generation


def test_same_size_and_time_but_other_bytes_is_unchanged_by_definition(
    gallery: Gallery, photos: Path
) -> None:
    file = photos / "arch" / "0.jpg"
    status = file.stat()
    file.write_bytes(b"\0" * status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert counts(gallery.update(read_catalog(photos))) == {"unchanged": 12}


def test_renamed_files_keep_their_descriptors(gallery: Gallery, photos: Path, encoder: Encoder) -> None:
    (photos / "arch" / "0.jpg").rename(photos / "church" / "moved.jpg")
    seen: list[int] = []
    summary = gallery.update(read_catalog(photos), progress=lambda done, _total: seen.append(done))
    assert counts(summary) == {"renamed": 1, "unchanged": 11}
    assert seen == []
    assert gallery.find("church/moved.jpg").label == "church"
    consistent(gallery, encoder)


def test_two_files_that_swap_names(gallery: Gallery, photos: Path, encoder: Encoder) -> None:
    one, two, aside = photos / "arch" / "0.jpg", photos / "bridge" / "0.jpg", photos / "aside"
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    gallery.update(read_catalog(photos))
    assert len(gallery) == 12
    consistent(gallery, encoder)
    assert gallery.search(two, k=1)[0].id == "bridge/0.jpg"


def test_files_renamed_in_a_circle_of_new_names(gallery: Gallery, photos: Path, encoder: Encoder) -> None:
    for number in (3, 2, 1, 0):
        (photos / "arch" / f"{number}.jpg").rename(photos / "arch" / f"{number + 1}.jpg")
    gallery.update(read_catalog(photos))
    assert len(gallery) == 12
    consistent(gallery, encoder)


def test_a_moved_collection_is_recognised(
    gallery: Gallery, photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    photos.rename(tmp_path / "moved")
    seen: list[int] = []
    summary = gallery.update(
        read_catalog(tmp_path / "moved"), progress=lambda done, _total: seen.append(done)
    )
    assert counts(summary) == {"renamed": 12}
    assert seen == []
    consistent(gallery, encoder)


def test_labels_change_without_encoding(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    table = photos / "table.csv"
    table.write_text("path,label,year\narch/0.jpg,arch,1900\nbridge/0.jpg,bridge,1901\n")
    with Gallery.create(tmp_path / "g", encoder) as gallery:
        assert counts(gallery.update(read_catalog(table))) == {"added": 2}
        table.write_text("path,label,year\narch/0.jpg,gate,1900\nbridge/0.jpg,bridge,1902\n")
        assert counts(gallery.update(read_catalog(table))) == {"relabelled": 2}
        assert gallery.find("arch/0.jpg").label == "gate"
        assert gallery.find("bridge/0.jpg").extra == {"year": "1902"}


def test_a_new_box_is_encoded_again(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    table = photos / "table.csv"
    table.write_text("path,x_1,y_1,x_2,y_2\narch/0.jpg,,,,\n")
    with Gallery.create(tmp_path / "g", encoder) as gallery:
        gallery.update(read_catalog(table))
        table.write_text("path,x_1,y_1,x_2,y_2\narch/0.jpg,0,0,40,40\n")
        assert counts(gallery.update(read_catalog(table))) == {"changed": 1}
        consistent(gallery, encoder)


def test_collections_do_not_touch_each_other(
    gallery: Gallery, photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    other = tmp_path / "other"
    (other / "door").mkdir(parents=True)
    make_photo(60).save(other / "door" / "a.jpg")
    assert counts(gallery.update(read_catalog(other))) == {"added": 1}
    assert len(gallery) == 13
    assert counts(gallery.update(read_catalog(photos))) == {"unchanged": 12}
    assert len(gallery) == 13


def test_an_id_taken_by_another_collection_is_skipped_and_named(gallery: Gallery, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "arch").mkdir(parents=True)
    make_photo(61).save(other / "arch" / "0.jpg")
    make_photo(62).save(other / "arch" / "9.jpg")
    summary = gallery.update(read_catalog(other))
    assert counts(summary) == {"added": 1}
    assert "another picture under this id" in summary.skipped["arch/0.jpg"][3]


def test_keep_missing(gallery: Gallery, photos: Path) -> None:
    (photos / "arch" / "0.jpg").unlink()
    gallery.update(read_catalog(photos), remove_missing=False)
    assert len(gallery) == 12


def test_a_listed_file_that_is_gone_leaves_the_gallery(
    photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    table = photos / "table.csv"
    table.write_text("path\narch/0.jpg\nbridge/0.jpg\n")
    with Gallery.create(tmp_path / "g", encoder) as gallery:
        gallery.update(read_catalog(table))
        (photos / "arch" / "0.jpg").unlink()
        summary = gallery.update(read_catalog(table))
        assert counts(summary) == {"removed": 1, "unchanged": 1}
        assert "missing" in summary.skipped["arch/0.jpg"][3]


def test_bad_files_are_remembered_until_they_change(gallery: Gallery, photos: Path, encoder: Encoder) -> None:
    bad = photos / "arch" / "bad.jpg"
    bad.write_bytes(b"no picture")
    (photos / "arch" / "1.jpg").write_bytes(b"broken now")
    seen: list[int] = []
    summary = gallery.update(read_catalog(photos), progress=lambda done, _total: seen.append(done))
    assert set(summary.skipped) == {"arch/bad.jpg", "arch/1.jpg"}
    assert len(gallery) == 11
    assert seen == [0, 1, 2]
    seen.clear()
    again = gallery.update(read_catalog(photos), progress=lambda done, _total: seen.append(done))
    assert set(again.skipped) == {"arch/bad.jpg", "arch/1.jpg"}
    assert seen == []
    make_photo(70).save(bad)
    assert counts(gallery.update(read_catalog(photos)))["added"] == 1
    assert set(gallery.info()["skipped"]) == {"arch/1.jpg"}
    consistent(gallery, encoder)


def test_allowing_truncated_files_tries_them_again(tmp_path: Path, photos: Path) -> None:
    cut = photos / "arch" / "cut.jpg"
    make_photo(80, (640, 480)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-400])
    strict, lenient = load_model(), load_model(reading=Reading(allow_truncated=True))
    with Gallery.create(tmp_path / "g", strict) as gallery:
        assert set(gallery.update(read_catalog(photos)).skipped) == {"arch/cut.jpg"}
    with Gallery(tmp_path / "g", lenient) as gallery:
        assert counts(gallery.update(read_catalog(photos))) == {"added": 1, "unchanged": 12}


def test_an_interrupted_update_keeps_what_is_done(tmp_path: Path, encoder: Encoder) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(100):
        make_photo(number).save(folder / f"{number}.jpg")

    def interrupt(done: int, _total: int) -> None:
        if done == 60:
            raise KeyboardInterrupt

    with Gallery.create(tmp_path / "g", encoder) as gallery:
        with pytest.raises(KeyboardInterrupt):
            gallery.update(read_catalog(folder), progress=interrupt)
        assert len(gallery) == 60
        assert counts(gallery.update(read_catalog(folder))) == {"added": 40, "unchanged": 60}
        consistent(gallery, encoder)


def test_an_absent_gallery_folder_of_copies(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    """A gallery copied as files opens and searches: nothing in it depends on where it lies."""
    shutil.copytree(gallery.folder, tmp_path / "copy")
    with Gallery(tmp_path / "copy") as copy:
        assert copy.search_id("arch/0.jpg", 1)[0].id.startswith("arch")
