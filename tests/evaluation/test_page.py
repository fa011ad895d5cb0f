"""HTML reports: everything in them is in the file, and texts stay texts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from cfcd.evaluation import plots
from cfcd.evaluation.cells import GridCell, GridRow
from cfcd.evaluation.document import (
    Bar,
    Document,
    Facts,
    Figure,
    Figures,
    Grid,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
)
from cfcd.evaluation.page import write_page

NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)>&"\''
VOID = {"meta", "img", "br"}
DRAWING = {"svg", "rect", "line", "path", "circle", "polyline", "text", "g", "title"}


class Reader(HTMLParser):
    """Collect tags, attributes and text, and check that tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in DRAWING
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def document(text: str, picture: Image.Image | Path | None = None) -> Document:
    curve = plots.Curve(text, tuple((float(r), 50.0) for r in range(101)))
    table = Table(
        (text, "mAP, %", "B - A"),
        ((text, Bar(12.34), Bar(5.0, signed=True)), ("x", "-", Bar(-10, signed=True))),
        text,
    )
    svg = plots.precision_recall_plot([curve])
    figures = Figures(
        (Figure(text, svg, text, table), Figure("wide", svg, "n.", table, "wide", "Point at it."))
    )
    grid = Grid((GridRow(GridCell(picture, text), (GridCell(picture, text, 0.5, True),), text),))
    return Document(
        text,
        text,
        (
            Section("", (Tiles((Tile(text, 77.7, 75.6, 79.8), Tile("R@1", 98.0))),)),
            Section(text, (figures, table, Facts(((text, text),)), Text((text,)))),
            Section("first grid", (grid,)),
            Section("second grid", (grid,)),
        ),
    )


def written(tmp_path: Path, text: str, picture: Image.Image | Path | None = None) -> str:
    write_page(document(text, picture), tmp_path / "report.html")
    return (tmp_path / "report.html").read_text("utf-8")


def test_markup_in_texts_is_shown_and_not_run(tmp_path: Path):
    page = written(tmp_path, NASTY)
    reader = Reader(page)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert not [attrs for _, attrs in reader.tags if any(name.startswith("on") for name in attrs)]
    assert not [attrs for tag, attrs in reader.tags if tag == "img" and attrs.get("src") == "x"]
    assert "".join(reader.text).count(NASTY) >= 12


def test_a_page_says_what_a_pointer_shows(tmp_path: Path):
    assert "<figcaption>n. Point at it.<details>" in written(tmp_path, "plain")


def test_nothing_is_fetched(tmp_path: Path):
    page = written(tmp_path, "plain", Image.new("RGB", (40, 30), "red"))
    reader = Reader(page)
    assert not re.search(r"https?://|url\(|@import", page)
    sources = [attrs["src"] or "" for _, attrs in reader.tags if "src" in attrs]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not [attrs for _, attrs in reader.tags if "href" in attrs]
    policy = next(a["content"] for _, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_ids_occur_once(tmp_path: Path):
    reader = Reader(written(tmp_path, "plain"))
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) == 2
    named = [attrs["aria-labelledby"] for _, attrs in reader.tags if "aria-labelledby" in attrs]
    assert named == ids


def test_control_characters_and_lone_surrogates_are_replaced(tmp_path: Path):
    page = written(tmp_path, "a\x00b\x1b[1m\udcff")
    assert "\x00" not in page
    assert "\x1b" not in page
    assert "a\N{REPLACEMENT CHARACTER}b" in page


def test_numbers_are_beside_their_bars(tmp_path: Path):
    page = written(tmp_path, "plain")
    text = " ".join("".join(Reader(page).text).split())
    assert "77.7%" in text
    assert "95 %: 75.6 to 79.8" in text
    cells = re.findall(r'<td class="barred">(.*?)</td>', page)
    assert {re.sub(r"<.*?>", "", cell) for cell in cells} == {"12.3", "+5.0", "-10.0"}
    # The largest change takes half of the room, half of it a quarter.
    wide = {re.sub(r"<.*?>", "", c): re.findall(r'width="([\d.]+)"', c)[1] for c in cells}
    assert wide == {"12.3": "12.34", "+5.0": "25", "-10.0": "50"}


def test_pictures_that_are_gone_become_tiles_with_a_reason(tmp_path: Path):
    page = written(tmp_path, "plain", tmp_path / "gone.jpg")
    assert "<img" not in page
    assert page.count('class="reason"') == 4
    assert "gone.jpg" in page


@pytest.mark.parametrize("name", ["deep/er/report.html"])
def test_folders_are_made(tmp_path: Path, name: str):
    write_page(Document("t", "s", ()), tmp_path / name)
    assert (tmp_path / name).read_text("utf-8").startswith("<!DOCTYPE html>")
