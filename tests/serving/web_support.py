"""Serve a small gallery on loopback, and ask it as others do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from cfcd.catalog import Catalog, Item
from cfcd.gallery import Gallery
from cfcd.serving.app import make_app
from cfcd.serving.running import listen, make_server
from cfcd.serving.service import Service
from cfcd.serving.settings import Settings
from tests.serving.service_support import small_encoder
from tests.support import make_photo

TOKEN = "an-odd-token-of-32-characters-ok"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

# Ids and metadata as unkind as a catalog may hold them.
SCRIPT = "<script>alert(1)</script>.jpg"
ODD_IDS = (
    SCRIPT,
    "a b/\u00fc%2F?#&=;.jpg",
    "../../etc/passwd",
    "//twice.jpg",
    "line\nbreak.jpg",
    "%2e%2e/x",
    "\u202e.",
)
GONE, TEXT, DRAWING = "gone.jpg", "secret.jpg", "drawing.jpg"
SECRET = b"root:x:0:0: nobody is to read this"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def make_site(folder: Path) -> Path:
    """Make a gallery of 12 plain items with two columns, and some odd ones; gives its folder."""
    encoder = small_encoder()
    items, vectors = [], []
    for at in range(12):
        path = folder / f"{at}.jpg"
        photo = np.asarray(make_photo(at // 4), np.float32) * (0.7 + 0.1 * (at % 4))
        exif = Image.Exif()
        exif[0x010E] = "where I live"
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(path, quality=95, exif=exif)
        label = ("arch", "bridge", "church")[at // 4]
        extra = {"city": "Nice" if at % 2 else "Aix", "year": 1990 + at}
        box = (8.0, 8.0, 72.0, 56.0) if at == 11 else None
        items.append(Item(f"{label}/{at % 4}.jpg", path, label, "train", box=box, extra=extra))
    for at, name in enumerate(ODD_IDS):
        path = folder / f"odd{at}.png"
        make_photo(20 + at).save(path)
        items.append(Item(name, path, SCRIPT, None, extra={"note": SCRIPT, "rate": float("nan")}))
    (folder / "text").write_bytes(SECRET)
    (folder / "drawing.svg").write_bytes(SVG)
    for name, file in ((GONE, "nowhere"), (TEXT, "text"), (DRAWING, "drawing.svg")):
        items.append(Item(name, folder / file))
    for item in items:
        readable = item.path.suffix in (".jpg", ".png")
        vectors.append(encoder.encode(item.path if readable else make_photo(40), box=item.box)[0])
    made = folder / "gallery"
    with Gallery.create(made, encoder) as gallery:
        catalog = Catalog.from_items(items, source=folder, root=folder, kind="made-up")
        gallery.add(catalog, np.stack(vectors))
    return made


@contextmanager
def answering(service: Any, **settings: Any) -> Iterator[httpx.Client]:
    """Serve on a free port of loopback; gives a client of it."""
    chosen = Settings(**settings)
    opened = listen("127.0.0.1", 0)
    server = make_server(make_app(service, chosen), chosen)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        address = f"http://127.0.0.1:{opened.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=120, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        opened.close()


@contextmanager
def serving_site(
    folder: Path, *, service: Mapping[str, Any] | None = None, **settings: Any
) -> Iterator[httpx.Client]:
    """Serve a gallery folder."""
    with (
        closing(Service.open(folder, precision="fp32", **(service or {}))) as opened,
        answering(opened, **settings) as client,
    ):
        yield client


def problem_in(answer: httpx.Response, status: int, code: str) -> str:
    """Check that an answer is a problem of this kind, in the one shape that all have; gives its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"code", "message", "mend"}
    assert error["code"] == code, error
    assert error["message"].endswith(".")
    assert error["mend"].endswith(".")
    assert answer.headers["x-content-type-options"] == "nosniff"
    return str(error["message"])


def raw(client: httpx.Client, *pieces: bytes, pause: float = 0.0, patience: float = 30.0) -> bytes:
    """Send bytes as they are, and give what comes back until the connection closes or nothing more comes."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), patience) as connection:
        with suppress(ConnectionError):  # it may refuse to read on
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        found = b""
        while True:
            try:
                more = connection.recv(65536)
            except (TimeoutError, ConnectionError):
                return found
            if not more:
                return found
            found += more
