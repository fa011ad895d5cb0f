"""The API as its users see it."""

from __future__ import annotations

import io
import json
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving.service_support import photo_bytes, small_encoder
from tests.serving.web_support import DRAWING, GONE, ODD_IDS, SCRIPT, SECRET, TEXT, problem_in, raw


def photo(number: int) -> tuple[str, bytes, str]:
    return f"{number}.jpg", photo_bytes(number), "image/jpeg"


def search(client: httpx.Client, **wanted: object) -> dict[str, object]:
    answer = client.post("/v1/search", json=wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def ids(found: dict[str, object]) -> list[str]:
    return [hit["id"] for hit in found["hits"]]  # type: ignore[attr-defined]


def test_a_gallery_tells_what_filters_need(client: httpx.Client) -> None:
    found = client.get("/v1/gallery").json()
    assert found["name"] == "gallery"
    assert found["items"] == 12 + len(ODD_IDS) + 3
    assert found["dim"] == 1280
    assert found["writable"] is False
    assert found["calibration"] is None
    assert found["max_k"] == 1000
    columns = {column["name"]: column for column in found["columns"]}
    assert columns["year"]["kind"] == "number"
    assert sorted(columns["city"]["values"]) == ["Aix", "Nice"]
    assert {"arch", "bridge", "church", SCRIPT} == set(found["labels"])


def test_a_picture_finds_its_like(client: httpx.Client) -> None:
    answer = client.post("/v1/search/pictures", files=[("picture", photo(0))], data={"k": "4"})
    found = answer.json()
    assert {hit["label"] for hit in found["hits"]} == {"arch"}
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4]
    assert found["verdict"] is None
    assert found["calibrated"] is False
    assert found["more"] is True
    assert found["generation"] >= 1
    assert set(found["milliseconds"]) == {"read", "encode", "search"}
    first = found["hits"][0]
    assert first["extra"]["city"] in ("Aix", "Nice")
    assert "path" not in json.dumps(found["hits"])  # where files lie stays here
    assert client.get(first["thumbnail"]).headers["content-type"] == "image/jpeg"


def test_a_box_searches_with_a_part(client: httpx.Client) -> None:
    halves = Image.new("RGB", (192, 64))
    for at, number in enumerate((0, 1)):
        halves.paste(Image.open(io.BytesIO(photo_bytes(number))), (96 * at, 0))
    stream = io.BytesIO()
    halves.save(stream, "PNG")
    for box, label in (("0,0,96,64", "arch"), ("96,0,192,64", "bridge")):
        files = [("picture", ("halves.png", stream.getvalue(), "image/png"))]
        answer = client.post("/v1/search/pictures", files=files, data={"k": "4", "box": box})
        assert {hit["label"] for hit in answer.json()["hits"]} == {label}


def test_several_pictures_and_an_item_are_one_query(client: httpx.Client) -> None:
    files = [("picture", photo(0)), ("picture", photo(1)), ("minus", photo(2))]
    answer = client.post(
        "/v1/search/pictures", files=files, data={"k": "9", "id": "arch/0.jpg", "box": ["", ""]}
    )
    labels = [hit["label"] for hit in answer.json()["hits"]]
    assert "arch/0.jpg" not in ids(answer.json())
    assert set(labels[:7]) == {"arch", "bridge"}


def test_items_and_vectors_find_the_same(client: httpx.Client) -> None:
    vector = small_encoder().encode(photo_bytes(0))[0]
    by_vector = search(client, vectors=[(1e30 * vector.astype(np.float64)).tolist()], k=3)
    by_picture = client.post("/v1/search/pictures", files=[("picture", photo(0))], data={"k": "3"}).json()
    assert ids(by_vector) == ids(by_picture)
    assert "bridge/1.jpg" not in ids(search(client, ids=["bridge/1.jpg"], k=20))
    assert {one.split("/")[0] for one in ids(search(client, ids=["bridge/1.jpg"], k=3))} == {"bridge"}


def test_pages_follow_each_other(client: httpx.Client) -> None:
    whole = search(client, ids=["arch/0.jpg"], k=9)
    parts = [search(client, ids=["arch/0.jpg"], k=3, offset=offset) for offset in (0, 3, 6)]
    assert [hit for part in parts for hit in part["hits"]] == whole["hits"]  # type: ignore[attr-defined]
    assert [part["more"] for part in parts] == [True] * 3
    assert search(client, ids=["arch/0.jpg"], k=100)["more"] is False


def test_searches_are_limited_to_what_was_chosen(client: httpx.Client) -> None:
    found = search(client, ids=["arch/0.jpg"], k=50, where="city = 'Nice' and year > 1995")
    assert sorted(ids(found)) == ["bridge/3.jpg", "church/1.jpg", "church/3.jpg"]
    assert set(ids(search(client, ids=["arch/0.jpg"], labels=["church"]))) == {
        f"church/{at}.jpg" for at in range(4)
    }
    assert ids(search(client, ids=["arch/0.jpg"], only_ids=["church/2.jpg"])) == ["church/2.jpg"]
    with_pictures = client.post(
        "/v1/search/pictures",
        files=[("picture", photo(0))],
        data={"where": "year < 1992", "label": ["arch", "church"]},
    )
    assert sorted(ids(with_pictures.json())) == ["arch/0.jpg", "arch/1.jpg"]


def test_descriptors_come_when_asked_for(client: httpx.Client) -> None:
    hit = search(client, ids=["arch/0.jpg"], k=1, descriptors=True)["hits"][0]  # type: ignore[index]
    assert np.linalg.norm(hit["descriptor"]) == pytest.approx(1, abs=1e-3)
    assert "descriptor" not in search(client, ids=["arch/0.jpg"], k=1)["hits"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({}, 400, "usage_error"),
        ({"minus_ids": ["arch/0.jpg"]}, 400, "usage_error"),
        ({"ids": ["nothing"]}, 404, "unknown_item"),
        ({"ids": ["arch/0.jpg"], "where": "year >>> 3"}, 400, "usage_error"),
        ({"ids": ["arch/0.jpg"], "where": "color = 'red'"}, 400, "usage_error"),
        ({"ids": ["arch/0.jpg"], "where": "1=1; drop table items"}, 400, "usage_error"),
        ({"ids": ["arch/0.jpg"], "k": 1001}, 400, "usage_error"),
        ({"ids": ["arch/0.jpg"], "k": 1, "offset": 1000}, 400, "usage_error"),
        ({"ids": ["arch/0.jpg"], "k": 0}, 422, "invalid_request"),
        ({"ids": ["arch/0.jpg"], "k": 10**40}, 422, "invalid_request"),
        ({"ids": "arch/0.jpg"}, 422, "invalid_request"),
        ({"ids": [["arch/0.jpg"]]}, 422, "invalid_request"),
        ({"ids": [""]}, 422, "invalid_request"),
        ({"ids": ["\ud800"]}, 422, "invalid_request"),
        ({"ids": ["arch/0.jpg"], "labels": ["nowhere"]}, 400, "usage_error"),
        ({"ids": ["arch/0.jpg"], "labels": ["\ud800"]}, 422, "invalid_request"),
        ({"ids": ["arch/0.jpg"], "where": "label = '\ud800'"}, 422, "invalid_request"),
        ({"ids": ["arch/0.jpg"] * 65}, 422, "invalid_request"),
        ({"ids": ["arch/0.jpg"], "limit": 3}, 422, "invalid_request"),
        ({"vectors": [[1.0, 2.0]]}, 400, "usage_error"),
        ({"vectors": [[]]}, 400, "usage_error"),
        ({"vectors": [[0.0] * 1280]}, 400, "usage_error"),
        ({"vectors": [[1.0] * 1280, [1.0]]}, 400, "usage_error"),
        ({"vectors": [["x"] * 1280]}, 422, "invalid_request"),
        ({"vectors": [[1.0] * 1280, [-1.0] * 1280]}, 400, "usage_error"),
    ],
)
def test_a_wrong_search_is_refused(
    client: httpx.Client, wanted: dict[str, object], status: int, code: str
) -> None:
    answer = client.post(
        "/v1/search", content=json.dumps(wanted), headers={"Content-Type": "application/json"}
    )
    problem_in(answer, status, code)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_vectors_are_finite(client: httpx.Client, number: str) -> None:
    content = f'{{"vectors": [[{", ".join([number, *["1"] * 1279])}]]}}'
    answer = client.post("/v1/search", content=content, headers={"Content-Type": "application/json"})
    problem_in(answer, 400, "usage_error")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b"1" * 5000, b"[" * 100_000, b'{"k": ' + b"9" * 5000 + b"}"],
    ids=["none", "cut", "null", "list", "no-text", "long-number", "deep", "long-k"],
)
def test_json_that_is_none_is_refused(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/v1/search", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    problem_in(answer, answer.status_code, "bad_request" if answer.status_code == 400 else "invalid_request")


@pytest.mark.parametrize(
    "box",
    [
        "1,2,3",
        "a,b,c,d",
        "nan,0,5,5",
        "0,0,inf,5",
        "9,9,1,1",
        "0,0,0,0",
        "500,500,600,600",
        "1e300,0,1e301,5",
    ],
)
def test_a_wrong_box_is_refused(client: httpx.Client, box: str) -> None:
    answer = client.post("/v1/search/pictures", files=[("picture", photo(0))], data={"box": box})
    assert answer.status_code == 400
    problem_in(answer, 400, answer.json()["error"]["code"])


def test_forms_hold_what_they_should(client: httpx.Client) -> None:
    problem_in(client.post("/v1/search/pictures", files=[("minus", photo(0))]), 400, "usage_error")
    problem_in(
        client.post("/v1/search/pictures", files=[("picture", photo(0))], data={"box": ["", ""]}),
        400,
        "usage_error",
    )
    problem_in(client.post("/v1/search/pictures", files=[("picture", photo(0))] * 9), 422, "invalid_request")
    problem_in(client.post("/v1/search/pictures", data={"picture": "text"}), 422, "invalid_request")
    files = [("picture", photo(0))]
    problem_in(client.post("/v1/search/pictures", files=files, data={"k": "many"}), 422, "invalid_request")
    problem_in(client.post("/v1/search/pictures", files=[("other", photo(0))] * 1001), 400, "bad_request")
    headers = {"Content-Type": "multipart/form-data"}
    problem_in(client.post("/v1/search/pictures", content=b"x", headers=headers), 400, "bad_request")


def test_items_are_listed_in_pages(client: httpx.Client) -> None:
    found = client.get("/v1/items", params={"where": "year >= 1990", "offset": 2, "k": 3}).json()
    assert [item["id"] for item in found["items"]] == ["arch/2.jpg", "arch/3.jpg", "bridge/0.jpg"]
    assert found["total"] == 12
    assert "score" not in found["items"][0]
    found = client.get("/v1/items", params={"label": ["arch", "church"], "k": 1000}).json()
    assert found["total"] == 8
    assert client.get("/v1/items", params={"offset": 10**6}).json()["items"] == []
    problem_in(client.get("/v1/items", params={"k": 0}), 422, "invalid_request")
    problem_in(client.get("/v1/items", params={"where": "nope"}), 400, "usage_error")


@pytest.mark.parametrize("name", ODD_IDS)
def test_odd_ids_lead_to_their_items_and_pictures(client: httpx.Client, name: str) -> None:
    found = next(
        item for item in client.get("/v1/items", params={"k": 1000}).json()["items"] if item["id"] == name
    )
    assert found["extra"]["note"] == SCRIPT
    assert found["extra"]["rate"] is None  # JSON has no NaN
    assert client.get(f"/v1/items/{quote(name, safe='')}").json()["id"] == name
    for path in (found["picture"], found["thumbnail"]):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert Image.open(io.BytesIO(answer.content)).size == (96, 64)
    assert name in ids(search(client, ids=["arch/0.jpg"], k=1000))
    assert search(client, ids=[name], k=1)["hits"]


def test_answers_are_never_pages(client: httpx.Client) -> None:
    """Metadata that looks like HTML must not be taken for it, whoever opens the address."""
    answer = client.get(f"/v1/items/{quote(SCRIPT)}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    problem_in(client.get(f"/v1/items/{quote(SCRIPT)}x"), 404, "unknown_item")


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../x",
        "../../etc/passwd%00",
        "/etc/passwd",
        "%2e%2e/%2e%2e/etc/shadow",
        "arch/0.jpg/..",
        "0.jpg",
    ],
)
@pytest.mark.parametrize("kind", ["pictures", "thumbnails", "items"])
def test_ids_lead_to_items_only(client: httpx.Client, kind: str, path: str) -> None:
    for spelt in (path, quote(path, safe="%"), quote(path, safe="")):
        # Not by the client, which tidies paths up.
        request = f"GET /v1/{kind}/{spelt} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = raw(client, request.encode())
        assert answer.startswith(b"HTTP/1.1 404 "), answer
        assert b'"code":"unknown_item"' in answer


def test_pictures_are_made_anew(client: httpx.Client) -> None:
    answer = client.get("/v1/pictures/arch/0.jpg")
    assert b"where I live" not in answer.content
    assert not Image.open(io.BytesIO(answer.content)).getexif()
    assert Image.open(io.BytesIO(client.get("/v1/pictures/arch/0.jpg?side=32").content)).size == (32, 21)
    assert Image.open(io.BytesIO(client.get("/v1/pictures/church/3.jpg?boxed=true").content)).size == (64, 48)
    assert Image.open(io.BytesIO(client.get("/v1/thumbnails/arch/0.jpg?side=48").content)).size == (48, 32)
    for query in ("side=0", "side=4096", "side=x", "boxed=perhaps"):
        problem_in(client.get(f"/v1/pictures/arch/0.jpg?{query}"), 422, "invalid_request")
    problem_in(client.get("/v1/thumbnails/arch/0.jpg?side=1024"), 422, "invalid_request")


def test_pictures_that_are_known_are_not_sent_again(client: httpx.Client) -> None:
    answer = client.get("/v1/thumbnails/arch/0.jpg")
    again = client.get("/v1/thumbnails/arch/0.jpg", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/v1/thumbnails/arch/1.jpg", headers={"If-None-Match": answer.headers["etag"]}).content


@pytest.mark.parametrize("name", [GONE, TEXT, DRAWING])
def test_files_that_are_no_pictures_are_not_shown(client: httpx.Client, name: str) -> None:
    for kind in ("pictures", "thumbnails"):
        answer = client.get(f"/v1/{kind}/{name}")
        problem_in(answer, 404, "picture_missing")
        assert SECRET not in answer.content
    for data in ({"hit": name, "id": "arch/0.jpg"}, {"hit": "arch/0.jpg", "id": name}):
        message = problem_in(client.post("/v1/explain", data=data), 404, "picture_missing")
        assert "/" not in message  # no place on this machine


def test_explanations_add_up_to_the_score(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/explain", files=[("picture", photo(1))], data={"hit": "bridge/0.jpg", "box": "8,8,88,56"}
    )
    found = answer.json()
    for side in ("query", "hit"):
        assert np.sum(found[side]["shares"]) == pytest.approx(found["score"], abs=1e-4)
        assert (found[side]["width"], found[side]["height"]) == (96, 64)
        assert np.shape(found[side]["shares"]) == (found[side]["rows"], found[side]["columns"])
    assert found["query"]["box"] == [8, 8, 88, 56]
    assert found["error"] < 1e-4
    assert all(set(line) == {"query", "hit", "similarity", "distinct"} for line in found["lines"])
    drawn = client.post(
        "/v1/explain", data={"hit": "bridge/0.jpg", "id": "bridge/1.jpg"}, headers={"Accept": "image/png"}
    )
    assert Image.open(io.BytesIO(drawn.content)).format == "PNG"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        ({"hit": "arch/0.jpg"}, 400, "usage_error"),
        ({"hit": "nothing", "id": "arch/0.jpg"}, 404, "unknown_item"),
        ({"hit": "arch/0.jpg", "id": "nothing"}, 404, "unknown_item"),
        ({"hit": "arch/0.jpg", "id": "arch/1.jpg", "box": "1,1,9,9"}, 400, "usage_error"),
        ({"id": "arch/0.jpg"}, 422, "invalid_request"),
    ],
)
def test_an_explanation_needs_two_pictures(
    client: httpx.Client, data: dict[str, str], status: int, code: str
) -> None:
    problem_in(client.post("/v1/explain", data=data), status, code)


def test_the_page_is_there(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert client.get("/", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert client.head("/").status_code == 200
    assert client.get("/page/style.css").headers["content-type"] == "text/css; charset=utf-8"
    for path in (
        "/page/",
        "/page/nothing.js",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/docs",
        "/redoc",
        "/v1",
    ):
        problem_in(client.get(path), 404, "not_found")
    problem_in(client.put("/v1/search"), 405, "method_not_allowed")


def test_the_state_can_be_watched(client: httpx.Client) -> None:
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").text == "ready"
    client.get("/v1/items/arch/0.jpg")
    client.get("/never/heard/of")
    text = client.get("/metrics").text
    assert 'cfcd_requests_total{method="GET",route="/v1/items/{id}",status="200"}' in text
    assert 'route="other",status="404"' in text
    assert "never" not in text
    client.post("/v1/search/pictures", files=[("picture", ("a.jpg", b"none", "image/jpeg"))])
    client.get("/v1/gallery", headers={"Host": "evil.example"})
    text = client.get("/metrics").text
    assert 'cfcd_refused_uploads_total{reason="unreadable_picture"}' in text
    assert 'cfcd_refused_uploads_total{reason="foreign_host"}' in text
