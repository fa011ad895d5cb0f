from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.encoding import Encoder, Reading, load_model
from cfcd.errors import GalleryError
from cfcd.gallery import Gallery, UpdateSummary
from cfcd.gallery.indexes import search_index as index
from cfcd.gallery.truth.store import Store
from tests.support import make_photo


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
    (tmp_path / "moved" / "arch" / "0.jpg").unlink()
    seen: list[int] = []
    summary = gallery.update(
        read_catalog(tmp_path / "moved"), progress=lambda done, _total: seen.append(done)
    )
    assert counts(summary) == {"renamed": 11, "removed": 1}
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


def test_values_are_compared_as_they_are_stored(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    steps = [
        ((1, 2), {"added": 1}),
        ([1, 2], {"unchanged": 1}),  # a tuple is stored as a list
        (1, {"relabelled": 1}),
        (True, {"relabelled": 1}),  # though Python calls them equal
        (Path("a"), {"relabelled": 1}),
        ("a", {"unchanged": 1}),
        ({"b": 1, "a": 2}, {"relabelled": 1}),
        ({"a": 2, "b": 1}, {"unchanged": 1}),
        (float("nan"), {"relabelled": 1}),
        (float("nan"), {"unchanged": 1}),
    ]
    with Gallery.create(tmp_path / "g", encoder) as gallery:
        for value, expected in steps:
            item = Item("a", photos / "arch" / "0.jpg", extra={"value": value})
            catalog = Catalog.from_items([item], source=photos, root=photos, kind="table")
            assert counts(gallery.update(catalog)) == expected, value


def test_a_path_with_dots_is_resolved_by_its_letters(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "link").symlink_to(photos / "church")
    items = [Item("a", Path("link/../photos/arch/0.jpg")), Item("b", Path("photos/arch/1.jpg"))]
    catalog = Catalog.from_items(items, source=tmp_path, root=tmp_path, kind="table")
    with Gallery.create(tmp_path / "g", encoder) as gallery:
        assert counts(gallery.update(catalog)) == {"added": 2}
        assert counts(gallery.update(catalog)) == {"unchanged": 2}
        assert gallery.find("a").path == photos / "arch" / "0.jpg"


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


def test_an_id_taken_by_another_collection_gets_its_name_before_it(
    gallery: Gallery, photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    other = tmp_path / "other"
    (other / "arch").mkdir(parents=True)
    make_photo(61).save(other / "arch" / "0.jpg")
    shutil.copy(photos / "arch" / "1.jpg", other / "arch" / "1.jpg")
    assert counts(gallery.update(read_catalog(other))) == {"added": 2}
    assert gallery.find("other/arch/0.jpg").path == other / "arch" / "0.jpg"
    assert counts(gallery.update(read_catalog(other))) == {"unchanged": 2}
    assert counts(gallery.update(read_catalog(photos))) == {"unchanged": 12}
    make_photo(62).save(other / "arch" / "0.jpg")
    assert counts(gallery.update(read_catalog(other))) == {"changed": 1, "unchanged": 1}
    consistent(gallery, encoder)
    (other / "arch" / "1.jpg").unlink()
    assert counts(gallery.update(read_catalog(other))) == {"removed": 1, "unchanged": 1}
    assert gallery.find("arch/1.jpg").path == photos / "arch" / "1.jpg"


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
        assert "missing" in summary.skipped["arch/0.jpg"].reason
        (photos / "bridge" / "0.jpg").unlink()
        with pytest.raises(GalleryError, match="Every one of the 2 pictures"):
            gallery.update(read_catalog(table))
        assert counts(gallery.update(read_catalog(table), remove_missing=False)) == {}
        assert len(gallery) == 1


def test_a_file_that_cannot_be_reached_is_not_missing(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, stat = read_catalog(photos), os.stat

    def refuse(path: str | Path, **options: bool) -> os.stat_result:
        if "arch" in Path(path).parts and Path(path).suffix == ".jpg":
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    summary = gallery.update(catalog)
    assert counts(summary) == {"unchanged": 8}
    assert "cannot be reached" in summary.skipped["arch/0.jpg"].reason
    assert len(gallery) == 12
    monkeypatch.undo()
    assert counts(gallery.update(catalog)) == {"unchanged": 12}


def test_a_skip_is_tried_again_when_its_box_is_mended(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    table = photos / "table.csv"
    table.write_text("path,x_1,y_1,x_2,y_2\narch/0.jpg,500,500,600,600\n")
    with Gallery.create(tmp_path / "g", encoder) as gallery:
        assert set(gallery.update(read_catalog(table)).skipped) == {"arch/0.jpg"}
        table.write_text("path,x_1,y_1,x_2,y_2\narch/0.jpg,0,0,60,60\n")
        assert counts(gallery.update(read_catalog(table))) == {"added": 1}


def test_an_interrupt_right_after_a_commit_doubles_nothing(
    gallery: Gallery, photos: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photo(90).save(photos / "arch" / "new.jpg")
    changing = Store.changing

    @contextmanager
    def interrupted(store: Store) -> Iterator[int]:
        with changing(store) as generation:
            yield generation
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "changing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gallery.update(read_catalog(photos))
    assert len(gallery) == 13
    consistent(gallery, encoder)


def test_many_renames_of_equal_size_take_no_time_to_match(tmp_path: Path, encoder: Encoder) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        make_photo(number, (32, 32)).save(folder / f"{number}.bmp")
    with Gallery.create(tmp_path / "g", encoder) as gallery:
        gallery.update(read_catalog(folder))
        for number in range(40):
            (folder / f"{number}.bmp").rename(folder / f"moved {number}.bmp")
        assert counts(gallery.update(read_catalog(folder))) == {"renamed": 40}
        consistent(gallery, encoder)


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


def test_a_store_is_whole_in_its_one_file(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copy(gallery.folder / "gallery.sqlite", tmp_path / "alone")
    with Gallery(tmp_path / "alone") as alone:
        assert len(alone) == 12


def test_a_restored_backup_trusts_no_index_of_the_future(
    gallery: Gallery, photos: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_LAG_ROWS", 0)
    truth = ("gallery.sqlite", "gallery.log")
    backup = {name: (gallery.folder / name).read_bytes() for name in truth}
    for number in range(3):
        make_photo(100 + number).save(photos / "arch" / f"later {number}.jpg")
        gallery.update(read_catalog(photos))
    assert (gallery.folder / "index.json").exists()
    gallery.close()
    for name, content in backup.items():
        (gallery.folder / name).write_bytes(content)
    for number in range(3):
        (photos / "arch" / f"later {number}.jpg").unlink()
    make_photo(200).save(photos / "arch" / "other.jpg")
    with Gallery(gallery.folder, encoder) as restored:
        assert len(restored.search(make_photo(0), k=100)) == 12
        assert counts(restored.update(read_catalog(photos))) == {"added": 1, "unchanged": 12}
        consistent(restored, encoder)


def test_searching_from_many_threads_while_another_writes(gallery: Gallery, photos: Path) -> None:
    with ThreadPoolExecutor(4) as pool, Gallery(gallery.folder, gallery.encoder) as reader:
        searches = [pool.submit(reader.search_id, "bridge/0.jpg", 100) for _ in range(40)]
        for number in range(4):
            make_photo(300 + number).save(photos / "arch" / f"t{number}.jpg")
            gallery.update(read_catalog(photos))
            searches += [pool.submit(reader.search_id, "bridge/0.jpg", 100) for _ in range(40)]
        sizes = {len(search.result()) for search in searches}
    assert sizes <= {11, 12, 13, 14, 15}
    assert 15 in {*sizes, len(reader_hits(gallery))}


def reader_hits(gallery: Gallery) -> list[object]:
    return list(gallery.search_id("bridge/0.jpg", 100))


def test_a_gallery_copied_elsewhere(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    """A gallery copied as files opens and searches: nothing in it depends on where it lies."""
    shutil.copytree(gallery.folder, tmp_path / "copy")
    with Gallery(tmp_path / "copy") as copy:
        assert copy.search_id("arch/0.jpg", 1)[0].id.startswith("arch")
