from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfcd.errors import BusyError, UsageError
from cfcd.gallery import Gallery
from cfcd.lock import only_writer
from cfcd.serving import service as service_room
from cfcd.serving.queries import NewItem
from cfcd.serving.uploads import Uploads, check_row, default_uploads
from tests.serving.service_support import gallery_of_rows, photo_bytes, rows, serving, small_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gallery_of_rows(tmp_path / "gallery", rows(5), "item")
    return tmp_path / "gallery"


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_uploads_lie_beside_the_gallery() -> None:
    assert default_uploads("some/where/") == Path("some/where-uploads").absolute()
    assert default_uploads("milvus://user:secret@host:1/db/things") == Path("things-uploads").absolute()


def test_names_are_made_by_the_server_with_the_true_ending(folder: Path, tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "up")
    with Gallery(folder, small_encoder()) as gallery:
        item_id = uploads.add(gallery, photo_bytes(1), rows(1, 7)[0], NewItem(), replace=False)
        item = gallery.find(item_id)
        assert item.path == tmp_path / "up" / item_id
        assert item.path.suffix == ".jpg"
        named = uploads.add(gallery, photo_bytes(1), rows(1, 8)[0], NewItem("a/<b>.exe"), replace=False)
        assert gallery.find(named).path.parent == item.path.parent
        assert "exe" not in str(gallery.find(named).path)
        np.testing.assert_allclose(gallery.descriptor(named), rows(1, 8)[0], atol=1e-3)
    assert len(_files(tmp_path / "up")) == 2


def test_a_picture_that_cannot_be_added_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "up")
    with Gallery(folder, small_encoder()) as gallery:
        with only_writer(folder), pytest.raises(BusyError):
            uploads.add(gallery, photo_bytes(1), rows(1, 7)[0], NewItem(), replace=False)
        with pytest.raises(UsageError):
            uploads.add(gallery, photo_bytes(1), np.zeros(1280, np.float32), NewItem(), replace=False)
    assert _files(tmp_path / "up") == []


def test_the_service_waits_some_seconds_for_another_writer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_room, "_WAIT_SECONDS", 0.3)
    with serving(folder) as service, only_writer(folder):
        with pytest.raises(BusyError):
            service.remove("item1")
        with pytest.raises(BusyError):
            service.add(photo_bytes(1), NewItem(), replace=False)
        assert service.item("item1")[0].id == "item1"


def test_the_service_writes_once_the_other_writer_is_done(folder: Path) -> None:
    with serving(folder) as service, ThreadPoolExecutor(2) as threads:
        with only_writer(folder):
            removing = threads.submit(service.remove, "item1")
            adding = threads.submit(service.add, photo_bytes(1), NewItem("mine"), replace=False)
            time.sleep(0.3)
            assert not removing.done()
            assert not adding.done()
        removing.result(60)
        assert adding.result(60)[0].id == "mine"
        assert {item.id for item in service.items(None, None, 0, 9).items} == {
            "item0",
            "item2",
            "item3",
            "item4",
            "mine",
        }


@pytest.mark.parametrize(
    "row",
    [
        NewItem(""),
        NewItem(" "),
        NewItem("a\nb"),
        NewItem("x" * 501),
        NewItem("../a"),
        NewItem("/a"),
        NewItem("a//b"),
        NewItem("a", label="\x1b[31m"),
        NewItem("a", split=""),
        NewItem("a", extra={"": 1}),
        NewItem("a", extra={"Label": 1}),
        NewItem("a", extra={"path": "/etc/passwd"}),
        NewItem("a", extra={"x": [1]}),
        NewItem("a", extra={"x": float("nan")}),
        NewItem("a", extra={"x": "y" * 70_000}),
        NewItem("a", extra=dict.fromkeys(map(str, range(65)), 1)),
    ],
)
def test_rows_of_no_use_are_refused(row: NewItem) -> None:
    with pytest.raises(UsageError):
        check_row(row)


def test_rows_of_use_are_not() -> None:
    extra: dict[str, Any] = {"city": "Nîmes", "year": 1990, "open": True, "none": None, "x": 0.5}
    check_row(NewItem("a/b c.jpg", "été", "train", extra))
    check_row(NewItem())
