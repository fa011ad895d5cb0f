from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd import pictures
from cfcd.catalog import IMAGE_SUFFIXES, read_catalog
from cfcd.catalog.paths import path_fault, suffix_of
from cfcd.errors import CatalogError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def rows(root: Path) -> list[tuple[str, str | None, str | None]]:
    catalog = read_catalog(root)
    assert catalog.ids == catalog.paths
    assert all(item.path == root / item.id for item in catalog)
    return [(item.id, item.label, item.split) for item in catalog]


def test_sub_folders_are_labels_nested_ones_with_slashes(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.PNG", "b/1.jpg", "a/x/1.webp", "a/0.heic", "loose.gif", "b/notes.txt")
    assert rows(tmp_path) == [
        ("a/0.heic", "a", None),
        ("a/x/1.webp", "a/x", None),
        ("b/1.jpg", "b", None),
        ("b/2.PNG", "b", None),
        ("loose.gif", None, None),
    ]
    catalog = read_catalog(tmp_path)
    assert (catalog.kind, catalog.source, catalog.root) == ("folder", tmp_path, tmp_path)
    assert catalog.problems == ()


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    catalog = read_catalog(str(tmp_path))
    assert catalog.labels is None
    assert catalog.splits is None


def test_relative_and_home_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "photos/1.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ("photos", "./photos/", "~/photos"):
        assert read_catalog(name)[0].path == tmp_path / "photos" / "1.jpg"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["Train/a/1.jpg", "Train/b/2.jpg", "valid/a/3.jpg", "test/c/d/4.jpg", "0.jpg"],
            # in the order of the paths: 0.jpg, Train/..., test/..., valid/...
            [(None, None), ("a", "train"), ("b", "train"), ("c/d", "test"), ("a", "val")],
        ),
        (["query/1.jpg", "gallery/a/2.jpg"], [("a", "gallery"), (None, "query")]),
        (["query/1.jpg", "index/2.jpg"], [(None, "index"), (None, "query")]),
        (["training/a/1.jpg", "testing/a/2.jpg"], [("a", "test"), ("a", "train")]),
        # One folder with the name of a split and nothing below is as likely a label.
        (["test/1.jpg", "test/2.jpg"], [("test", None), ("test", None)]),
        (["test/1.jpg", "tower/2.jpg"], [("test", None), ("tower", None)]),
    ],
)
def test_folders_named_like_splits(tmp_path: Path, names: list[str], expected: list[Any]) -> None:
    assert [row[1:] for row in rows(touch(tmp_path, *names))] == expected


def test_every_ending_that_can_be_decoded_is_found() -> None:
    assert IMAGE_SUFFIXES == pictures.IMAGE_SUFFIXES


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/._1.jpg", ".cache/2.jpg", ".3.jpg")
    assert [name for name, _, _ in rows(tmp_path)] == ["a/1.jpg"]


def test_every_folder_is_walked_once_however_it_is_linked(tmp_path: Path) -> None:
    root, outside = tmp_path / "photos", tmp_path / "outside"
    touch(root, "a/1.jpg", "b/2.jpg")
    touch(outside, "sub/3.jpg")
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "again").symlink_to(root / "b")
    (root / "link").symlink_to(outside)
    (root / "link2").symlink_to(outside)
    (outside / "sub" / "back").symlink_to(tmp_path)
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    (root / "b" / "file.jpg").symlink_to(outside / "sub" / "3.jpg")
    assert [(name, label) for name, label, _ in rows(root)] == [
        ("a/1.jpg", "a"),
        ("b/2.jpg", "b"),
        ("b/file.jpg", "b"),
        ("link/sub/3.jpg", "link/sub"),
    ]


@pytest.mark.parametrize("names", [[], ["readme.txt", "a/film.mp4"]])
def test_a_folder_without_pictures_is_an_error(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(CatalogError, match="holds no pictures"):
        read_catalog(touch(tmp_path, *names))


def test_things_left_out_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.CR2", "a/3.mp4", "labels.csv", "a/inner.csv", "notes.md")
    found = [(problem.kind, problem.fatal, problem.file) for problem in read_catalog(tmp_path).problems]
    assert found == [
        ("unused-table", False, "labels.csv"),
        ("unread-format", False, "a/2.CR2"),
        ("unread-format", False, "a/3.mp4"),
    ]


def test_names_that_are_not_utf8_are_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/été.jpg")
    try:
        (tmp_path / "a" / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    catalog = read_catalog(tmp_path)
    assert catalog.ids == ["a/1.jpg", "a/été.jpg"]
    (problem,) = catalog.problems
    assert (problem.kind, problem.fatal, problem.file) == ("bad-name", True, "a/\\udcff.jpg")


def test_folders_that_cannot_be_read_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    @contextmanager
    def guarded(folder: str) -> Iterator[Any]:
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied")
        with scandir(folder) as entries:
            yield entries

    monkeypatch.setattr(os, "scandir", guarded)
    catalog = read_catalog(tmp_path)
    assert catalog.ids == ["a/1.jpg"]
    assert [(problem.kind, problem.fatal, problem.file) for problem in catalog.problems] == [
        ("unreadable-folder", True, "b")
    ]
    with pytest.raises(CatalogError, match="Permission denied"):
        read_catalog(tmp_path / "b")


def test_a_root_makes_no_sense_for_a_folder_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="a root was given too"):
        read_catalog(touch(tmp_path, "1.jpg"), root=tmp_path)


@given(st.lists(st.sampled_from(["..", ".", "a", "b..c", "", "..."]), min_size=1, max_size=8))
def test_a_path_leaves_where_any_of_its_beginnings_does(parts: list[str]) -> None:
    beginnings = (os.path.normpath("/".join(["x", *parts[:end]])) for end in range(len(parts) + 1))
    leaves = any(beginning.split("/")[0] == ".." for beginning in beginnings)
    assert (path_fault("/".join(["x", *parts])) is not None) == leaves


@pytest.mark.parametrize("path", ["", "  ", "a\0b.jpg", "../a.jpg", "a/../../b.jpg", "\udc80.jpg"])
def test_faulty_paths(path: str) -> None:
    assert path_fault(path)


@pytest.mark.parametrize("path", ["a.jpg", "/x/../a.jpg", "a/../b.jpg", "..jpg", "a..b/c.jpg", "é.jpg"])
def test_good_paths(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.JPG", ".jpg"), ("a.tar.gz", ".gz"), ("jpg", ""), (".jpg", ""), ("a/b.c/d", "")]
)
def test_suffix_of(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
