"""What the tests of the page share: a gallery to serve, and words for what people do in a browser."""

from __future__ import annotations

import base64
import mimetypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cfcd.catalog import read_catalog
from cfcd.demo.collection import build_collection
from cfcd.encoding import load_model
from cfcd.errors import MissingExtra
from cfcd.gallery import Gallery, calibrate

Page = Any
Open = Callable[..., Page]
SCRIPT = '<img src=x onerror="document.title=1">'
PHONE = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True}
RECORDER = """
    window.boxes = [];
    const { append } = FormData.prototype;
    FormData.prototype.append = function (name, value, ...more) {
        if (name === "box") boxes.push(value.split(",").filter(Boolean).map(Number));
        return append.call(this, name, value, ...more);
    };
"""
WAIT = 60_000  # milliseconds: machines may be busy
SIZE = "((one) => [one.naturalWidth, one.naturalHeight])(document.querySelector('.frame img'))"
PLACES = """[...document.querySelectorAll('#hits a')].map((one) => {
    const { x, y } = one.getBoundingClientRect();
    return [x, y];
})"""
# Shrunk first: reading millions of pixels takes a browser without a graphics card seconds.
PAINTED = """(id) => {
    const canvas = document.querySelector(`canvas#${id}, #${id} canvas`);
    if (!canvas.width || canvas.hidden) return 0;
    const small = new OffscreenCanvas(96, 96).getContext("2d");
    small.drawImage(canvas, 0, 0, 96, 96);
    const { data } = small.getImageData(0, 0, 96, 96);
    return data.filter((value, i) => i % 4 === 3 && value > 0).length / 96 ** 2;
}"""


def make_gallery(root: Path) -> None:
    """Make `root/photos` of 26 objects and a calibrated `root/gallery`, with script where only text belongs.

    Raises:
        MissingExtra: The photographs that packages ship are not installed.
    """
    photos = root / "photos"
    build_collection(photos, views=3, size=320)
    if not (photos / "cathedral").is_dir():
        raise MissingExtra("The package perception is not installed.", "scripts/test brings its photographs.")
    (photos / "coffee_cup" / "view_02.jpg").rename(photos / "coffee_cup" / f"{SCRIPT}.jpg")
    files = sorted(photos.rglob("*.jpg"))
    lines = ["path,label,kind,year,note"]
    for number, file in enumerate(files):
        label = file.parent.name
        kind = "building" if label in ("church", "cathedral", "pagoda", "fort") else "other"
        path, note = (str(one).replace('"', '""') for one in (file.relative_to(photos), SCRIPT))
        lines.append(f'"{path}",{label},{kind},{1990 + number},"{note if label == "coffee_cup" else ""}"')
    (photos / "catalog.csv").write_text("\n".join(lines), "utf-8")
    with Gallery.create(root / "gallery", load_model(precision="fp32")) as gallery:
        gallery.update(read_catalog(photos / "catalog.csv"))
        calibrate(gallery, precision=0.9)


@contextmanager
def serving(gallery: Path, log: Path) -> Iterator[str]:
    """Run `cfcd serve`; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cfcd", "serve", str(gallery), "--port", str(port)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/readyz", server, log)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:  # not there yet, or 503 while it loads
            time.sleep(0.1)
    pytest.fail(f"cfcd serve is not ready: {log.read_text()}")


@contextmanager
def visits(browser: Any, address: str) -> Iterator[Open]:
    """Give a function that opens the page, each time as another visitor.

    Afterwards the page must not have asked anyone else, nor said anything on the console but what fits
    the pattern `said`.
    """
    seen: list[tuple[str, str]] = []
    allowed: list[str] = []
    contexts = []

    def go(path: str = "", said: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        context.set_default_timeout(WAIT)
        context.add_init_script(RECORDER)
        page = context.new_page()
        page.on("console", lambda message: seen.append(("console", message.text)))
        page.on("pageerror", lambda error: seen.append(("error", str(error))))
        page.on("request", lambda request: seen.append(("request", request.url)))
        page.on("dialog", lambda dialog: seen.append(("dialog", dialog.message)))
        page.goto(address + path)
        page.wait_for_selector("#hits a, #problem:not([hidden])")
        if said:
            allowed.append(said)
        return page

    yield go
    for context in contexts:
        context.close()
    own = urlsplit(address).netloc
    foreign = [
        (what, text)
        for what, text in seen
        if not (what == "request" and (text.startswith(("blob:", "data:")) or urlsplit(text).netloc == own))
        and not any(re.search(pattern, text) for pattern in allowed)
    ]
    assert not foreign


def until(page: Page, condition: str, *values: Any) -> None:
    """Wait until an expression or function holds; Playwright's own way needs eval, which the page forbids."""
    for _ in range(WAIT // 50):
        if page.evaluate(condition, *values):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {condition}")


def keep(page: Page, name: str) -> None:
    """Keep a screenshot where CFCD_SCREENSHOTS names a folder."""
    if folder := os.environ.get("CFCD_SCREENSHOTS"):
        until(page, "[...document.images].every((one) => one.complete || one.loading === 'lazy')")
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def give(page: Page, kind: str, file: Path) -> None:
    """Drop or paste a file on the page, as the browser would."""
    page.evaluate(
        """([kind, name, type, text]) => {
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
            data.items.add(new File([bytes], name, { type }));
            const options = { bubbles: true, cancelable: true };
            if (kind === "paste") {
                document.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
                return;
            }
            for (const step of ["dragenter", "dragover", "drop"]) {
                document.body.dispatchEvent(new DragEvent(step, { ...options, dataTransfer: data }));
            }
        }""",
        [kind, file.name, mimetypes.guess_type(file.name)[0], base64.b64encode(file.read_bytes()).decode()],
    )


def scores(page: Page) -> list[float]:
    return [float(text) for text in page.locator("#hits .score").all_inner_texts()]


def search(page: Page, *files: Path) -> None:
    page.set_input_files("#pick", [str(file) for file in files])
    page.wait_for_selector("#hits .score")


def overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def sent_boxes(page: Page, searches: int) -> list[list[int]]:
    """Wait until that many pictures were sent, and give the box of each."""
    until(page, "(searches) => boxes.length >= searches", searches)
    boxes: list[list[int]] = page.evaluate("boxes")
    assert len(boxes) == searches
    return boxes


def hash_box(page: Page) -> list[int]:
    return [int(edge) for edge in parse_qs(urlsplit(page.url).fragment)["box"][0].split(",")]
