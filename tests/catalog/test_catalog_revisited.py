from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from cfcd.catalog import read_catalog
from cfcd.errors import CatalogError

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


def truth(**changes: Any) -> dict[str, Any]:
    return {
        "imlist": ["d1", "d2", "q1"],
        "qimlist": ["q1", "q2"],
        "gnd": [
            {"bbx": [1, 2.5, 30, 40], "easy": [0], "hard": [], "junk": [1]},
            {"bbx": [0, 0, 5, 5], "easy": [], "hard": [2], "junk": []},
        ],
        **changes,
    }


def write(folder: Path, value: Any, form: str) -> Path:
    file = folder / f"gnd_small.{form}"
    file.write_bytes(json.dumps(value).encode() if form == "json" else pickle.dumps(value, protocol=2))
    return file


@pytest.mark.parametrize("form", ["pkl", "json"])
def test_database_then_queries(tmp_path: Path, form: str) -> None:
    catalog = read_catalog(write(tmp_path, truth(), form))
    assert catalog.ids == ["d1", "d2", "q1", "query:q1", "query:q2"]
    assert catalog.paths == ["jpg/d1.jpg", "jpg/d2.jpg", "jpg/q1.jpg", "jpg/q1.jpg", "jpg/q2.jpg"]
    assert catalog.query_gallery() == ([3, 4], [0, 1, 2])
    assert catalog.boxes == [None, None, None, (1.0, 2.5, 30.0, 40.0), (0.0, 0.0, 5.0, 5.0)]
    assert catalog.extra == {"role": ["database"] * 3 + ["query"] * 2}
    assert list(catalog.rows or ()) == [1, 2, 3, 1, 2]
    assert (catalog.kind, catalog.labels, catalog.problems) == ("revisitop", None, ())


def test_where_the_images_lie(tmp_path: Path) -> None:
    file = write(tmp_path, truth(), "pkl")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "d2.jpg").write_bytes(b"")
    (tmp_path / "named" / "images").mkdir(parents=True)
    assert read_catalog(file, root=tmp_path / "flat").paths[0] == "d1.jpg"
    assert read_catalog(file, root=tmp_path / "named").paths[0] == "images/d1.jpg"
    (tmp_path / "jpg").mkdir()
    assert read_catalog(file)[0].path == tmp_path / "jpg" / "d1.jpg"


def test_names_with_an_ending_keep_it_and_queries_without_box_have_none(tmp_path: Path) -> None:
    value = truth(qimlist=["q1.png", "q2"], gnd=[{"easy": []}, {"bbx": None}])
    catalog = read_catalog(write(tmp_path, value, "json"))
    assert catalog.paths[3:] == ["jpg/q1.png", "jpg/q2.jpg"]
    assert catalog.boxes is None


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    value = truth(imlist=["d1", "../../x", "d1"], gnd=[{"bbx": [5, 5, 1, 1]}, {"bbx": [0, 0, 5, 5]}])
    catalog = read_catalog(write(tmp_path, value, "pkl"))
    assert catalog.ids == ["d1", "query:q2"]
    assert sorted((problem.kind, problem.row) for problem in catalog.problems) == [
        ("bad-box", 1),
        ("bad-path", 2),
        ("duplicate-id", 3),
    ]


@pytest.mark.parametrize("form", ["pkl", "json"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds a list"),
        (truth(imlist="d1"), "'imlist'"),
        (truth(qimlist=[1, 2]), "'qimlist'"),
        (truth(gnd={}), "no list 'gnd'"),
        (truth(gnd=[{}]), "2 queries but 1 in 'gnd'"),
        (truth(gnd=[{"bbx": [1, 2, 3]}, {}]), "not four numbers"),
        (truth(gnd=[{"bbx": [1, 2, 3, "4"]}, {}]), "not four numbers"),
        (truth(gnd=[{"bbx": [1, 2, 3, 10**400]}, {}]), "not four numbers"),
        ({"imlist": []}, "'qimlist'"),
    ],
)
def test_other_shapes(tmp_path: Path, form: str, value: Any, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        read_catalog(write(tmp_path, value, form))


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"\xff\xfe{", b'{"imlist": 1e'])
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(CatalogError, match="cannot be read as JSON"):
        read_catalog(tmp_path / "t.json")


@pytest.mark.parametrize(("name", "images", "queries"), [("roxford5k", 4993, 70), ("rparis6k", 6322, 70)])
def test_the_published_files(name: str, images: int, queries: int) -> None:
    file = GOLDEN / f"gnd_{name}.pkl"
    if not file.exists():
        pytest.skip("the published ground truth (shared/golden beside the repository) is not here")
    catalog = read_catalog(file)
    assert len(catalog) == images + queries
    assert catalog.query_gallery() == (list(range(images, images + queries)), list(range(images)))
    assert all(box is not None for box in (catalog.boxes or ())[images:])
    assert catalog.problems == ()
