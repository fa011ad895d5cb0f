from __future__ import annotations

from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.errors import CatalogError


def test_a_folder_stands_for_its_csv_then_its_parquet_then_its_pictures(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "1.jpg").write_bytes(b"")
    assert read_catalog(tmp_path).ids == ["label/1.jpg"]
    pq.write_table(pa.table({"path": ["p.jpg"]}), tmp_path / "catalog.parquet")
    assert read_catalog(tmp_path).ids == ["p.jpg"]
    (tmp_path / "catalog.csv").write_text("path\nc.jpg\n")
    catalog = read_catalog(tmp_path)
    assert catalog.ids == ["c.jpg"]
    assert (catalog.source, catalog.root) == (tmp_path / "catalog.csv", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photo.jpg", "Name the folder it lies in"),
        ("data.xlsx", r"DATA is a folder, a table \(.csv"),
        ("data", "''"),
    ],
)
def test_other_files_are_refused_with_what_is_read(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CatalogError, match=message):
        read_catalog(tmp_path / name)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"does not exist\. Check the spelling"):
        read_catalog(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "images", "labels"), [("landmarks_train", 1368, 23), ("landmarks_eval", 423, 7)]
)
def test_real_photos(shared_photos: Path, name: str, images: int, labels: int) -> None:
    catalog = read_catalog(shared_photos / name)
    assert (len(catalog), len(set(catalog.labels or ())), catalog.problems) == (images, labels, ())
    assert all(item.path.is_file() for item in catalog)
    walked = read_catalog(shared_photos / name / next(iter(catalog)).path.parent.name)
    assert len(walked) == (catalog.labels or []).count(catalog.labels[0] if catalog.labels else None)
