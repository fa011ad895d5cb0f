"""Changes over HTTP: who may make them, and what becomes of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest

from cfcd.errors import UsageError
from cfcd.serving.tokens import read_token
from tests.serving.service_support import photo_bytes
from tests.serving.web_support import BEARER, SCRIPT, TOKEN, problem_in

PICTURE = ("picture", ("../../evil.php", photo_bytes(60), "text/html"))


def add(client: httpx.Client, row: object, **query: str) -> httpx.Response:
    content = row if isinstance(row, str) else json.dumps(row)
    return client.post("/v1/items", files=[PICTURE], data={"row": content}, headers=BEARER, params=query)


def files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_an_added_picture_is_found_until_it_is_removed(writable: httpx.Client, uploads: Path) -> None:
    before = writable.get("/v1/gallery").json()
    assert before["writable"] is True
    answer = add(writable, {"id": "new/one.jpg", "label": SCRIPT, "year": 2020, "city": None})
    assert answer.status_code == 201
    item = answer.json()
    assert (item["id"], item["label"], item["extra"]["year"]) == ("new/one.jpg", SCRIPT, 2020)
    assert writable.get(answer.headers["location"]).json()["id"] == "new/one.jpg"
    found = writable.post("/v1/search/pictures", files=[PICTURE], data={"k": "1"}).json()["hits"][0]
    assert (found["id"], found["score"]) == ("new/one.jpg", pytest.approx(1, abs=1e-3))
    assert writable.get(item["picture"]).headers["content-type"] == "image/jpeg"
    assert [file.suffix for file in files_in(uploads)] == [".jpg"]
    assert not list(uploads.parent.rglob("*evil*"))  # the name is the server's, whatever the sender called it

    problem_in(add(writable, {"id": "new/one.jpg"}), 409, "item_exists")
    again = add(writable, {"id": "new/one.jpg", "label": "other"}, replace="true")
    assert (again.status_code, again.json()["label"]) == (201, "other")

    removed = writable.delete("/v1/items/new/one.jpg", headers=BEARER)
    assert removed.json()["removed"] == 1
    assert removed.json()["generation"] > item["generation"]
    problem_in(writable.get("/v1/items/new/one.jpg"), 404, "unknown_item")
    problem_in(writable.delete("/v1/items/new/one.jpg", headers=BEARER), 404, "unknown_item")
    assert writable.get("/v1/gallery").json()["items"] == before["items"]


def test_a_picture_without_a_row_gets_an_id(writable: httpx.Client) -> None:
    answer = writable.post("/v1/items", files=[PICTURE], headers=BEARER)
    assert answer.status_code == 201
    assert writable.get(answer.json()["thumbnail"]).status_code == 200


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "null",
        "NaN",
        '{"year": NaN}',
        '{"year": 1e999}',
        "[" * 20_000,
        {"id": 3},
        {"id": ""},
        {"id": "../up.jpg"},
        {"id": "a\nb"},
        {"id": "\ud800"},
        {"label": ["a"]},
        {"path": "/etc/passwd"},
        {"Box": 3},
        {"tags": ["a", "b"]},
        {"year": 10**30},
        {"note": "\ud800"},
        {"\ud800": 1},
        {f"column{at}": at for at in range(100)},
    ],
    ids=lambda row: str(row)[:24],
)
def test_a_wrong_row_changes_nothing(writable: httpx.Client, uploads: Path, row: object) -> None:
    before = writable.get("/v1/gallery").json()["generation"], files_in(uploads)
    problem_in(add(writable, row), 400, "usage_error")
    assert (writable.get("/v1/gallery").json()["generation"], files_in(uploads)) == before


def test_a_wrong_picture_changes_nothing(writable: httpx.Client, uploads: Path) -> None:
    before = files_in(uploads)
    files = [("picture", ("a.jpg", b"<?php echo 1;", "image/jpeg"))]
    answer = writable.post("/v1/items", files=files, headers=BEARER)
    problem_in(answer, 400, "unreadable_picture")
    assert files_in(uploads) == before


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \u00e9",
    ],
)
def test_changes_need_the_token(writable: httpx.Client, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    for answer in (
        writable.delete("/v1/items/arch/0.jpg", headers=headers),
        writable.post("/v1/items", files=[PICTURE], headers=headers),
    ):
        problem_in(answer, 401, "no_token")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert writable.get("/v1/items/arch/0.jpg").status_code == 200


def test_changes_are_off_without_a_token(client: httpx.Client) -> None:
    problem_in(client.delete("/v1/items/arch/0.jpg", headers=BEARER), 403, "writes_off")
    problem_in(client.post("/v1/items", files=[PICTURE], headers=BEARER), 403, "writes_off")


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file, {}) == TOKEN
    assert read_token(None, {"CFCD_TOKEN": TOKEN}) == TOKEN
    assert read_token(None, {}) is None
    for wrong in ("", "short", f"{TOKEN} {TOKEN}", TOKEN + "\u00e9", TOKEN + "\x07"):
        file.write_text(wrong)
        with pytest.raises(UsageError, match="token"):
            read_token(file, {})
        with pytest.raises(UsageError, match="CFCD_TOKEN"):
            read_token(None, {"CFCD_TOKEN": wrong})
    file.write_bytes(os.urandom(32) + b"\xff")
    with pytest.raises(UsageError, match="UTF-8"):
        read_token(file, {})
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(tmp_path / "nothing", {})
