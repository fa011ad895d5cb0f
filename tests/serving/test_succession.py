from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cfcd.errors import GalleryError
from cfcd.serving.errors import NotReady
from cfcd.serving.holding import HeldGallery
from cfcd.serving.queries import Query, Wish
from cfcd.serving.service import Service
from tests.serving.service_support import (
    best,
    gallery_of_rows,
    of_picture,
    photo_bytes,
    python,
    rows,
    serving,
)

_WRITER = """
import sys
import numpy as np
from pathlib import Path
from cfcd.catalog import Catalog, Item
from cfcd.gallery import Gallery
folder, what = Path(sys.argv[1]), sys.argv[2]
with Gallery(folder) as gallery:
    if what == "add":
        items = [Item(id="old late", path=Path("/late.jpg"))]
        gallery.add(
            Catalog.from_items(items, source=Path("/late"), root=Path("/"), kind="made-up"),
            np.load(sys.argv[3])[None],
        )
    elif what == "remove":
        assert gallery.remove([sys.argv[3]]) == []
    else:
        gallery.compact()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gallery_of_rows(tmp_path / "gallery", rows(40), "old")
    return tmp_path / "gallery"


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@contextmanager
def _searching(service: Service, threads: int = 4) -> Iterator[list[BaseException]]:
    """Search, look up and page without a pause during the block; gives what went wrong."""
    failures: list[BaseException] = []
    over = threading.Event()

    def work(seed: int) -> None:
        vectors = rows(40)
        at = seed
        while not over.is_set():
            at += 1
            try:
                found = service.search(Query(vectors=[vectors[at % 40]]), Wish(k=5))
                assert len(found.hits) == 5
                assert len({hit.id[:3] for hit in found.hits}) == 1  # all of one gallery
                assert service.items(None, None, 0, 3).total >= 30
            except BaseException as error:
                failures.append(error)
                return

    running = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for one in running:
        one.start()
    try:
        yield failures
    finally:
        over.set()
        for one in running:
            one.join()


def test_changes_by_another_process_are_seen_at_the_next_search(folder: Path, tmp_path: Path) -> None:
    late = rows(1, seed=9)[0]
    np.save(tmp_path / "late.npy", late)
    with serving(folder) as service:
        before = service.search(Query(vectors=[late]), Wish(k=1))
        assert before.hits[0].id.startswith("old")
        python(_WRITER, folder, "add", tmp_path / "late.npy")
        after = service.search(Query(vectors=[late]), Wish(k=1))
        assert after.hits[0].id == "old late"
        assert after.generation > before.generation
        assert service.item("old late")[1] == after.generation
        python(_WRITER, folder, "remove", "old late")
        assert best(service, late).startswith("old")
        assert service.items(None, None, 0, 1).total == 40
        python(_WRITER, folder, "compact")
        assert best(service, rows(40)[7]) == "old7"
        python(_WRITER, folder, "add", tmp_path / "late.npy")
        assert best(service, late) == "old late"


def test_searches_go_on_while_another_process_adds_removes_and_compacts(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "late.npy", rows(1, seed=9)[0])
    with serving(folder) as service, _searching(service, 2) as failures:
        for what, argument in (("add", "late.npy"), ("compact", ""), ("remove", "old late"), ("compact", "")):
            named = tmp_path / argument if what == "add" else argument
            python(_WRITER, folder, what, named)
    assert failures == []


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_a_gallery_replaced_by_mv_is_followed_without_a_failed_request(
    folder: Path, tmp_path: Path, pause: float
) -> None:
    gallery_of_rows(tmp_path / "next", rows(30, seed=5), "new")
    with serving(folder) as service:
        with _searching(service) as failures:
            time.sleep(0.2)
            folder.rename(tmp_path / "gone")
            time.sleep(pause)
            (tmp_path / "next").rename(folder)
            _until(lambda: best(service, rows(30, seed=5)[3]) == "new3")
            shutil.rmtree(tmp_path / "gone")
            time.sleep(0.2)
        assert failures == []
        assert service.items(None, None, 0, 1).total == 30


def test_a_deleted_gallery_is_served_until_there_is_another(folder: Path, tmp_path: Path) -> None:
    with serving(folder) as service:
        shutil.rmtree(folder)
        assert best(service, rows(40)[7]) == "old7"
        assert service.item("old7")[0].id == "old7"
        gallery_of_rows(tmp_path / "next", rows(30, seed=5), "new")
        (tmp_path / "next").rename(folder)
        _until(lambda: best(service, rows(30, seed=5)[3]) == "new3")


def test_the_successor_may_be_of_another_model(folder: Path, tmp_path: Path) -> None:
    gallery_of_rows(tmp_path / "next", rows(30, seed=5), "new", long_side=64)
    with serving(folder) as service:
        before = service.describe()["identity"]
        vector = service.encode(photo_bytes(1))
        with _searching(service, 2) as failures:
            folder.rename(tmp_path / "gone")
            (tmp_path / "next").rename(folder)
            _until(lambda: service.describe()["identity"] != before)
        assert failures == []
        assert not np.allclose(vector, service.encode(photo_bytes(1)), atol=1e-3)
        assert service.search(of_picture(photo_bytes(1)), Wish(k=1)).hits[0].id.startswith("new")


def test_another_model_written_into_the_folder_itself_is_never_searched_with_the_old_one(
    folder: Path, tmp_path: Path
) -> None:
    gallery_of_rows(tmp_path / "next", rows(30, seed=5), "new", long_side=64)
    with serving(folder) as service:
        before = service.describe()["identity"]
        for file in (tmp_path / "next").iterdir():
            file.rename(folder / file.name)

        def follows() -> bool:
            try:
                return service.describe()["identity"] != before
            except (NotReady, GalleryError):
                return False

        _until(follows)
        assert best(service, rows(30, seed=5)[3]) == "new3"


def test_a_change_goes_to_the_gallery_that_has_the_name(folder: Path, tmp_path: Path) -> None:
    from cfcd.serving.queries import NewItem

    gallery_of_rows(tmp_path / "next", rows(30, seed=5), "new", long_side=64)
    with serving(folder) as service:
        folder.rename(tmp_path / "gone")
        (tmp_path / "next").rename(folder)
        item, _ = service.add(photo_bytes(1), NewItem(id="added"), replace=False)
        found = service.search(of_picture(photo_bytes(1)), Wish(k=1)).hits[0]
        assert (found.id, item.id) == ("added", "added")
        assert found.score > 0.999
        assert service.items(None, None, 0, 1).total == 31


def test_a_closed_service_says_so(folder: Path) -> None:
    with serving(folder) as service:
        assert service.ready() is None
    assert service.ready() == "The service is closing."
    with pytest.raises(NotReady):
        service.item("old1")
    service.close()


def test_thresholds_stay_with_the_gallery_they_are_of(folder: Path, tmp_path: Path) -> None:
    """While a successor is opened, the old gallery answers with its own thresholds."""
    gallery = HeldGallery(folder)
    assert gallery.calibration is None
    thresholds = object()
    gallery._calibrations = SimpleNamespace(read=lambda *_: thresholds)  # type: ignore[assignment]
    assert gallery.calibration is thresholds
    folder.rename(tmp_path / "gone")
    gallery._calibrations = SimpleNamespace(read=lambda *_: None)  # type: ignore[assignment]
    assert gallery.calibration is thresholds
    gallery.close()
