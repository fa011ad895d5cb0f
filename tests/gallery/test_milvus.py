"""A gallery on a real Milvus server against a gallery folder: the same calls give the same."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.encoding import Encoder, encode_catalog, load_model, read_encoded
from cfcd.encoding.shards import FileStamp
from cfcd.errors import BusyError, GalleryError, IdentityMismatch, UsageError
from cfcd.gallery import Gallery, UpdateSummary, milvus_client, milvus_notes, milvus_store
from cfcd.gallery.choice import Choice
from cfcd.gallery.milvus import MilvusGallery
from cfcd.gallery.milvus_address import MilvusAddress
from cfcd.gallery.milvus_client import MilvusClient
from cfcd.gallery.milvus_notes import only_milvus_writer
from cfcd.gallery.milvus_store import MilvusStore, notes_of
from cfcd.gallery.opening import open_gallery, open_or_create
from cfcd.gallery.store import Store
from cfcd.gallery.where import parse_where
from cfcd.gallery.where_sql import database_of, matching_rows
from tests.gallery.milvus_server import milvus_server
from tests.support import make_photo

# A server that runs already, to save the time of starting one: milvus://host:port
RUNNING = "CFCD_TEST_MILVUS"
Cli = Callable[..., subprocess.CompletedProcess[str]]
needs_client = pytest.mark.skipif(find_spec("pymilvus") is None, reason="pymilvus is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if find_spec("pymilvus") is None:
        pytest.skip("pymilvus is not installed")
    if RUNNING in os.environ:
        yield os.environ[RUNNING]
        return
    if find_spec("milvus") is None:
        pytest.skip("the package milvus, which brings a server, is not installed")
    running = milvus_server(tmp_path_factory.mktemp("milvus"))
    try:
        port = running.__enter__()
    except RuntimeError as error:
        pytest.skip(f"no Milvus server can be started here: {error}")
    try:
        yield f"milvus://127.0.0.1:{port}"
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def place(server: str) -> Iterator[str]:
    """A gallery's address; what is there is dropped before and after."""
    address = MilvusAddress.parse(f"{server}/photos_{os.getpid()}")
    client = MilvusClient(address)
    for end in (False, True):
        for name in (address.collection, f"{address.collection}_cfcd"):
            if client.description(name) is not None:
                client.drop(name)
        if not end:
            yield str(address)
    client.close()


@pytest.fixture
def both(place: str, tmp_path: Path, encoder: Encoder) -> Iterator[tuple[Gallery, Gallery]]:
    """An empty gallery in a folder and one on the server."""
    with (
        open_or_create(tmp_path / "gallery", precision="fp32") as folder,
        MilvusGallery.create(place, encoder) as remote,
    ):
        folder.use(encoder)
        yield folder, remote


def counts(summary: UpdateSummary) -> dict[str, object]:
    skipped = {key: (row.path, row.reason) for key, row in summary.skipped.items()}
    return {**summary.counts(), "skipped": skipped}


def alike(folder: Gallery, remote: Gallery) -> None:
    """Both hold the same items with the same descriptors, and find the same."""
    (items, our_rows), (remote_items, their_rows) = folder.contents(), remote.contents()
    assert len(folder) == len(remote_items)
    assert sorted(items, key=lambda item: item.id) == sorted(remote_items, key=lambda item: item.id)
    order = np.argsort(items.ids), np.argsort(remote_items.ids)
    assert np.array_equal(our_rows[order[0]], their_rows[order[1]])
    query = folder.encoder.encode(make_photo(0, (90, 70)))[0]
    hits, remote_hits = folder.search_vector(query, 100), remote.search_vector(query, 100)
    assert {hit.id: hit.item for hit in hits} == {hit.id: hit.item for hit in remote_hits}
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in remote_hits], abs=1e-6)
    assert [hit.rank for hit in remote_hits] == list(range(1, len(hits) + 1))
    ours, theirs = folder.info(), remote.info()
    for name in ("items", "labels", "sources", "skipped", "identity", "model", "dim", "long_side", "scales"):
        assert ours[name] == theirs[name], name


def update_both(both: tuple[Gallery, Gallery], catalog: Catalog, **options: bool) -> dict[str, object]:
    one, other = (counts(gallery.update(catalog, **options)) for gallery in both)
    assert one == other
    alike(*both)
    return one


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


CONDITIONS = """
x = 5 | x != 5 | x in (5, 7.5, 'a') | x not in (5, 7) | x = '5' | x != '5' | x = '05' | x >= 5 | x < 7.5
x > '6' | x = true | x != true | x = false | x not in (true, 'a', 3) | x in (0, true) | x is null
x is not null | x != 'a"\\' | x < 'b' | x >= 'é' | not (x = 5 or y = 1) | x = 5 and y = 1
y != 1 and (x is null or x > 3) | x like 'a%' | X = 5 | label = 'l"1' | label != 'l"1' | label is null
is_query = true | is_query != 'yes' | x_1 > 1.5 | x_1 is null | id in ('3', '4') | x = 9007199254740993
x = 1e300 | x <= -1 | "sp ace.é" = 1 | "q""uote" = 1 | x not in ('a', 'b')
"""


def test_the_server_reads_conditions_as_sqlite_does(place: str) -> None:
    values: list[object] = [
        5,
        5.0,
        7.5,
        "5",
        "05",
        " 5 ",
        "a",
        "",
        None,
        True,
        False,
        0,
        1,
        "true",
        "No",
        -1,
        -2.5,
    ]
    values += [
        'a"\\',
        "é",
        "zz",
        [5],
        {"a": 5},
        9007199254740993,
        1e300,
        "1e300",
        float("inf"),
        "7.5",
        "a\nb",
    ]
    meta = {"dim": "4", "identity": "", "model": "", "long_side": "null", "scales": "[1.0]"}
    address = MilvusAddress.parse(place)
    MilvusStore.create(address, meta)
    store = MilvusStore(address)
    with store.changing():
        for number, value in enumerate(values):
            extra = {"x": value, "y": number % 3, "sp ace.é": number % 2, 'q"uote': number % 2}
            if value is None:
                del extra["x"]
            item = Item(
                str(number),
                Path(f"/p/{number}"),
                label=[None, 'l"1', "l2"][number % 3],
                is_query=[None, True, False][number % 3],
                box=(number / 4, 0, 9, 9) if number % 2 else None,
                extra=extra,
            )
            store.insert("s", str(number), item, FileStamp(1, 1, b""), np.eye(4)[number % 4])
    rows, there = database_of(cast(Store, store)), 0
    conditions = [text.strip() for text in CONDITIONS.strip().replace("\n", "|").split("|")]
    for text in conditions:
        condition = parse_where(text)
        chosen = store.look_up(condition, None, None)
        there += chosen is not None
        if chosen is not None:
            assert chosen.numbers.tolist() == matching_rows(rows, condition).tolist(), text
    assert there == len(conditions) - 3  # like, X in another case, and the quote are left to SQLite
    chosen = store.look_up(None, ["3", "none"], ["l2", "l3", ""])
    assert chosen is not None
    assert chosen.numbers.tolist() == []
    assert chosen.unknown == ("none", "l3", "")
    store.close()


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


def test_one_writer_at_a_time_and_killed_ones_are_forgotten(
    place: str, photos: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_notes, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(milvus_notes, "PATIENCE_SECONDS", 6.0)
    with MilvusGallery.create(place, encoder) as gallery:
        notes = notes_of(gallery._milvus.client, gallery.address)
        with only_milvus_writer(notes, place) as check:
            with pytest.raises(BusyError, match="Another process"):
                gallery.update(read_catalog(photos))
            check()
            notes.delete(list(notes.all("writer:")))
            with pytest.raises(BusyError):
                for _ in range(200):
                    check()
                    milvus_notes.time.sleep(0.05)
        notes.put({"writer:killed": "7"})
        assert gallery.update(read_catalog(photos)).added == 12
        assert notes.all("writer:") == {}


def test_an_interrupted_change_is_repaired(
    both: tuple[Gallery, Gallery], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_both(both, read_catalog(photos))
    (photos / "arch" / "0.jpg").rename(photos / "arch" / "9.jpg")
    (photos / "bridge" / "0.jpg").unlink()
    make_photo(70).save(photos / "church" / "0.jpg")

    def refuse(*_arguments: object) -> None:
        raise GalleryError("The server is gone.", "Start it.")

    with monkeypatch.context() as patch:
        patch.setattr(MilvusStore, "_write_skipped", refuse)
        patch.setattr(milvus_client.MilvusClient, "upsert", refuse)
        with pytest.raises(GalleryError, match="gone"):
            both[1].update(read_catalog(photos))
    monkeypatch.setattr(milvus_notes, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(milvus_notes, "PATIENCE_SECONDS", 4.0)
    both[0].update(read_catalog(photos))
    both[1].update(read_catalog(photos))
    alike(*both)
    # Killed between two requests of a rename in a circle: an item stands under two numbers.
    store = MilvusStore(both[1].address)  # type: ignore[attr-defined]
    twin = store.find("arch/9.jpg")
    assert twin is not None
    with store.changing():
        store.insert(twin.source, twin.key, twin.item, twin.stamp, store.descriptor(twin.number))
    assert len(store) == 12
    assert sum(1 for _ in store.items(twin.source)) == 11
    store.close()
    make_photo(71).save(photos / "arch" / "0.jpg")
    update_both(both, read_catalog(photos))


def test_places_that_are_no_galleries(place: str, encoder: Encoder) -> None:
    with pytest.raises(GalleryError, match="There is no gallery"):
        open_gallery(place)
    address = MilvusAddress.parse(place)
    client = MilvusClient(address)
    client.create(address.collection, "somebody else's", [("key", "INT64", 0), ("vector", "FLOAT_VECTOR", 2)])
    with pytest.raises(GalleryError, match="no gallery of cfcd"):
        open_or_create(place)
    with pytest.raises(GalleryError, match="exists already"):
        MilvusGallery.create(place, encoder)
    client.close()


def test_more_hits_than_milvus_gives(
    both: tuple[Gallery, Gallery], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_both(both, read_catalog(photos))
    assert len(both[1].search(make_photo(0), k=20_000)) == 12
    monkeypatch.setattr("cfcd.gallery.milvus.MOST_HITS", 10)
    with pytest.raises(UsageError, match="10 hits at most"):
        both[1].search(make_photo(0), k=20)


def test_the_command_line(place: str, photos: Path, cli: Cli) -> None:
    result = cli("index", photos, "--store", place.replace("//", "//me:hidden@"))
    assert f"12 items in {place}" in result.stdout
    assert "hidden" not in result.stdout + result.stderr
    found = json.loads(cli("search", place, photos / "bridge" / "2.jpg", "--k", "4", "--json").stdout)
    assert [hit["label"] for hit in found["hits"]] == ["bridge"] * 4
    info = json.loads(cli("info", place, "--json").stdout)
    assert (info["kind"], info["items"], info["store"]) == ("gallery", 12, place)
    assert f"removed 1, 11 left in {place}" in cli("remove", place, "arch/0.jpg").stdout
    assert "--out and --store" in cli("index", photos, code=2).stderr
    assert "address" in cli("index", photos, "--store", "photos", code=2).stderr


@needs_client
def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(GalleryError) as caught:
        open_gallery("milvus://me:hidden@127.0.0.1:9/photos")
    assert "milvus://127.0.0.1:9/photos" in str(caught.value)
    assert "hidden" not in str(caught.value)


@needs_client
def test_folders_stay_folders(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no gallery"):
        open_gallery(tmp_path / "milvus:")


def test_the_store_has_the_methods_that_updates_and_searches_call() -> None:
    called = (
        "meta generation token reading changing items find find_key by_number has_id sources label_count "
        "descriptors_above descriptor descriptors descriptors_of insert lift put_back remove skipped "
        "replace_skipped close __len__"
    )
    for name in called.split():
        ours, theirs = getattr(Store, name), getattr(MilvusStore, name)
        if callable(ours):
            wanted = list(inspect.signature(ours).parameters)
            given = [one.removeprefix("_") for one in inspect.signature(theirs).parameters]
            assert given == wanted[: len(given)], name
            assert all(
                inspect.signature(ours).parameters[one].default is not inspect.Parameter.empty
                for one in wanted[len(given) :]
            )


def test_a_gallery_can_be_left_behind(place: str, photos: Path, encoder: Encoder) -> None:
    """What one process has been told is done, another finds at once."""
    with MilvusGallery.create(place, encoder) as gallery, open_gallery(place, precision="fp32") as reader:
        shutil.rmtree(photos / "church")
        gallery.update(read_catalog(photos))
        assert len(reader) == 8
        assert reader.search(photos / "arch" / "0.jpg", k=1)[0].id == "arch/0.jpg"
        gallery.remove(["arch/0.jpg"])
        assert reader.search(photos / "arch" / "1.jpg", k=100)[0].id == "arch/1.jpg"
        assert len(reader.search(photos / "arch" / "1.jpg", k=100)) == 7
