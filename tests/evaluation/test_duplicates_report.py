"""Duplicates as a table and as a page."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cfcd.catalog import Item
from cfcd.evaluation.duplicates_report import COLUMNS, size_words, summary_words, write_duplicates
from cfcd.gallery.duplicates.groups import Duplicate, Duplicates
from tests.support import make_photo


def duplicate(path: Path, kind: str, size: int = 1000, read: bool = True) -> Duplicate:
    likeness = 0.97 if kind == "near" else None
    return Duplicate(
        Item(path.name, path), kind, 0.912, likeness, 96 if read else None, 64 if read else None, size
    )


@pytest.fixture
def found(tmp_path: Path) -> Duplicates:
    for number in range(3):
        make_photo(number).save(tmp_path / f"{number}.png")
    groups = (
        (
            duplicate(tmp_path / "0.png", "kept"),
            duplicate(tmp_path / "<b>,é.png", "exact"),
            duplicate(tmp_path / "2.png", "near", 2_500_000),
        ),
        (duplicate(tmp_path / "1.png", "kept"), duplicate(tmp_path / "1.png", "near", read=False)),
    )
    return Duplicates(groups, (("x", "/x", "the file is missing"),), 1234, 0.85, 0.94, True, 1.0)


def test_the_table_has_every_picture(found: Duplicates, tmp_path: Path) -> None:
    files = write_duplicates(found, tmp_path / "out", title="Duplicates", shown=1)
    assert [file.name for file in files] == ["duplicates.csv", "duplicates.html"]
    with files[0].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["group"], row["rank"], row["kind"]) for row in rows] == [
        ("1", "1", "kept"),
        ("1", "2", "exact"),
        ("1", "3", "near"),
        ("2", "1", "kept"),
        ("2", "2", "near"),
    ]
    assert rows[1]["id"] == "<b>,é.png"
    assert (rows[2]["similarity"], rows[2]["likeness"], rows[2]["bytes"]) == ("0.912", "0.97", "2500000")
    assert rows[4]["width"] == ""


def test_the_page_shows_pictures_and_needs_nothing_else(found: Duplicates, tmp_path: Path) -> None:
    page = write_duplicates(found, tmp_path / "out", title="<Duplicates>")[1].read_text("utf-8")
    assert page.count("<img ") == 4
    assert "<b>" not in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "&lt;Duplicates&gt;" in page
    assert "Nothing was deleted." in page
    assert page.count('class="row"') == 2
    assert "every pair" in page
    one = write_duplicates(found, tmp_path / "out", title="t", shown=1)[1].read_text("utf-8")
    assert one.count('class="row"') == 1
    assert "1 more group in duplicates.csv" in one
    none = write_duplicates(found, tmp_path / "out", title="t", shown=0)[1].read_text("utf-8")
    assert "<img" not in none


def test_nothing_found_is_a_page_too(tmp_path: Path) -> None:
    found = Duplicates((), (), 7, 0.95, None, False, 0.1)
    files = write_duplicates(found, tmp_path, title="t")
    assert "No duplicates were found." in files[1].read_text("utf-8")
    assert files[0].read_text("utf-8").strip() == ",".join(COLUMNS)
    assert summary_words(found) == "0 groups: 0 of 7 pictures could go (0 exact, 0 near; 0 bytes)"


def test_a_summary_in_words(found: Duplicates) -> None:
    assert summary_words(found) == (
        "2 groups: 3 of 1,234 pictures could go (1 exact, 2 near; 2.5 MB); "
        "1 left out: no longer readable, or changed since indexed"
    )


def test_a_large_group_is_shown_in_part(tmp_path: Path) -> None:
    make_photo(0).save(tmp_path / "0.png")
    group = tuple(duplicate(tmp_path / "0.png", "near" if at else "kept") for at in range(20))
    found = Duplicates((group,), (), 20, 0.95, None, False, 0.1)
    page = write_duplicates(found, tmp_path, title="t")[1].read_text("utf-8")
    assert page.count("<img ") == 12
    assert "and 8 more" in page


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3 * 10**15, "3000.0 TB")],
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert size_words(count) == words
