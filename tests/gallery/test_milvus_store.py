"""What can happen to a gallery on a Milvus server: other writers, killed ones, no server at all."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder
from cfcd.errors import BusyError, GalleryError
from cfcd.gallery import Gallery
from cfcd.gallery.milvus import client as milvus_client
from cfcd.gallery.milvus import notes as milvus_notes
from cfcd.gallery.milvus.address import MilvusAddress
from cfcd.gallery.milvus.client import MilvusClient
from cfcd.gallery.milvus.gallery import MilvusGallery
from cfcd.gallery.milvus.notes import only_milvus_writer
from cfcd.gallery.milvus.store import MilvusStore, notes_of
from cfcd.gallery.opening import open_gallery, open_or_create
from cfcd.gallery.truth.store import Store
from tests.gallery.milvus_support import alike, needs_client, update_both
from tests.support import make_photo


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
