from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from cfcd.evaluation import GridCell, GridRow, write_grid_html

NASTY = "<script>alert('x')</script> & \"quoted\" 'name'"


class Page(HTMLParser):
    """Collect what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str, css_class: str | None = None) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and (css_class is None or a.get("class") == css_class)]


@pytest.fixture
def rows(tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (640, 480), "teal").save(photo)
    query = GridCell(photo, "bridge/query.jpg")
    hits = (
        GridCell(photo, NASTY, 0.91234, True),
        GridCell(Image.new("L", (10, 10)), "tower", 0.5, False),
        GridCell(tmp_path / "missing.jpg", "lost", 0.4, False),
        GridCell(None, "unknown", 0.3),
    )
    return [GridRow(query, hits, "AP 43.1"), GridRow(GridCell(photo, "lonely"), ())]


@pytest.fixture
def page(rows, tmp_path) -> Page:
    write_grid_html(
        rows, tmp_path / "new" / "results.html", title=f"Title {NASTY}", subtitle=NASTY, thumb=100
    )
    page = Page((tmp_path / "new" / "results.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_page_asks_nothing_of_anybody(page, tmp_path):
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"href", "srcset", "style"})
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    text = (tmp_path / "new" / "results.html").read_text(encoding="utf-8")
    assert "url(" not in text and "@import" not in text and "//" not in text.split("<main>")[0]
    [policy] = [m for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none'")


def test_captions_are_text_never_markup(page):
    assert page.text.count(NASTY) == 4  # title, heading, subtitle, caption
    assert page.all("figure", "right")[0]["title"] == NASTY


def test_right_and_wrong_differ_by_mark_and_word_not_only_by_colour(page, rows):
    assert [len(page.all("figure", kind)) for kind in ("query", "right", "wrong", "unknown")] == [2, 1, 2, 1]
    assert len(page.all("svg", "badge")) == 3
    spoken = [image["alt"] for image in page.all("img")]
    assert spoken == [
        "Query: bridge/query.jpg",
        f"Hit 1: {NASTY}, score 0.912, right",
        "Hit 2: tower, score 0.500, wrong",
        "Query: lonely",
    ]
    reasons = page.all("div", "reason")
    assert [r["aria-label"] for r in reasons] == [
        "Hit 3: lost, score 0.400, wrong",
        "Hit 4: unknown, score 0.300, no label to judge by",
    ]
    assert "missing.jpg" in page.text and "no picture" in page.text
    assert "AP 43.1" in page.text and "1 of 3 right" in page.text and "no hits" in page.text


def test_embedded_pictures_are_small_jpegs(page):
    for image in page.all("img"):
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
        picture.load()
        assert picture.format == "JPEG"
        assert max(picture.size) <= 150


def test_legend_names_the_frames_that_occur(tmp_path):
    def legend(correct: bool | None) -> list[str]:
        path = tmp_path / "grid.html"
        write_grid_html(
            [GridRow(GridCell(None, "q"), (GridCell(None, "h", 0.5, correct),))], path, title="Found"
        )
        return [a["class"] for a in Page(path.read_text("utf-8")).all("span") if "swatch" in a["class"]]

    assert legend(True) == ["swatch query", "swatch right"]
    assert legend(None) == ["swatch query", "swatch unknown"]


def test_nothing_to_show_is_said(tmp_path):
    write_grid_html([], tmp_path / "empty.html", title="Nothing")
    assert "No queries to show." in Page((tmp_path / "empty.html").read_text("utf-8")).text


def test_file_names_that_are_no_unicode_do_not_stop_it(tmp_path):
    write_grid_html([GridRow(GridCell(None, "bad\udcffname"), ())], tmp_path / "odd.html", title="Odd")
    assert "bad?name" in (tmp_path / "odd.html").read_text("utf-8")


def test_a_failed_write_leaves_the_old_page_and_no_litter(rows, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    write_grid_html(rows, folder / "results.html", title="Old")
    old = (folder / "results.html").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_grid_html(rows, folder / "results.html", title="New")
    assert (folder / "results.html").read_bytes() == old
    assert [p.name for p in folder.iterdir()] == ["results.html"]


def test_same_input_gives_the_same_bytes(rows, tmp_path):
    for name in ("a.html", "b.html"):
        write_grid_html(rows, tmp_path / name, title="Twice")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
