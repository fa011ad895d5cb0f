"""Galleries to other programs and back: what goes out comes in again, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfcd.catalog import Catalog, Item
from cfcd.errors import CfcdError, GalleryError, IdentityMismatch, UsageError
from cfcd.gallery import Gallery
from cfcd.gallery.exchange import exporting as exchange_export
from cfcd.gallery.exchange.exporting import export_gallery
from cfcd.gallery.exchange.importing import ImportSummary, import_descriptors
from cfcd.gallery.exchange.origin import Origin
from cfcd.gallery.truth.store import Store

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

DIM = 24
ORIGIN = Origin("test-identity", "test-model", "no-such-model", DIM, 320, (0.5, 1.0), 0)


def unit(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def items(count: int, first: int = 0) -> list[Item]:
    extras = ({"city": "Nice", "year": 1990, "odd": [1, "é"], "share": 1}, {"city": None, "share": 0.5}, {})
    return [
        Item(
            id=f"a/{at}.jpg",
            path=Path(f"/photos/a/{at}.jpg"),
            label=None if at % 3 == 0 else f"label {at % 5}",
            split=("train", None)[at % 2],
            is_query=(True, False, None)[at % 3],
            box=(1.0, 2.0, 30.5, 40.0) if at % 4 == 0 else None,
            row=at + 2,
            extra={"city": None, "year": None, "odd": None, "share": None, **extras[at % 3]},
        )
        for at in range(first, first + count)
    ]


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A gallery of 50 items from two sources that share ids."""
    folder = tmp_path / "full"
    Store.create(folder, ORIGIN.meta())
    with Gallery(folder) as gallery:
        for source, count, seed in (("/photos/one", 40, 1), ("/photos/two", 10, 2)):
            catalog = Catalog.from_items(items(count), source=Path(source), root=Path("/photos"), kind="test")
            gallery.add(catalog, unit(count, seed))
    return folder


def contents(folder: Path) -> tuple[list[Any], bytes]:
    with Gallery(folder) as gallery, gallery._store.reading():
        rows = [(one.source, one.key, one.item, one.stamp) for one in gallery._store.items()]
        vectors = b"".join(block.tobytes() for _, block in gallery._store.descriptors_above(0, gallery.dim))
    return list(rows), vectors


def bring(*arguments: object, **options: object) -> ImportSummary:
    return import_descriptors(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_a_round_trip_loses_nothing(
    full: Path, tmp_path: Path, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_export, "BLOCK", 8)
    monkeypatch.setattr(exchange_export, "PART_ROWS", 16)
    steps: list[tuple[int, int]] = []
    with Gallery(full) as gallery:
        summary = export_gallery(
            gallery, tmp_path / name, dtype=dtype, progress=lambda *step: steps.append(step)
        )
    assert steps[-1] == (50, 50)
    assert summary.items == 50
    assert all(file.is_file() for file in summary.files)
    found = bring(tmp_path / name, tmp_path / "copy")
    assert (found.added, found.changed, found.items) == (50, 0, 50)
    assert contents(tmp_path / "copy") == contents(full)
    with Gallery(tmp_path / "copy") as copy, Gallery(full) as original:
        assert (copy.identity, copy.model_label, copy.long_side, copy.scales) == (
            original.identity,
            original.model_label,
            320,
            (0.5, 1.0),
        )
        query = unit(1, 9)[0]
        assert [hit.id for hit in copy.search_vector(query)] == [
            hit.id for hit in original.search_vector(query)
        ]
    again = bring(tmp_path / name, tmp_path / "copy")
    assert (again.added, again.changed, again.unchanged) == (0, 0, 50)


def test_an_array_with_ids_keeps_ids_and_descriptors(full: Path, tmp_path: Path) -> None:
    with Gallery(full) as gallery:
        export_gallery(gallery, tmp_path / "d.npy")
        ids = [one.item.id for one in gallery._store.items()]
    assert (tmp_path / "d.ids.txt").read_text().splitlines() == ids
    array = np.load(tmp_path / "d.npy")
    assert array.dtype == np.float16
    bring(tmp_path / "d.npy", tmp_path / "copy")
    rows, vectors = contents(tmp_path / "copy")
    assert vectors == contents(full)[1] == array.tobytes()
    assert [row[2].id for row in rows] == ids
    (tmp_path / "d.ids.txt").write_text("\n".join(ids[:-1]))
    with pytest.raises(GalleryError, match=r"has 50 rows, and .* has 49"):
        bring(tmp_path / "d.npy", tmp_path / "other")


def test_the_parquet_file_is_of_use_to_others(full: Path, tmp_path: Path) -> None:
    with Gallery(full) as gallery:
        export_gallery(gallery, tmp_path / "g.parquet")
    table = pq.read_table(tmp_path / "g.parquet")
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert (kinds["city"], kinds["year"], kinds["share"], kinds["odd"]) == (
        "string",
        "int64",
        "double",
        "string",
    )
    assert table.schema.field("descriptor").type == pa.list_(pa.float16(), DIM)
    assert json.loads(table.schema.metadata[b"cfcd"])["identity"] == "test-identity"
    first = np.array(table["descriptor"][0].as_py(), np.float32)
    assert np.abs(first - unit(40, 1)[0]).max() < 1e-3


def test_the_folder_is_laid_out_for_autofaiss(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_export, "BLOCK", 2)
    monkeypatch.setattr(exchange_export, "PART_ROWS", 4)
    with Gallery(full) as gallery:
        export_gallery(gallery, tmp_path / "e", dtype="float32")
        with pytest.raises(GalleryError, match="not empty"):
            export_gallery(gallery, tmp_path / "e")
    arrays = sorted((tmp_path / "e" / "img_emb").iterdir())
    tables = sorted((tmp_path / "e" / "metadata").iterdir())
    # Readers sort names as text, and pair both lists.
    assert [file.name for file in arrays] == [f"img_emb_{part:02d}.npy" for part in range(13)]
    assert [file.name for file in tables] == [f"metadata_{part:02d}.parquet" for part in range(13)]
    joined = np.concatenate([np.load(file) for file in arrays])
    assert joined.dtype == np.float32
    assert joined.astype(np.float16).tobytes() == contents(full)[1]
    paths = [path for file in tables for path in pq.read_table(file)["image_path"].to_pylist()]
    assert paths == [str(row[2].path) for row in contents(full)[0]]
    (tmp_path / "e" / "metadata" / "metadata_07.parquet").unlink()
    with pytest.raises(GalleryError, match="Part 07"):
        bring(tmp_path / "e", tmp_path / "copy")
    (tmp_path / "e" / "img_emb" / "img_emb_07.npy").unlink()
    with pytest.raises(GalleryError, match="has 46 rows of 24 numbers, and was written with 50"):
        bring(tmp_path / "e", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_export_that_fails_leaves_nothing(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with Gallery(full) as gallery:
        for name in ("x.parquet", "x.npy", "x"):
            with pytest.raises(KeyboardInterrupt):
                export_gallery(gallery, tmp_path / name, progress=interrupt)
    assert sorted(tmp_path.iterdir()) == before


def foreign_table(count: int = 6, **columns: object) -> object:
    return pa.table(
        {
            "image_path": [f"p/{at}.jpg" for at in range(count)],
            "caption": [f"c{at}" for at in range(count)],
            "embedding": list(3 * unit(count)),
            **columns,
        }
    )


def test_foreign_descriptors_are_normalised_and_need_a_model(tmp_path: Path) -> None:
    file = tmp_path / "clip.parquet"
    pq.write_table(foreign_table(), file)
    with pytest.raises(UsageError, match="does not say which model"):
        bring(file, tmp_path / "g")
    with pytest.raises(IdentityMismatch, match="24 numbers per descriptor, and imagenet-lite0"):
        bring(file, tmp_path / "g", model="imagenet-lite0")
    assert not (tmp_path / "g").exists()
    summary = bring(file, tmp_path / "g", foreign="ViT-B-32", root="/pictures")
    assert (summary.added, summary.model) == (6, "ViT-B-32")
    with Gallery(tmp_path / "g") as gallery:
        hit = gallery.search_vector(unit(6)[2], k=1)[0]
        assert (hit.id, hit.item.path, hit.item.extra) == (
            "p/2.jpg",
            Path("/pictures/p/2.jpg"),
            {"caption": "c2"},
        )
        assert hit.score == pytest.approx(1, abs=1e-3)
        with pytest.raises(CfcdError, match="ViT-B-32"):
            _ = gallery.encoder
    assert bring(file, tmp_path / "g", foreign="ViT-B-32", root="/pictures").unchanged == 6
    with pytest.raises(IdentityMismatch, match="ViT-L-14"):
        bring(file, tmp_path / "g", foreign="ViT-L-14")


def test_a_changed_row_is_replaced_and_an_interrupted_import_goes_on(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfcd.gallery.exchange.reading.BLOCK", 8)
    with Gallery(full) as gallery:
        export_gallery(gallery, tmp_path / "g.parquet")

    def interrupt(done: int, total: int) -> None:
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(tmp_path / "g.parquet", tmp_path / "copy", progress=interrupt)
    with Gallery(tmp_path / "copy") as copy:
        assert len(copy) == 24
    summary = bring(tmp_path / "g.parquet", tmp_path / "copy")
    assert (summary.unchanged, summary.added) == (24, 26)
    assert contents(tmp_path / "copy") == contents(full)
    with Gallery(full) as gallery:
        catalog = Catalog.from_items(items(1), source=Path("/photos/one"), root=Path("/photos"), kind="test")
        gallery.add(catalog, unit(1, 77))
        export_gallery(gallery, tmp_path / "g.parquet")
    summary = bring(tmp_path / "g.parquet", tmp_path / "copy")
    assert (summary.changed, summary.unchanged) == (1, 49)
    copied, original = (
        sorted(contents(folder)[0], key=lambda row: row[:2]) for folder in (tmp_path / "copy", full)
    )
    assert copied == original


def bad_row(table: object, at: int, row: object) -> object:
    vectors = table["embedding"].to_pylist()  # type: ignore[index]
    vectors[at] = row
    return table.set_column(2, "embedding", pa.array(vectors))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: bad_row(t, 3, [float("nan")] * DIM), "row 4 of .* is zero or not finite"),
        (lambda t: bad_row(t, 1, [0.0] * DIM), "row 2 of .* is zero or not finite"),
        (lambda t: bad_row(t, 2, [1.0] * (DIM - 1)), "Row 3 of .* has 23 numbers, the first has 24"),
        (lambda t: bad_row(t, 5, None), "Row 6 of .* has 0 numbers"),
        (lambda t: t.append_column("id", pa.array(list("abcabd"))), "id 'a' in rows 1 and 4"),
        (lambda t: t.append_column("id", pa.array(["a", None, *"cdef"])), "a row without id"),
        (lambda t: t.drop_columns(["image_path"]), "no column id, path or image_path"),
        (lambda t: t.drop_columns(["embedding"]), "no column of descriptors by a usual name"),
        (lambda t: t.rename_columns(["image_path", "embedding", "x"]), "'embedding' of string"),
        (lambda t: t.slice(0, 0), "holds no rows"),
    ],
)
def test_data_with_a_fault_change_nothing(
    tmp_path: Path, spoil: Callable[[object], object], message: str
) -> None:
    file = tmp_path / "bad.parquet"
    pq.write_table(spoil(foreign_table()), file)
    with pytest.raises(CfcdError, match=message):
        bring(file, tmp_path / "g", foreign="x")
    assert not (tmp_path / "g").exists()


def test_rows_whose_path_strays_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(foreign_table(path=["a", "../b", "c", "d", "e", "f"]), file)
    summary = bring(file, tmp_path / "g", foreign="x")
    assert summary.added == 5
    assert [row for row, _ in summary.skipped] == [2]
    with Gallery(tmp_path / "g") as gallery:
        assert gallery.search_vector(unit(6)[3], k=1)[0].item.path == tmp_path / "d"


def test_the_model_is_checked(full: Path, tmp_path: Path) -> None:
    with Gallery(full) as gallery:
        export_gallery(gallery, tmp_path / "g.parquet")
    with pytest.raises(IdentityMismatch, match="was made by test-model"):
        bring(tmp_path / "g.parquet", tmp_path / "copy", model="imagenet-lite0")
    with pytest.raises(UsageError, match="says itself that test-model"):
        bring(tmp_path / "g.parquet", tmp_path / "copy", foreign="other")
    Store.create(tmp_path / "other", {**ORIGIN.meta(), "identity": "another"})
    with pytest.raises(IdentityMismatch, match="Import into a new folder"):
        bring(tmp_path / "g.parquet", tmp_path / "other")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(GalleryError, match="is no gallery"):
        bring(tmp_path / "g.parquet", tmp_path / "used")


@pytest.mark.parametrize("size", [0, 100, -8])
def test_damaged_files_are_errors(full: Path, tmp_path: Path, size: int) -> None:
    with Gallery(full) as gallery:
        export_gallery(gallery, tmp_path / "g.parquet")
        export_gallery(gallery, tmp_path / "g.npy")
    for name in ("g.parquet", "g.npy"):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(GalleryError, match="cannot be read"):
            bring(file, tmp_path / "copy")
    (tmp_path / "g.cfcd.json").write_text("{}")
    with pytest.raises(GalleryError, match="of its model cannot be read"):
        bring(tmp_path / "g.npy", tmp_path / "copy")
    shutil.rmtree(tmp_path / "full")
    with pytest.raises(GalleryError, match=r"holds no descriptors that cfcd can read"):
        bring(tmp_path / "absent.txt", tmp_path / "copy")


def test_an_empty_gallery_is_not_exported(tmp_path: Path) -> None:
    Store.create(tmp_path / "empty", ORIGIN.meta())
    with Gallery(tmp_path / "empty") as gallery:
        with pytest.raises(GalleryError, match="nothing to export"):
            export_gallery(gallery, tmp_path / "g.parquet")
        with pytest.raises(UsageError, match="dtype"):
            export_gallery(gallery, tmp_path / "g.parquet", dtype="int8")
