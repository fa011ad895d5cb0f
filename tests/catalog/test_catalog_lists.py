from __future__ import annotations

from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.catalog.lists import split_line
from cfcd.errors import CatalogError


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a/1.jpg arch", "a/1.jpg", "arch"),
        ("a/1.jpg   3", "a/1.jpg", "3"),
        ("a/1.jpg", "a/1.jpg", None),
        ("my photo.JPG", "my photo.JPG", None),
        ("my photo.jpg arch", "my photo.jpg", "arch"),
        ("a.jpg\tTriumphal Arch", "a.jpg", "Triumphal Arch"),
        ("my photo\tarch\tbig", "my photo", "arch\tbig"),
        ("a.jpg\t", "a.jpg", None),
        ("without_ending", "without_ending", None),
        ("without_ending 7", "without_ending", "7"),
    ],
)
def test_split_line(line: str, path: str, label: str | None) -> None:
    assert split_line(line) == (path, label)


def test_lists_skip_comments_and_count_lines(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes("\ufeff# my list\r\n\r\n1.jpg a\r\n  2.jpg b  \r\n../3.jpg a\r\n1.jpg a\r\n".encode())
    catalog = read_catalog(file)
    assert [(item.id, item.label, item.row) for item in catalog] == [("1.jpg", "a", 3), ("2.jpg", "b", 4)]
    found = [(problem.kind, problem.row) for problem in catalog.problems]
    assert found == [("bad-path", 5), ("duplicate-id", 6)]
    assert (catalog.kind, catalog[0].path) == ("list", tmp_path / "1.jpg")


def test_lists_without_labels_and_empty_lists(tmp_path: Path) -> None:
    file = tmp_path / "list.lst"
    file.write_text("1.jpg\n2.jpg\n")
    assert read_catalog(file).labels is None
    for empty in ("", "\n\n# nothing\n"):
        file.write_text(empty)
        with pytest.raises(CatalogError, match="lists no pictures"):
            read_catalog(file)
