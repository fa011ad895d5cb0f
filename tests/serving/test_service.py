from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfcd.errors import PictureError, UsageError
from cfcd.gallery import Gallery, Selection, calibrate, combine
from cfcd.serving.errors import ItemExists, PictureMissing, UnknownItem
from cfcd.serving.queries import NewItem, Query, QueryPicture, Wish
from cfcd.serving.service import Service
from tests.serving.service_support import (
    gallery_of_photos,
    gallery_of_rows,
    of_picture,
    photo_bytes,
    rows,
    serving,
    small_encoder,
)


@pytest.fixture
def service(photos: Path, tmp_path: Path) -> Iterator[Service]:
    gallery_of_photos(tmp_path / "gallery", photos)
    with serving(tmp_path / "gallery") as opened:
        yield opened


def test_hits_are_those_of_the_gallery_in_pages(service: Service, photos: Path, tmp_path: Path) -> None:
    data = (photos / "bridge" / "1.jpg").read_bytes()
    with Gallery(tmp_path / "gallery", small_encoder()) as gallery:
        expected = gallery.search(data, 12, box=(10, 10, 80, 60))
        generation = gallery.info()["generation"]
    query = Query(pictures=[QueryPicture(data, (10, 10, 80, 60))])
    pages = [service.search(query, Wish(k=5, offset=offset)) for offset in (0, 5, 10)]
    assert [hit for page in pages for hit in page.hits] == expected
    assert [page.more for page in pages] == [True, True, False]
    assert {page.generation for page in pages} == {generation}
    assert (pages[0].verdict, pages[0].calibrated) == (None, False)
    assert all(pages[0].milliseconds[stage] > 0 for stage in ("read", "encode", "search"))
    assert service.search(query, Wish(k=7, offset=20)).hits == []
    assert not service.search(query, Wish(k=12)).more


def test_pictures_items_and_vectors_make_one_query(service: Service, photos: Path, tmp_path: Path) -> None:
    data, other = ((photos / label / "1.jpg").read_bytes() for label in ("arch", "church"))
    vector = small_encoder().encode(photos / "bridge" / "3.jpg")[0]
    with Gallery(tmp_path / "gallery", small_encoder()) as gallery:
        wanted = combine(
            [gallery.encoder.encode(data)[0], 2 * vector, gallery.descriptor("arch/2.jpg")],
            [gallery.encoder.encode(other)[0], gallery.descriptor("church/0.jpg")],
        )
        expected = gallery.search_vector(wanted, 4, verdicts=False, without=["arch/2.jpg"])
    query = Query([QueryPicture(data)], [QueryPicture(other)], ["arch/2.jpg"], ["church/0.jpg"], [2 * vector])
    found = service.search(query, Wish(k=4))
    assert [hit.id for hit in found.hits] == [hit.id for hit in expected]
    np.testing.assert_allclose([hit.score for hit in found.hits], [hit.score for hit in expected], atol=1e-6)
    assert found.verdict is None


def test_an_item_finds_the_others(service: Service) -> None:
    found = service.search(Query(ids=["arch/2.jpg"]), Wish(k=20))
    assert len(found.hits) == 11
    assert "arch/2.jpg" not in {hit.id for hit in found.hits}
    assert found.hits[0].item.label == "arch"
    assert found.milliseconds["read"] == found.milliseconds["encode"] == 0


def test_conditions_labels_and_ids_limit_a_search(service: Service, photos: Path) -> None:
    query = of_picture((photos / "arch" / "1.jpg").read_bytes())
    for _ in range(2):  # a condition is kept
        found = service.search(query, Wish(where="label = 'bridge'"))
        assert {hit.id for hit in found.hits} == {f"bridge/{n}.jpg" for n in range(4)}
    assert {hit.item.label for hit in service.search(query, Wish(labels=["church"])).hits} == {"church"}
    only = service.search(query, Wish(ids=["church/1.jpg", "no such"], descriptors=True))
    assert [hit.id for hit in only.hits] == ["church/1.jpg"]
    descriptor = only.hits[0].descriptor
    assert descriptor is not None
    assert np.linalg.norm(descriptor) == pytest.approx(1, abs=1e-3)
    assert len(service.search(query, Wish(where=" ", labels=[], expand=2)).hits) == 12
    with pytest.raises(UsageError):
        service.search(query, Wish(where="label ="))


def test_queries_that_cannot_be_are_refused(service: Service) -> None:
    for query in (
        Query(),
        Query(minus_ids=["arch/1.jpg"]),
        Query(vectors=[np.ones(3, np.float32)]),
        Query(vectors=[np.ones(3, np.float32), np.ones(1280, np.float32)]),
        Query(vectors=[np.full(1280, np.nan, np.float32)]),
        Query(vectors=[np.zeros(1280, np.float32)]),
        Query(vectors=[np.full(1280, np.inf, np.float32), np.ones(1280, np.float32)]),
    ):
        with pytest.raises(UsageError):
            service.search(query, Wish())
    for query in (Query(ids=["nothing"]), Query(ids=["arch/1.jpg"], minus_ids=["nothing"])):
        with pytest.raises(UnknownItem):
            service.search(query, Wish())
    with pytest.raises(PictureError):
        service.search(of_picture(b"GIF89a"), Wish())


def test_verdicts_are_those_of_the_calibration(tmp_path: Path) -> None:
    vectors = np.repeat(rows(60), 4, axis=0)
    vectors = vectors + 0.01 * np.random.default_rng(1).standard_normal(vectors.shape)
    gallery_of_rows(tmp_path / "gallery", vectors, "item", [f"object {n // 4}" for n in range(240)])
    with serving(tmp_path / "gallery") as service:
        assert not service.search(Query(ids=["item5"]), Wish()).calibrated
        with Gallery(tmp_path / "gallery", small_encoder()) as gallery:
            made = calibrate(gallery, precision=0.9).calibration
        described = service.describe()["calibration"]
        assert (described["match"], described["items"]) == (made.match.score, 240)
        found = service.search(Query(ids=["item5"]), Wish(k=4))
        assert (found.calibrated, found.verdict) == (True, "match")
        assert [hit.verdict for hit in found.hits] == [made.verdict(hit.score) for hit in found.hits]
        second = service.search(Query(ids=["item5"]), Wish(k=4, offset=4))
        assert second.verdict == "match"  # that of the best of all pages
        away = Query(vectors=[-vectors[5].astype(np.float32)])
        assert service.search(away, Wish(ids=["item5"])).verdict == "none"
        mixed = service.search(Query(ids=["item5", "item6"]), Wish(k=4))
        assert (mixed.calibrated, mixed.verdict, mixed.hits[0].verdict) == (True, None, None)


def test_items_come_by_row_number(service: Service, tmp_path: Path) -> None:
    with Gallery(tmp_path / "gallery") as gallery:
        ids = list(gallery.contents()[0].ids)
    page = service.items(None, None, 3, 5)
    assert ([item.id for item in page.items], page.total) == (ids[3:8], 12)
    page = service.items("label = 'church'", None, 1, 2)
    assert ([item.id for item in page.items], page.total) == (
        [one for one in ids if one.startswith("church")][1:3],
        4,
    )
    page = service.items(None, ["church", "arch"], 0, 20)
    assert page.total == len(page.items) == 8
    assert service.items(None, None, 100, 5).items == []
    item, generation = service.item("bridge/0.jpg")
    assert (item.label, generation) == ("bridge", page.generation)
    with pytest.raises(UnknownItem):
        service.item("../../etc/passwd")


def test_an_added_item_is_found_by_its_picture_and_removed(service: Service, tmp_path: Path) -> None:
    data = photo_bytes(77)
    before = service.items(None, None, 0, 1)
    row = NewItem("mine", "tower", "late", {"city": "Nîmes", "year": 1990})
    item, generation = service.add(data, row, replace=False)
    assert generation > before.generation
    assert (item.id, item.label, item.split, item.extra) == (
        "mine",
        "tower",
        "late",
        {"city": "Nîmes", "year": 1990},
    )
    assert item.path.read_bytes() == data
    assert (tmp_path / "gallery-uploads") in item.path.parents
    hit = service.search(of_picture(data), Wish(k=1, where="year = 1990")).hits[0]
    assert (hit.id, round(hit.score, 2)) == ("mine", 1.0)
    with pytest.raises(ItemExists):
        service.add(photo_bytes(78), row, replace=False)
    changed, _ = service.add(photo_bytes(78), NewItem("mine"), replace=True)
    assert (changed.label, changed.path.read_bytes()) == (None, photo_bytes(78))
    assert not item.path.exists()
    assert service.items(None, None, 0, 1).total == 13
    assert service.remove("mine") > generation
    assert changed.path.exists()
    with pytest.raises(UnknownItem):
        service.remove("mine")
    with pytest.raises(UnknownItem):
        service.item("mine")


def test_an_item_of_the_catalog_can_be_replaced_and_its_file_stays(service: Service, photos: Path) -> None:
    with pytest.raises(ItemExists):
        service.add(photo_bytes(5), NewItem("arch/0.jpg"), replace=False)
    item, _ = service.add(photo_bytes(5), NewItem("arch/0.jpg", "new"), replace=True)
    assert (item.id, item.label) == ("arch/0.jpg", "new")
    assert (photos / "arch" / "0.jpg").exists()
    assert service.items(None, None, 0, 1).total == 12
    assert service.search(of_picture(photo_bytes(5)), Wish(k=1)).hits[0].id == "arch/0.jpg"


def test_many_threads_add_search_and_remove(service: Service) -> None:
    def work(seed: int) -> bool:
        data = photo_bytes(seed)
        item, _ = service.add(data, NewItem(), replace=False)
        found = service.search(of_picture(data), Wish(k=1)).hits[0]
        same = found.id == item.id
        service.remove(item.id)
        return same

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(work, range(100, 112)))
    assert service.items(None, None, 0, 1).total == 12


def test_pictures_are_rendered_by_id(service: Service, photos: Path) -> None:
    small = Image.open(BytesIO(service.thumbnail("arch/0.jpg", 48).jpeg))
    assert (small.format, small.size) == ("JPEG", (48, 32))
    assert Image.open(BytesIO(service.picture("arch/0.jpg", 2048, boxed=False).jpeg)).size == (96, 64)
    assert service.size("arch/0.jpg") == (96, 64)
    assert service.thumbnail("arch/0.jpg", 48) == service.thumbnail("arch/0.jpg", 48)
    with pytest.raises(UnknownItem):
        service.thumbnail("nothing", 48)
    (photos / "arch" / "0.jpg").unlink()
    for ask in (
        lambda: service.thumbnail("arch/0.jpg", 48),
        lambda: service.size("arch/0.jpg"),
        lambda: service.explain("arch/0.jpg", "arch/1.jpg"),
    ):
        with pytest.raises(PictureMissing):
            ask()


def test_a_hit_is_explained(service: Service, photos: Path) -> None:
    data = (photos / "arch" / "1.jpg").read_bytes()
    by_picture = service.explain("arch/0.jpg", QueryPicture(data, (10, 10, 90, 60)))
    assert by_picture.query.area == (10, 10, 90, 60)
    assert by_picture.query.shares.sum() == pytest.approx(by_picture.score, abs=1e-4)
    by_id = service.explain("arch/0.jpg", "arch/1.jpg")
    found = service.search(Query(ids=["arch/1.jpg"]), Wish(ids=["arch/0.jpg"]))
    assert by_id.score == pytest.approx(found.hits[0].score, abs=2e-3)
    drawn = Image.open(BytesIO(service.explain_png("arch/0.jpg", "arch/1.jpg")))
    assert drawn.format == "PNG"
    with pytest.raises(UnknownItem):
        service.explain("nothing", "arch/1.jpg")
    with pytest.raises(PictureError):
        service.explain("arch/0.jpg", QueryPicture(b"nothing"))


def test_the_gallery_is_described(service: Service) -> None:
    found = service.describe()
    assert (found["name"], found["items"], found["dim"]) == ("gallery", 12, 1280)
    assert found["index"]["kind"] == "exact"
    assert found["random_weights"] is False
    assert found["labels"] == ["arch", "bridge", "church"]
    assert found["columns"][0] == {
        "name": "label",
        "kind": "text",
        "values": ["arch", "bridge", "church"],
        "count_distinct": 3,
    }
    service.add(photo_bytes(1), NewItem(label="tower", extra={"year": 7}), replace=False)
    again = service.describe()
    assert (again["items"], again["labels"][-1]) == (13, "tower")
    assert again["generation"] > found["generation"]
    assert {"name": "year", "kind": "number", "values": [7], "count_distinct": 1} in again["columns"]


def test_metrics_count_requests_stages_and_refusals(service: Service, photos: Path) -> None:
    service.search(of_picture((photos / "arch" / "1.jpg").read_bytes()), Wish(k=1))
    with pytest.raises(PictureError):
        service.search(of_picture(b"nothing"), Wish(k=1))
    service.count("POST", "/v1/search", 200, 0.02)
    service.refuse("body_too_large")
    text = service.metrics().decode()
    for line in (
        'cfcd_requests_total{method="POST",route="/v1/search",status="200"} 1.0',
        'cfcd_request_seconds_bucket{le="0.025",method="POST",route="/v1/search"} 1.0',
        'cfcd_stage_seconds_count{stage="encode"} 1.0',
        'cfcd_stage_seconds_count{stage="search"} 1.0',
        'cfcd_refused_uploads_total{reason="unreadable_picture"} 1.0',
        'cfcd_refused_uploads_total{reason="body_too_large"} 1.0',
        "cfcd_waiting_pictures 0.0",
        "cfcd_gallery_items 12.0",
    ):
        assert line in text.splitlines(), text


def test_a_slow_condition_holds_up_no_other_search(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go = threading.Event(), threading.Event()
    choose = Selection._look_up

    def slow(selection: Selection, store: Any) -> Any:
        started.set()
        assert go.wait(60)
        return choose(selection, store)

    monkeypatch.setattr(Selection, "_look_up", slow)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(service.search, Query(ids=["arch/1.jpg"]), Wish(where="label = 'arch'"))
        assert started.wait(60)
        assert len(service.search(Query(ids=["arch/1.jpg"]), Wish()).hits) == 11
        go.set()
        assert len(asked.result(60).hits) == 3
