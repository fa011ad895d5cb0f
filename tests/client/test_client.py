"""The client against a real server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfcd.client import Client, ServiceError
from cfcd.errors import CfcdError, UnreadablePicture, UsageError
from cfcd.gallery import Gallery
from tests.serving.service_support import photo_bytes, small_encoder
from tests.serving.web_support import ODD_IDS, TOKEN, make_site, serving_site


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with serving_site(folder, token=TOKEN) as asked, Client(str(asked.base_url), TOKEN) as opened:
        yield opened


def test_pictures_vectors_and_items_find_what_the_gallery_does(client: Client, folder: Path) -> None:
    picture = folder.parent / "5.jpg"
    with Gallery(folder, small_encoder()) as gallery:
        by_picture = [hit.id for hit in gallery.search(picture, 6, box=(4, 4, 80, 60))]
        by_item = [hit.id for hit in gallery.search_id("arch/1.jpg", 6)]
        descriptor = gallery.descriptor("arch/1.jpg")
        by_vector = gallery.search_vector(descriptor, 6)
    found = client.search(picture, k=6, box=(4, 4, 80, 60))
    assert [hit.id for hit in found.hits] == by_picture
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4, 5, 6]
    assert (found.k, found.offset, found.more, found.calibrated, found.verdict) == (6, 0, True, False, None)
    assert found.milliseconds["encode"] > 0
    assert [
        hit.id for hit in client.search(picture.read_bytes(), k=6, box=[(4, 4, 80, 60)]).hits
    ] == by_picture
    assert [hit.id for hit in client.search(ids="arch/1.jpg", k=6).hits] == by_item
    for vectors in (descriptor, [descriptor.tolist()], 3 * descriptor[None]):
        assert [hit.id for hit in client.search(vectors=vectors, k=6).hits] == [hit.id for hit in by_vector]
    top = client.search(vectors=descriptor, k=1, descriptors=True).hits[0]
    assert top.descriptor is not None
    np.testing.assert_allclose(top.descriptor, descriptor, atol=1e-3)
    assert top.score == pytest.approx(by_vector[0].score, abs=1e-6)


def test_several_things_make_one_query(client: Client, folder: Path) -> None:
    pictures = [folder.parent / "0.jpg", folder.parent / "1.jpg"]
    minus = folder.parent / "8.jpg"
    together = client.search(pictures, ids=["arch/2.jpg"], minus=minus, box=[None, (0, 0, 90, 60)], k=3)
    assert "arch/2.jpg" not in {hit.id for hit in together.hits}
    assert together.hits[0].label == "arch"
    mixed = client.search(ids=["arch/0.jpg", "arch/1.jpg"], minus_ids="church/0.jpg", k=2)
    assert [hit.label for hit in mixed.hits] == ["arch", "arch"]


def test_conditions_and_pages(client: Client, folder: Path) -> None:
    picture = folder.parent / "5.jpg"
    found = client.search(picture, where="city = 'Nice' and year >= 1995", expand=2)
    assert {hit.extra["year"] for hit in found.hits} == {1995, 1997, 1999, 2001}
    assert {hit.label for hit in client.search(picture, labels=["church"]).hits} == {"church"}
    only = client.search(ids="arch/0.jpg", only_ids=["church/0.jpg", "bridge/0.jpg"])
    assert {hit.id for hit in only.hits} == {"church/0.jpg", "bridge/0.jpg"}
    every = list(client.every_hit(picture, page=5))
    assert [hit.rank for hit in every] == list(range(1, client.gallery().items + 1))
    assert every[:5] == list(client.search(picture, k=5).hits)


def test_items_have_their_rows_however_odd_their_ids(client: Client) -> None:
    page = client.items(labels="bridge", offset=1, k=2)
    assert ([item.id for item in page.items], page.total) == (["bridge/1.jpg", "bridge/2.jpg"], 4)
    assert client.items(where="year = 1993").items[0].id == "arch/3.jpg"
    item = client.item("church/3.jpg")
    assert (item.label, item.split, item.box) == ("church", "train", (8.0, 8.0, 72.0, 56.0))
    assert (item.extra["city"], item.extra["year"]) == ("Nice", 2001)
    for odd in ODD_IDS:
        assert client.item(odd).id == odd
        assert client.thumbnail(odd)[:2] == b"\xff\xd8"
        assert odd not in {hit.id for hit in client.search(ids=odd, k=1).hits}


def test_pictures_are_jpegs(client: Client) -> None:
    assert Image.open(BytesIO(client.picture("arch/0.jpg"))).size == (96, 64)
    assert Image.open(BytesIO(client.picture("arch/0.jpg", side=64))).size == (64, 43)
    assert Image.open(BytesIO(client.picture("church/3.jpg", boxed=True))).size == (64, 48)
    assert max(Image.open(BytesIO(client.thumbnail("arch/0.jpg", side=32))).size) == 32


def test_a_match_is_explained(client: Client, folder: Path) -> None:
    picture = folder.parent / "1.jpg"
    found = client.explain("arch/0.jpg", picture, box=(8, 8, 90, 60))
    assert (found.query.width, found.query.height, found.query.box) == (96, 64, (8, 8, 90, 60))
    assert sum(map(sum, found.hit.shares)) == pytest.approx(found.score, abs=1e-4)
    assert all(0 <= line.hit[0] <= 96 for line in found.lines)
    assert client.explain("arch/0.jpg", id="arch/1.jpg").score == pytest.approx(
        client.search(ids="arch/1.jpg", only_ids=["arch/0.jpg"]).hits[0].score, abs=2e-3
    )
    assert Image.open(BytesIO(client.explain_png("arch/0.jpg", picture))).format == "PNG"


def test_items_are_added_replaced_and_removed(client: Client) -> None:
    before = client.gallery()
    assert before.writable
    added = client.add(photo_bytes(50), id="new one", label="tower", split="late", columns={"year": 7})
    assert (added.id, added.label, added.split, added.extra) == ("new one", "tower", "late", {"year": 7})
    assert client.search(photo_bytes(50), k=1).hits[0].id == "new one"
    with pytest.raises(ServiceError) as raised:
        client.add(photo_bytes(51), id="new one")
    assert (raised.value.status, raised.value.code) == (409, "item_exists")
    assert client.add(photo_bytes(51), id="new one", replace=True).label is None
    assert client.remove("new one") > before.generation
    assert client.gallery().items == before.items
    with pytest.raises(ServiceError) as raised:
        client.item("new one")
    assert (raised.value.status, raised.value.code) == (404, "unknown_item")
    assert raised.value.what.endswith(".")
    assert raised.value.mend.endswith(".")


def test_without_the_token_nothing_changes(client: Client) -> None:
    for token in (None, "another"):
        with Client(client.url, token) as other, pytest.raises(ServiceError) as raised:
            other.remove("arch/0.jpg")
        assert raised.value.status == 401
    assert client.item("arch/0.jpg").id == "arch/0.jpg"


def test_errors_are_those_of_the_service(client: Client) -> None:
    with pytest.raises(CfcdError, match="The gallery has no column 'colour'") as raised:
        client.search(ids="arch/0.jpg", where="colour = 1")
    assert isinstance(raised.value, ServiceError)
    assert (raised.value.status, raised.value.code) == (400, "usage_error")
    with pytest.raises(ServiceError) as raised:
        client.search(b"no picture")
    assert raised.value.code == "unreadable_picture"
    with pytest.raises(ServiceError) as raised:
        client.search(vectors=[1.0, 2.0])
    assert raised.value.status == 400


def test_what_cannot_be_asked_is_said_before(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture):
        client.search(tmp_path / "nothing.jpg")
    with pytest.raises(UsageError):
        client.search(photo_bytes(1), only_ids=["arch/0.jpg"])
    with pytest.raises(UsageError):
        client.search(photo_bytes(1), box=[None, None])
    with pytest.raises(UsageError):
        client.explain("arch/0.jpg")
    for url in ("127.0.0.1:8000", "ftp://here", "http://", ""):
        with pytest.raises(UsageError):
            Client(url)


def test_a_service_that_is_not_there(client: Client) -> None:
    assert client.is_ready()
    with Client("http://127.0.0.1:1") as nobody:
        assert not nobody.is_ready()
        with pytest.raises(ServiceError) as raised:
            nobody.gallery()
    assert (raised.value.code, raised.value.status) == ("unreachable", 0)


class _Busy(BaseHTTPRequestHandler):
    """Is busy twice, then answers something that is no service's."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(503 if self.asked < 3 else 418)
        self.send_header("Retry-After", "0.01")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize(("patience", "asked", "status"), [(10.0, 3, 418), (0.0, 1, 503)])
def test_a_busy_service_is_asked_again_for_a_while(patience: float, asked: int, status: int) -> None:
    _Busy.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Busy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with (
            Client(f"http://127.0.0.1:{server.server_port}/", patience=patience) as client,
            pytest.raises(ServiceError) as raised,
        ):
            client.gallery()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (_Busy.asked, raised.value.status, raised.value.code) == (asked, status, "no_answer")
