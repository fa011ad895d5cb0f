"""Markdown reports: tables that stay tables, and texts that stay texts."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from cfcd.evaluation.markdown import markdown_of, plain, write_markdown


def one_section(*parts, title: str = "") -> str:
    return markdown_of(Document("T", "s", (Section(title, parts),))).split("s\n\n", 1)[1]


def test_a_whole_report_in_markdown():
    table = Table(
        ("class", "mAP, %", "B - A"), (("bridge", Bar(43.26), Bar(-1.0, signed=True)),), "1 hidden."
    )
    figure = Figure(
        "Curve", "<svg>no</svg>", "How to read.", Table(("k", "v"), (("1", "2.0"),)), hint="Point."
    )
    rows = (GridRow(GridCell(None, "q.jpg"), (GridCell(None, "h", 0.5, True),), "AP 1.0"),)
    document = Document(
        "Report",
        "model on data",
        (
            Section("", (Tiles((Tile("mAP", 77.74, 75.6, 79.75), Tile("R@1", 100.0))),)),
            Section(
                "Rest", (table, Figures((figure,)), Facts((("size", "320"),)), Grid(rows), Text(("Fin.",)))
            ),
        ),
    )
    assert markdown_of(document) == (
        "# Report\n\nmodel on data\n\n"
        "| measure, % | value | 95 % interval |\n"
        "| ---------- | ----: | ------------: |\n"
        "| mAP        |  77.7 |  75.6 to 79.8 |\n"
        "| R@1        | 100.0 |               |\n\n"
        "## Rest\n\n"
        "| class  | mAP, % | B - A |\n"
        "| ------ | -----: | ----: |\n"
        "| bridge |   43.3 |  -1.0 |\n\n"
        "1 hidden.\n\n"
        "### Curve\n\nHow to read.\n\n"
        "| k   |   v |\n| --- | --: |\n| 1   | 2.0 |\n\n"
        "- size: 320\n\n"
        "| query | result | hits shown   |\n"
        "| ----- | ------ | ------------ |\n"
        "| q.jpg | AP 1.0 | 1 of 1 right |\n\n"
        "Fin.\n"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the_great_wall/IMG_1.jpg", "the_great_wall/IMG_1.jpg"),
        ("_emphasis_", r"\_emphasis\_"),
        ("a|b", r"a\|b"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[x](http://evil)", r"\[x\](http://evil)"),
        ("p < 0.001", "p < 0.001"),
        ("&lt; b", "&amp;lt; b"),
        ("`*~#!$\\", r"\`\*\~\#\!\$" + "\\\\"),
        ("two\nlines\x1b[1m", "two\N{REPLACEMENT CHARACTER}lines\N{REPLACEMENT CHARACTER}\\[1m"),
    ],
)
def test_texts_stand_for_themselves(text: str, shown: str):
    assert plain(text) == shown


@settings(max_examples=500)
@given(st.text(), st.text())
def test_whatever_a_label_holds_a_table_keeps_its_cells(first: str, second: str):
    lines = one_section(Table(("one", "two"), ((first, second),))).strip("\n").split("\n")
    assert len(lines) == 3
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3
    assert "<" not in lines[2].replace("< ", "")
    cells = re.split(r"(?<!\\)(?:\\\\)*\|", lines[2])[1:3]
    # A reader takes a backslash before ASCII punctuation away (CommonMark, section 2.4), then entities.
    back = [html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell)).strip() for cell in cells]
    if first.isprintable() and second.isprintable():
        assert back == [first.strip(), second.strip()]


def test_a_file_is_written_whole(tmp_path):
    document = Document("Ünïcode", "s", ())
    write_markdown(document, tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text("utf-8") == "# Ünïcode\n\ns\n"
    assert [file.name for file in tmp_path.iterdir()] == ["report.md"]
