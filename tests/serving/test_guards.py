"""What is foreign, too much, too slow or broken."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cfcd.errors import BusyError, GalleryError
from cfcd.serving.errors import ForeignHost, ForeignOrigin
from cfcd.serving.guards import HEADERS
from cfcd.serving.origins import Origins, is_loopback
from cfcd.serving.settings import Settings
from tests.serving.service_support import photo_bytes
from tests.serving.web_support import answering, problem_in, raw, serving_site

LIMIT = 100_000
ASK = b"POST "
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def strict(site: Path) -> Iterator[httpx.Client]:
    """Asks a service with small limits."""
    with serving_site(
        site, max_body_bytes=LIMIT, max_json_bytes=5_000, upload_seconds=1.0, head_seconds=1.0
    ) as asked:
        yield asked


@pytest.mark.parametrize("path", ["/", "/v1/gallery", "/nothing", "/v1/thumbnails/arch/0.jpg", "/metrics"])
def test_all_answers_have_the_headers_of_safety(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    assert "cache-control" in answer.headers


@pytest.mark.parametrize("path", ["/v1/search/pictures", "/v1/explain", "/v1/items"])
def test_too_many_bytes_are_refused_before_they_are_read(strict: httpx.Client, path: str) -> None:
    big = [("picture", ("a.jpg", bytes(20 * LIMIT), "image/jpeg"))]
    problem_in(strict.post(path, files=big), 413, "body_too_large")
    assert strict.get("/healthz").text == "ok"


def test_bytes_are_counted_where_no_length_is_told(strict: httpx.Client) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
        for _ in range(2 * LIMIT // 1000):
            sent += 1000
            yield bytes(1000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem_in(strict.post("/v1/search/pictures", content=body(), headers=headers), 413, "body_too_large")
    assert sent > LIMIT


def test_other_requests_have_a_smaller_limit(strict: httpx.Client) -> None:
    problem_in(strict.post("/v1/search", content=b" " * 5_001, headers=JSON), 413, "body_too_large")
    problem_in(strict.post("/v1/explain", data={"hit": "x" * 6_000}), 413, "body_too_large")
    problem_in(strict.post("/v1/search", content=b" " * 5_000, headers=JSON), 422, "invalid_request")


@pytest.mark.parametrize("length", [b"99999999999999999999999", b"200001"])
def test_a_length_that_is_too_long_is_believed(strict: httpx.Client, length: bytes) -> None:
    head = ASK + b"/v1/search/pictures HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data\r\n"
    answer = raw(strict, head + b"Content-Length: " + length + b"\r\n\r\n")
    assert b" 413 " in answer.split(b"\r\n")[0] or b" 400 " in answer.split(b"\r\n")[0]


def test_a_slow_body_is_refused(strict: httpx.Client) -> None:
    head = (
        ASK + b"/v1/search HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    )
    answer = raw(strict, head, b"{", b'"', b"k", pause=0.3, patience=60)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code":"slow_body"' in answer


def test_silent_connections_are_closed(strict: httpx.Client) -> None:
    assert raw(strict, patience=20) == b""
    assert raw(strict, b"GET /healthz HTTP/1.1\r\nHost: loc", patience=20) == b""
    # One that asks in time, and then again, is served.
    twice = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(strict, twice, twice, pause=0.6, patience=20).count(b"200 OK") == 2


def test_connections_are_counted(site: Path) -> None:
    with serving_site(site, max_connections=3) as client:
        held = [httpx.Client(base_url=client.base_url, trust_env=False) for _ in range(3)]
        assert [one.get("/healthz").text for one in held] == ["ok"] * 3
        with pytest.raises(httpx.TransportError):
            client.get("/healthz")
        for one in held:
            one.close()
        while True:
            try:
                assert client.get("/healthz").text == "ok"
                break
            except httpx.TransportError:  # until the server has seen the others go
                time.sleep(0.05)


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        ASK
        + b"/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=["tls", "no-path", "two-hosts", "no-host", "old", "two-lengths", "bad-chunk", "long-header"],
)
def test_requests_that_are_none_do_no_harm(strict: httpx.Client, request_: bytes) -> None:
    status = raw(strict, request_, patience=20)[9:12]
    assert status in (b"400", b"421", b"431", b"")
    assert strict.get("/healthz").text == "ok"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/search", "text/plain"),
        ("/v1/search", "application/x-www-form-urlencoded"),
        ("/v1/search", ""),
        ("/v1/search/pictures", "application/json"),
        ("/v1/search/pictures", "image/jpeg"),
        ("/v1/items", "text/plain"),
        ("/v1/explain", "application/json"),
    ],
)
def test_bodies_of_another_kind_are_refused(client: httpx.Client, path: str, kind: str) -> None:
    problem_in(client.post(path, content=b"{}", headers={"Content-Type": kind}), 415, "wrong_media_type")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.1", "a@localhost", ""]
)
def test_other_names_are_not_answered_to(client: httpx.Client, host: str) -> None:
    """A page of another site must not reach the loopback address by a name of its own."""
    problem_in(client.get("/v1/gallery", headers={"Host": host}), 421, "foreign_host")
    problem_in(client.get("/", headers={"Host": host}), 421, "foreign_host")
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://localhost.evil.example", "null", "file://", "x"]
)
def test_pages_of_others_may_not_ask(client: httpx.Client, origin: str) -> None:
    headers = {"Origin": origin}
    problem_in(
        client.post("/v1/search", json={"ids": ["arch/0.jpg"]}, headers=headers), 403, "foreign_origin"
    )
    problem_in(client.delete("/v1/items/arch/0.jpg", headers=headers), 403, "foreign_origin")


def test_the_own_page_may_ask(client: httpx.Client) -> None:
    headers = {"Origin": str(client.base_url).rstrip("/")}
    assert client.post("/v1/search", json={"ids": ["arch/0.jpg"]}, headers=headers).status_code == 200


def test_names_are_compared_as_they_should() -> None:
    local = Origins(Settings(allow_hosts=("Photos.example",)))
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "photos.example"):
        local.check("GET", "/", {"host": host})
    for host in (
        "0.0.0.0",
        "192.0.2.1",
        "[::2]",
        "photos.example.org",
        "photos.example:x",
        "localhost/x",
        "[::1",
    ):
        with pytest.raises(ForeignHost):
            local.check("GET", "/", {"host": host})
    wide = Origins(Settings(host="0.0.0.0"))
    for host in ("192.0.2.1:8000", "[2001:db8::1]", "localhost"):
        wide.check("GET", "/", {"host": host})
    with pytest.raises(ForeignHost):
        wide.check("GET", "/", {"host": "photos.example"})
    # A proxy takes the encryption off: the browser's origin says https, and no port.
    local.check("POST", "/", {"host": "photos.example", "origin": "https://photos.example"})
    local.check("POST", "/", {"host": "localhost:80", "origin": "http://localhost"})
    for origin in ("https://photos.example:8443", "https://localhost", "ftp://photos.example", "http://[::1"):
        with pytest.raises(ForeignOrigin):
            local.check("POST", "/", {"host": "photos.example", "origin": origin})
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "photos.example")))


class Broken:
    """A service that does what one of its methods is told, and counts nothing."""

    def __init__(self, **calls: Any) -> None:
        self.__dict__.update(calls)

    def count(self, *_told: object) -> None:
        pass

    refuse = count


@pytest.mark.parametrize(
    "error", [RuntimeError("/home/me/secret"), GalleryError("/home/me/secret broke.", "Mend.")]
)
def test_what_breaks_is_logged_and_not_told(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_item_id: str) -> None:
        raise error

    with caplog.at_level(logging.ERROR, "cfcd.serving"), answering(Broken(item=fail)) as client:
        message = problem_in(client.get("/v1/items/a"), 500, "internal_error")
        assert client.get("/healthz").text == "ok"
    assert "secret" not in message
    assert "secret" in caplog.text
    number = message.split()[-1].rstrip(".")
    assert number in caplog.text


def test_who_else_writes_is_not_told() -> None:
    def fail(_item_id: str) -> None:
        raise BusyError("/home/me/gallery is written by process 7.", "Wait for process 7.")

    with answering(Broken(item=fail)) as client:
        answer = client.get("/v1/items/a")
        problem_in(answer, 503, "busy_error")
        assert "home" not in answer.text
        assert int(answer.headers["retry-after"]) > 0


def test_a_service_that_is_not_ready_says_so() -> None:
    with answering(Broken(ready=lambda: "The model is being loaded.")) as client:
        answer = client.get("/readyz")
        problem_in(answer, 503, "not_ready")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200


def test_too_many_are_sent_away_and_the_others_served() -> None:
    """Four may be there: two in work, two waiting; the rest hear so at once, and probes are answered."""
    go_on = threading.Event()
    busy, most, lock = 0, 0, threading.Lock()

    def item(_item_id: str) -> object:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        assert go_on.wait(60)
        with lock:
            busy -= 1
        found = SimpleNamespace(id="a", label=None, split=None, box=None, extra={})
        return found, 1

    with (
        answering(Broken(item=item), concurrency=2, waiting=2) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        asked = [pool.submit(client.get, "/v1/items/a") for _ in range(12)]
        while sum(one.done() for one in asked) < 8:
            time.sleep(0.01)
        assert client.get("/healthz").text == "ok"
        go_on.set()
        answers = [one.result() for one in asked]
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 8
    assert most == 2
    for answer in answers:
        if answer.status_code == 503:
            problem_in(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) > 0


def test_stopping_answers_those_in_work() -> None:
    started, go_on = threading.Event(), threading.Event()

    def item(_item_id: str) -> object:
        started.set()
        go_on.wait(60)
        raise RuntimeError

    with ThreadPoolExecutor(1) as pool:
        with answering(Broken(item=item)) as client:
            asked = pool.submit(httpx.get, f"{client.base_url}/v1/items/a", timeout=60)
            assert started.wait(60)
            threading.Timer(3.5, go_on.set).start()
        problem_in(asked.result(), 503, "not_ready")


def test_hundreds_ask_at_once(site: Path) -> None:
    """Whatever comes at the same time, answers are right or say that it is too much; nothing breaks."""
    with serving_site(site) as client:
        expected = client.post("/v1/search", json={"ids": ["arch/0.jpg"], "k": 3}).json()["hits"]

        def ask(number: int) -> tuple[int, int]:
            kind = number % 6
            with httpx.Client(base_url=client.base_url, timeout=120, trust_env=False, verify=False) as own:
                if kind == 0:
                    answer = own.post("/v1/search", json={"ids": ["arch/0.jpg"], "k": 3})
                    assert answer.status_code != 200 or answer.json()["hits"] == expected
                elif kind == 1:
                    files = [("picture", ("a.jpg", photo_bytes(number % 5), "image/jpeg"))]
                    answer = own.post("/v1/search/pictures", files=files, data={"k": "1"})
                elif kind == 2:
                    answer = own.get(
                        f"/v1/thumbnails/arch/{number % 4}.jpg", params={"side": 16 + number % 99}
                    )
                elif kind == 3:
                    answer = own.post("/v1/search", content=b"{", headers=JSON)
                elif kind == 4:
                    answer = own.get("/v1/items", params={"where": f"year > {1990 + number % 9}"})
                else:
                    files = [("picture", ("a.jpg", b"no picture", "image/jpeg"))]
                    answer = own.post("/v1/search/pictures", files=files)
            return kind, answer.status_code

        with ThreadPoolExecutor(100) as pool:
            found = list(pool.map(ask, range(300)))
    right = {0: 200, 1: 200, 2: 200, 3: 422, 4: 200, 5: 400}
    assert {(kind, status) for kind, status in found} <= {
        (kind, status) for kind in right for status in (right[kind], 503)
    }
    served = [status == right[kind] for kind, status in found]
    assert sum(served) > len(served) / 2
