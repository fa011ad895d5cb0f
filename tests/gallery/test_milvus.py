"""A gallery on a real Milvus server against a gallery folder: the same calls give the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cfcd.catalog import Catalog, read_catalog
from cfcd.encoding import Encoder, encode_catalog, load_model, read_encoded
from cfcd.errors import GalleryError, IdentityMismatch, UsageError
from cfcd.gallery import Gallery
from cfcd.gallery.indexes.choice import Choice
from cfcd.gallery.milvus import store as milvus_store
from cfcd.gallery.opening import open_gallery
from tests.gallery.milvus_support import Cli, alike, counts, update_both
from tests.support import make_photo


def test_the_life_of_a_gallery(both: tuple[Gallery, Gallery], photos: Path) -> None:
    (photos / "arch" / "broken.jpg").write_bytes(b"no picture")
    done = update_both(both, read_catalog(photos))
    assert done["added"] == 12
    assert list(done["skipped"]) == ["arch/broken.jpg"]  # type: ignore[call-overload]
    assert update_both(both, read_catalog(photos))["unchanged"] == 12

    make_photo(50).save(photos / "arch" / "new.jpg")
    make_photo(51).save(photos / "bridge" / "0.jpg")
    (photos / "church" / "3.jpg").unlink()
    (photos / "arch" / "broken.jpg").unlink()
    # Renamed in a circle, and one to a new name.
    one, two, aside = photos / "arch" / "0.jpg", photos / "church" / "0.jpg", photos / "aside.jpg"
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    (photos / "bridge" / "1.jpg").rename(photos / "church" / "moved.jpg")
    done = update_both(both, read_catalog(photos))
    assert (done["added"], done["removed"], done["skipped"]) == (1, 1, {})
    assert both[1].search(photos / "bridge" / "0.jpg", k=1)[0].id == "bridge/0.jpg"
    assert both[1].find("church/moved.jpg").label == "church"

    assert both[1].remove(["arch/1.jpg", "nothing"]) == both[0].remove(["arch/1.jpg", "nothing"])
    alike(*both)
    with pytest.raises(GalleryError, match="holds no item"):
        both[1].search_id("arch/1.jpg")


def test_searches_by_id_and_by_condition(both: tuple[Gallery, Gallery], photos: Path) -> None:
    table = photos / "table.csv"
    rows = "".join(
        f"{label}/{number}.jpg,{label},{1900 + number},0,0,60,50\n"
        for label in ("arch", "bridge")
        for number in range(4)
    )
    table.write_text(f"path,label,year,x_1,y_1,x_2,y_2\n{rows}church/0.jpg,,,,,,\n")
    update_both(both, read_catalog(table))
    for options in ({}, {"where": "year >= 1902 and label = 'arch'"}, {"labels": ["bridge"], "expand": 2}):
        ours, theirs = (gallery.search_id("arch/2.jpg", 5, **options) for gallery in both)
        assert [hit.id for hit in ours] == [hit.id for hit in theirs], options
        assert "arch/2.jpg" not in [hit.id for hit in theirs]
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-6)
    table.write_text(table.read_text().replace("1903", "1899").replace("church/0.jpg,", "church/0.jpg,door"))
    done = update_both(both, read_catalog(table))
    assert done["relabelled"] == 3
    assert both[1].search_id("arch/2.jpg", where="year < 1900")[0].id == "arch/3.jpg"


def test_collections_share_a_gallery(
    both: tuple[Gallery, Gallery], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    (other / "arch").mkdir(parents=True)
    for number in range(2):
        make_photo(60 + number).save(other / "arch" / f"{number}.jpg")
    update_both(both, read_catalog(photos))
    for questions in (16, 0):  # ids asked for one by one, or all read at once
        monkeypatch.setattr(milvus_store, "_QUESTIONS", questions)
        assert update_both(both, read_catalog(other))["added"] == 2
        assert both[1].find("other/arch/1.jpg").path == other / "arch" / "1.jpg"
        if questions:
            for gallery in both:
                gallery.remove(["other/arch/0.jpg", "other/arch/1.jpg"])
    (other / "arch" / "1.jpg").unlink()
    update_both(both, read_catalog(other))


def test_descriptors_at_hand_go_in(
    both: tuple[Gallery, Gallery], photos: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = read_catalog(photos)
    vectors = encoder.encode([item.path for item in catalog])
    for questions in (16, 2):
        monkeypatch.setattr(milvus_store, "_QUESTIONS", questions)
        one, other = (gallery.add(catalog, vectors, source="elsewhere").counts() for gallery in both)
        assert one == other
        vectors = vectors[::-1]
    alike(*both)
    assert both[1].compact() == 0
    with pytest.raises(UsageError, match="by its server"):
        both[1].choose_index(Choice())


def test_an_encoded_folder_fills_it_without_its_pictures(
    both: tuple[Gallery, Gallery], photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    encode_catalog(read_catalog(photos), encoder, tmp_path / "encoded")
    photos.rename(tmp_path / "elsewhere")
    encoded = read_encoded(tmp_path / "encoded")
    for expected in ("added", "unchanged"):
        one, other = (counts(gallery.update(encoded)) for gallery in both)
        assert one == other
        assert one[expected] == 12
    alike(*both)
    with pytest.raises(IdentityMismatch, match="milvus://"):
        both[1].use(load_model(long_side=64))


def test_names_that_look_like_code(both: tuple[Gallery, Gallery], photos: Path) -> None:
    names = ['a" or "1" == "1', "b\\", "c' --", "d\n\té日本", "%", "{x}"]
    table = photos / "table.jsonl"
    catalog = read_catalog(photos).select(range(len(names)))
    catalog = Catalog.from_items(
        [
            type(item)(name, item.path, label=name, extra={name: name, "n": number})
            for number, (name, item) in enumerate(zip(names, catalog, strict=True))
        ],
        source=table,
        root=photos,
        kind="table",
    )
    update_both(both, catalog)
    for name in names:
        assert both[1].find(name).label == name
        assert both[1].remove([name]) == []
    assert len(both[1]) == 0
    assert both[1].search(make_photo(0)) == []


def test_more_hits_than_milvus_gives(
    both: tuple[Gallery, Gallery], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_both(both, read_catalog(photos))
    assert len(both[1].search(make_photo(0), k=20_000)) == 12
    monkeypatch.setattr("cfcd.gallery.milvus.gallery.MOST_HITS", 10)
    with pytest.raises(UsageError, match="10 hits at most"):
        both[1].search(make_photo(0), k=20)


def test_the_command_line(place: str, photos: Path, cli: Cli, tmp_path: Path) -> None:
    result = cli("index", photos, "--store", place.replace("//", "//me:hidden@"))
    assert f"12 items in {place}" in result.stdout
    assert "hidden" not in result.stdout + result.stderr
    found = json.loads(cli("search", place, photos / "bridge" / "2.jpg", "--k", "4", "--json").stdout)
    assert [hit["label"] for hit in found["hits"]] == ["bridge"] * 4
    info = json.loads(cli("info", place, "--json").stdout)
    assert (info["kind"], info["items"], info["store"]) == ("gallery", 12, place)
    from_folder = json.loads(cli("evaluate", photos, "--json").stdout)
    assert json.loads(cli("evaluate", place, "--json").stdout)["mAP"] == pytest.approx(
        from_folder["mAP"], abs=1e-4
    )
    assert "There is no gallery" in cli("info", f"{place}_x", code=1).stderr
    assert "There is no gallery" in cli("evaluate", f"{place}_x", code=1).stderr
    out = cli("export-descriptors", place, tmp_path / "gallery.parquet").stdout
    assert "wrote 12 x 1280 float16" in out
    cli("import-descriptors", tmp_path / "gallery.parquet", "--out", tmp_path / "copy")
    with open_gallery(tmp_path / "copy") as copy, open_gallery(place) as remote:
        ours, theirs = (
            dict(zip(items.ids, rows, strict=True)) for items, rows in (copy.contents(), remote.contents())
        )
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[one], theirs[one]) for one in ours)
    assert f"removed 1, 11 left in {place}" in cli("remove", place, "arch/0.jpg").stdout
    assert "--out and --store" in cli("index", photos, code=2).stderr
    assert "address" in cli("index", photos, "--store", "photos", code=2).stderr
