"""Uploads as bad as they come: every one is refused in time, with a reason, and the next is served."""

from __future__ import annotations

import gc
import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests import picture_zoo as zoo
from tests.serving.service_support import photo_bytes
from tests.serving.web_support import SVG, problem_in, serving_site


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that tells this size, whatever it holds."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + zoo.chunk(b"IHDR", head) + zoo.chunk(b"IDAT", data) + zoo.chunk(b"IEND", b"")
    )


def png_bomb() -> bytes:
    """81 megapixels in 80 kilobytes, under the limit of bytes."""
    return png_of(9000, 9000, zlib.compress(bytes((3 * 9000 + 1) * 9000), 9))


def cut_jpeg() -> bytes:
    whole = photo_bytes(0)
    return whole[: len(whole) // 2]


def gif_of_many_frames() -> bytes:
    first = Image.new("P", (64, 64))
    out = io.BytesIO()
    first.save(
        out, "GIF", save_all=True, append_images=[Image.new("P", (64, 64), at) for at in range(1, 200)]
    )
    return out.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "unreadable_picture"),
    "one byte": (lambda: b"\xff", "unreadable_picture"),
    "text": (lambda: b"hello", "unreadable_picture"),
    "svg with a script": (lambda: SVG, "unreadable_picture"),
    "html": (lambda: b"<html><script>alert(1)</script>", "unreadable_picture"),
    "pdf": (lambda: b"%PDF-1.7\n", "unreadable_picture"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "unreadable_picture"),
    "zip": (lambda: b"PK\x03\x04" + bytes(100), "unreadable_picture"),
    "gzip of a photo": (lambda: gzip.compress(photo_bytes(0)), "unreadable_picture"),
    "pickle": (lambda: b"\x80\x04\x95cos\nsystem\n", "unreadable_picture"),
    "xml bomb": (lambda: b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "b">]>', "unreadable_picture"),
    "numpy file": (lambda: b"\x93NUMPY\x01\x00", "unreadable_picture"),
    "half a photo": (cut_jpeg, "truncated_picture"),
    "head of a png": (lambda: png_of(10, 10)[:20], "truncated_picture"),
    "damaged png": (zoo.damaged_png, "unreadable_picture"),
    "no pixels": (lambda: png_of(0, 0), "unreadable_picture"),
    "png bomb": (png_bomb, "picture_too_large"),
    "png of a size beyond all": (lambda: png_of(2**31 - 1, 2**31 - 1), "picture_too_large"),
    "jpeg": (zoo.huge_jpeg, "picture_too_large"),
    "webp": (zoo.huge_webp, "picture_too_large"),
    "avif": (zoo.huge_avif, "picture_too_large"),
    "bmp": (zoo.huge_bmp, "picture_too_large"),
    "jpeg 2000": (zoo.huge_jp2, "picture_too_large"),
    "tiff": (zoo.huge_tiff, "picture_too_large"),
}


@pytest.fixture(scope="module")
def asked(site: Path) -> Iterator[httpx.Client]:
    """Asks a service that reads a megapixel at most."""
    from cfcd.encoding import Reading
    from cfcd.pictures import PictureLimits

    reading = Reading(limits=PictureLimits(max_pixels=1_000_000))
    with serving_site(site, service={"reading": reading}) as client:
        yield client


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["/v1/search/pictures", "/v1/explain"])
def test_bad_pictures_are_refused_with_a_reason(asked: httpx.Client, path: str, name: str) -> None:
    make, code = BAD[name]
    # What the sender says of it must not matter.
    files = [("picture", ("<b>../../a.jpg", make(), "image/jpeg"))]
    answer = asked.post(path, files=files, data={"hit": "arch/0.jpg"} if path == "/v1/explain" else {})
    message = problem_in(answer, 413 if code == "picture_too_large" else 400, code)
    assert "a.jpg" not in message
    assert "/" not in message.replace("JPEG/", "")  # no place on this machine


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    written = io.BytesIO()
    pillow_heif.from_pillow(Image.open(io.BytesIO(photo_bytes(3)))).save(written)
    return written.getvalue()


@pytest.mark.parametrize(
    "make", [gif_of_many_frames, lambda: photo_bytes(3), heic], ids=["gif", "jpeg", "heic"]
)
def test_good_pictures_under_wrong_names_are_read(asked: httpx.Client, make: Callable[[], bytes]) -> None:
    files = [("picture", ("a.exe", make(), "application/x-msdownload"))]
    answer = asked.post("/v1/search/pictures", files=files, data={"k": "1"})
    assert answer.status_code == 200, answer.text


def test_one_bad_picture_spoils_the_query(asked: httpx.Client) -> None:
    good, bad = ("a.jpg", photo_bytes(0), "image/jpeg"), ("b.jpg", b"bad", "image/jpeg")
    for files in ([("picture", good), ("picture", bad)], [("picture", good), ("minus", bad)]):
        problem_in(asked.post("/v1/search/pictures", files=files), 400, "unreadable_picture")
    assert asked.post("/v1/search/pictures", files=[("picture", good)]).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x--\r\n",
        b"--x\r\n\r\n\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="picture"\r\n\r\nhello\r\n--x--\r\n',
        b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\nhello\r\n--x--\r\n',
        b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\nhello',
        b'--x\r\nContent-Disposition: form-data; name="k"\r\n\r\n\xff\xfe\r\n--x--\r\n',
        b'--x\r\nContent-Disposition: form-data; name="where"\r\n\r\n' + b"x" * 1_100_000 + b"\r\n--x--\r\n",
        b"--x\r\n" + b"A: b\r\n" * 10_000 + b"\r\n\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n\r\n' * 1500,
        b"\r\n" * 100_000,
    ],
    ids=[
        "empty",
        "start",
        "end",
        "bare",
        "text",
        "nameless",
        "cut",
        "no-text",
        "long",
        "headers",
        "parts",
        "lines",
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_broken_forms_are_refused(asked: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = asked.post("/v1/search/pictures", content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    problem_in(answer, answer.status_code, answer.json()["error"]["code"])
    assert asked.get("/healthz").text == "ok"
    gc.collect()  # the file of a part that is cut off is closed only now
