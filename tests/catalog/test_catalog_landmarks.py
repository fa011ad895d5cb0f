from __future__ import annotations

from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.errors import CatalogError

LONG = " ".join(f"{number:016x}" for number in range(9_000))  # longer than the csv module takes as a cell


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_train_clean(tmp_path: Path) -> None:
    file = write(tmp_path, "train_clean.csv", "landmark_id,images\n1,abc1 def2\n\n7,ffe0\n8,\nodd\n")
    catalog = read_catalog(file)
    assert [(item.id, item.label, item.row) for item in catalog] == [
        ("abc1", "1", 2),
        ("def2", "1", 2),
        ("ffe0", "7", 4),
    ]
    assert catalog.paths == ["train/a/b/c/abc1.jpg", "train/d/e/f/def2.jpg", "train/f/f/e/ffe0.jpg"]
    assert catalog[0].path == tmp_path / "train/a/b/c/abc1.jpg"
    assert (catalog.kind, catalog.splits) == ("gldv2", None)
    assert [(problem.kind, problem.row) for problem in catalog.problems] == [
        ("wrong-fields", 5),
        ("wrong-fields", 6),
    ]


def test_landmarks_with_thousands_of_images(tmp_path: Path) -> None:
    catalog = read_catalog(write(tmp_path, "train_clean.csv", f"landmark_id,images\n5,{LONG}\n"))
    assert len(catalog) == 9_000
    assert set(catalog.labels or ()) == {"5"}


def test_train_with_urls(tmp_path: Path) -> None:
    text = (
        'id,url,landmark_id\nabc1,"http://x/a,b.jpg",9\nxyz2,http://y,10\nabc1,http://z,9\nshort,http://z\n'
    )
    catalog = read_catalog(write(tmp_path, "train.csv", text))
    assert [(item.id, item.label, item.extra) for item in catalog] == [
        ("abc1", "9", {"url": "http://x/a,b.jpg"}),
        ("xyz2", "10", {"url": "http://y"}),
    ]
    found = [(problem.kind, problem.row) for problem in catalog.problems]
    assert found == [("duplicate-id", 4), ("wrong-fields", 5)]


@pytest.mark.parametrize(
    ("name", "header", "path"),
    [
        ("index.csv", "id", "index/a/b/c/abc1.jpg"),
        ("test.csv", "id", "test/a/b/c/abc1.jpg"),
        ("train.csv", "id", "train/a/b/c/abc1.jpg"),
        ("index_image_to_landmark.csv", "id,landmark_id", "index/a/b/c/abc1.jpg"),
        ("train.csv", "id,landmark_id", "train/a/b/c/abc1.jpg"),
    ],
)
def test_which_part_a_file_lists(tmp_path: Path, name: str, header: str, path: str) -> None:
    labelled = "landmark_id" in header
    catalog = read_catalog(write(tmp_path, name, f"{header}\nabc1{',3' * labelled}\n"))
    assert (catalog.paths, catalog.labels) == ([path], ["3"] if labelled else None)


def test_the_image_folder_decides_where_the_name_does_not(tmp_path: Path) -> None:
    file = write(tmp_path, "part.csv", "id\nabc1\n")
    with pytest.raises(CatalogError, match="not clear whether"):
        read_catalog(file)
    (tmp_path / "index").mkdir()
    assert read_catalog(file).paths == ["index/a/b/c/abc1.jpg"]


def test_the_root_may_be_the_folder_with_the_parts_or_the_part(tmp_path: Path) -> None:
    image = tmp_path / "gld/train/a/b/c/abc1.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"")
    file = write(tmp_path, "train_clean.csv", "landmark_id,images\n1,abc1\n")
    for root in (tmp_path / "gld", tmp_path / "gld/train"):
        assert read_catalog(file, root=root)[0].path == image


@pytest.mark.parametrize("name", ["../../etc", "ab", "a/b", "x y"])
def test_ids_that_are_no_ids(tmp_path: Path, name: str) -> None:
    catalog = read_catalog(write(tmp_path, "test.csv", f"id\n{name}\nabc1\n"))
    assert catalog.ids == ["abc1"]
    assert [(problem.kind, problem.row) for problem in catalog.problems] == [("bad-id", 2)]


def test_a_path_column_makes_it_an_ordinary_table(tmp_path: Path) -> None:
    catalog = read_catalog(write(tmp_path, "train.csv", "id,landmark_id,path\n1,2,a.jpg\n"))
    assert (catalog.kind, catalog.extra) == ("csv", {"landmark_id": ["2"]})


def test_no_images(tmp_path: Path) -> None:
    for name, header in (("train_clean.csv", "landmark_id,images"), ("index.csv", "id")):
        with pytest.raises(CatalogError, match="no images"):
            read_catalog(write(tmp_path, name, header + "\n"))
