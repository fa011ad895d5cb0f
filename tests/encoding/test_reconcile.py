"""An encoded folder follows its catalog and its files, and every row's descriptor stays its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cfcd.catalog import Catalog, read_catalog
from cfcd.encoding import Encoded, Encoder, encode_catalog, load_model, read_encoded, shards
from cfcd.encoding import reconcile as module
from cfcd.encoding.shards import shard_numbers
from cfcd.errors import EncodingError
from tests.support import make_photo


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model(precision="fp32")


@pytest.fixture
def out(photos: Path, tmp_path: Path, encoder: Encoder) -> Path:
    """The 12 photos in the shards 0, 1 and 2."""
    encode_catalog(read_catalog(photos), encoder, tmp_path / "out", shard_rows=4)
    return tmp_path / "out"


def check(out: Path, catalog: Catalog, encoder: Encoder) -> Encoded:
    """The folder holds what encoding the catalog into a new one would give, and nothing is left to do."""
    encoded = read_encoded(out)
    assert sorted(encoded.catalog.ids) == sorted(catalog.ids)
    wanted = {item.id: item for item in catalog}
    for item, descriptor, stamp in zip(encoded.catalog, encoded.descriptors, encoded.stamps, strict=True):
        assert item == wanted[item.id]
        fresh = encoder.encode(item.path, box=item.box)[0]
        assert np.allclose(descriptor, fresh, atol=1e-5)
        assert stamp.size == item.path.stat().st_size
    before = files(out)
    assert encode_catalog(catalog, encoder, out).already == len(catalog)
    assert files(out) == before
    return encoded


def files(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in out.iterdir() if "-" in file.name}


def test_another_collection_is_refused_by_both_names(out: Path, tmp_path: Path, encoder: Encoder) -> None:
    other = tmp_path / "other"
    (other / "arch").mkdir(parents=True)
    make_photo(50).save(other / "arch" / "0.jpg")  # the same id as one in the folder
    before = files(out)
    with pytest.raises(EncodingError) as caught:
        encode_catalog(read_catalog(other), encoder, out)
    assert str(other) in caught.value.what
    assert str(tmp_path / "photos") in caught.value.what
    assert caught.value.mend == "Give another --out folder."
    assert files(out) == before


def test_a_changed_file_is_encoded_again(out: Path, photos: Path, encoder: Encoder) -> None:
    make_photo(77).save(photos / "arch" / "0.jpg")
    summary = encode_catalog(read_catalog(photos), encoder, out)
    assert (summary.encoded, summary.already) == (1, 11)
    check(out, read_catalog(photos), encoder)
    assert shard_numbers(out) == [1, 2, 3, 4]


def test_a_touched_file_is_encoded_again(out: Path, photos: Path, encoder: Encoder) -> None:
    os.utime(photos / "arch" / "0.jpg", (1, 1))
    assert encode_catalog(read_catalog(photos), encoder, out).encoded == 1
    check(out, read_catalog(photos), encoder)


def test_a_deleted_picture_leaves_the_folder(out: Path, photos: Path, encoder: Encoder) -> None:
    (photos / "bridge" / "2.jpg").unlink()
    untouched = (out / "descriptors-00000.npy").stat().st_mtime_ns
    summary = encode_catalog(read_catalog(photos), encoder, out)
    assert (summary.encoded, summary.already) == (0, 11)
    check(out, read_catalog(photos), encoder)
    assert shard_numbers(out) == [0, 2, 3]
    assert (out / "descriptors-00000.npy").stat().st_mtime_ns == untouched
    assert len(list(out.glob("*.npy"))) == 3


def test_a_shard_without_one_current_row_goes(out: Path, photos: Path, encoder: Encoder) -> None:
    for file in (photos / "bridge").iterdir():
        file.unlink()
    encode_catalog(read_catalog(photos), encoder, out)
    assert shard_numbers(out) == [0, 2]
    check(out, read_catalog(photos), encoder)


def test_a_file_that_went_missing_is_skipped(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    catalog, out = read_catalog(photos), tmp_path / "out"
    encode_catalog(catalog, encoder, out)
    (photos / "bridge" / "2.jpg").unlink()
    summary = encode_catalog(catalog, encoder, out)
    assert (summary.encoded, summary.already) == (0, 11)
    assert [item.id for item, _ in summary.skipped] == ["bridge/2.jpg"]
    assert "bridge/2.jpg" not in read_encoded(out).catalog.ids


def test_labels_and_further_columns_are_those_of_today(out: Path, photos: Path, encoder: Encoder) -> None:
    catalog = read_catalog(photos)
    labels = [*["tower"] * 4, *(catalog.labels or ())[4:]]
    renamed = replace(catalog, labels=labels)
    assert encode_catalog(renamed, encoder, out).already == 12
    check(out, renamed, encoder)
    assert shard_numbers(out) == [1, 2, 3]
    split = replace(renamed, splits=["train"] * 12, extra={"city": ["Aix"] * 12}, rows=list(range(2, 14)))
    assert encode_catalog(split, encoder, out).already == 12
    check(out, split, encoder)


def test_another_box_is_encoded_again(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    table, out = photos / "table.csv", tmp_path / "out"
    for box in ("10,10,60,50", "0,0,40,40", ",,,"):
        table.write_text(f"path,x_1,y_1,x_2,y_2\narch/0.jpg,{box}\nchurch/0.jpg,5,5,50,50\n")
        encode_catalog(read_catalog(table), encoder, out)
        check(out, read_catalog(table), encoder)


def test_the_same_table_over_another_root(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    table, out, other = tmp_path / "table.csv", tmp_path / "out", tmp_path / "other"
    table.write_text("path\narch/0.jpg\n")
    (other / "arch").mkdir(parents=True)
    make_photo(9).save(other / "arch" / "0.jpg")
    for root in (photos, other):
        assert encode_catalog(read_catalog(table, root=root), encoder, out).encoded == 1
        assert check(out, read_catalog(table, root=root), encoder).catalog.root == root


@pytest.mark.parametrize("step", ["after writing", "between the files"])
def test_killed_while_a_shard_is_rewritten(
    out: Path, photos: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The old shard is still there, or only its descriptors: nothing is lost, and the newest rows win."""
    make_photo(77).save(photos / "arch" / "0.jpg")
    relabelled = read_catalog(photos)
    relabelled = replace(relabelled, labels=["tower"] * 12)

    def die(folder: Path, number: int) -> None:
        if step == "between the files":
            (folder / f"items-{number:05d}.parquet").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "delete_shard", die)
        with pytest.raises(KeyboardInterrupt):
            encode_catalog(relabelled, encoder, out)
    encoded = read_encoded(out)
    assert len(encoded.catalog) == 12
    church = [item.label for item in encoded.catalog if item.id.startswith("church")]
    assert church == ["tower"] * 4  # the highest number wins over the old shard
    encode_catalog(relabelled, encoder, out)
    check(out, relabelled, encoder)
    assert len(list(out.glob("*.npy"))) == len(list(out.glob("*.parquet")))


def test_the_highest_number_wins(out: Path, photos: Path, encoder: Encoder) -> None:
    catalog = read_catalog(photos)
    encoded = read_encoded(out)

    def write(number: int, rows: Sequence[int], value: float) -> None:
        vectors = np.full((len(rows), encoder.dim), value, np.float32)
        stamps = [encoded.stamps[row] for row in rows]
        shards.write_shard(out, number, [catalog[row] for row in rows], stamps, vectors)

    write(7, (0, 5), 7.0)
    write(10, (5,), 10.0)
    both = read_encoded(out)
    assert sorted(both.catalog.ids) == sorted(catalog.ids)
    values = dict(zip(both.catalog.ids, both.descriptors[:, 0], strict=True))
    assert (values[catalog.ids[0]], values[catalog.ids[5]]) == (7.0, 10.0)
    assert values[catalog.ids[1]] == encoded.descriptors[1, 0]
    encode_catalog(catalog, encoder, out)
    kept = read_encoded(out)
    assert len(kept.catalog) == 12
    assert sum(shards.read_table(out, number).num_rows for number in shard_numbers(out)) == 12


def test_what_killed_runs_left_is_cleared(out: Path, photos: Path, encoder: Encoder) -> None:
    strays = [out / name for name in ("descriptors-00009.npy", ".items-00009.parquet.77.tmp")]
    for stray in strays:
        stray.write_bytes(b"half")
    encode_catalog(read_catalog(photos), encoder, out)
    assert not any(stray.exists() for stray in strays)
    check(out, read_catalog(photos), encoder)


_RELABEL = """
import sys
from dataclasses import replace
from cfcd import load_model, read_catalog
from cfcd.encoding import encode_catalog
catalog = replace(read_catalog(sys.argv[1]), labels=[sys.argv[3]] * 60)
summary = encode_catalog(catalog, load_model(precision="fp32"), sys.argv[2])
assert summary.encoded == 0
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_rewrites_lose_and_double_nothing(tmp_path: Path, encoder: Encoder) -> None:
    """New labels rewrite every shard; killed within that, all rows and their descriptors stay."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(60):
        make_photo(number).save(photos / f"{number:02d}.jpg")
    encode_catalog(read_catalog(photos), encoder, out, shard_rows=2)
    first = read_encoded(out)
    wanted = dict(zip(first.catalog.ids, first.descriptors, strict=True))
    killed_within = 0
    for label in "abcde":
        before = max(shard_numbers(out))
        process = subprocess.Popen([sys.executable, "-c", _RELABEL, str(photos), str(out), label])
        while process.poll() is None and max(shard_numbers(out)) < before + 3:
            time.sleep(0.0005)
        if label != "e":
            process.kill()
        assert process.wait() in {0, -signal.SIGKILL}
        found = read_encoded(out)
        assert sorted(found.catalog.ids) == sorted(wanted)
        for key, row in zip(found.catalog.ids, found.descriptors, strict=True):
            assert np.array_equal(row, wanted[key])
        labels = set(found.catalog.labels or ())
        assert label in labels
        killed_within += len(labels) > 1
    assert killed_within >= 1
    assert labels == {"e"}
    assert sum(shards.read_table(out, number).num_rows for number in shard_numbers(out)) == 60
    assert len(list(out.glob("*.npy"))) == len(shard_numbers(out)) == 30
