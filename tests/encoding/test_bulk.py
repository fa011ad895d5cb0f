from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfcd.catalog import read_catalog
from cfcd.encoding import encode_catalog, load_model, read_encoded
from cfcd.encoding.bulk import encode_items
from cfcd.encoding.shards import read_table, shard_numbers
from cfcd.errors import BusyError, EncodingError, IdentityMismatch, PictureError, TruncatedPicture
from cfcd.lock import only_writer
from cfcd.pictures import load_picture
from tests.support import make_photo


def test_a_catalog_becomes_shards_and_comes_back(photos: Path, tmp_path: Path) -> None:
    catalog = read_catalog(photos)
    encoder = load_model(precision="fp32")
    seen: list[tuple[int, int]] = []
    summary = encode_catalog(
        catalog, encoder, tmp_path / "out", shard_rows=5, progress=lambda *counts: seen.append(counts)
    )
    assert (summary.encoded, summary.already, summary.skipped) == (12, 0, ())
    assert seen[-1] == (12, 12)
    assert len(list((tmp_path / "out").glob("*.npy"))) == 3
    encoded = read_encoded(tmp_path / "out")
    assert list(encoded.catalog.ids) == list(catalog.ids)
    assert list(encoded.catalog.labels or ()) == list(catalog.labels or ())
    assert [item.path for item in encoded.catalog] == [item.path for item in catalog]
    assert encoded.catalog.splits is None
    expected = encoder.encode([item.path for item in catalog])
    assert np.allclose(encoded.descriptors, expected, atol=1e-6)
    assert encoded.stamps[0].size == catalog.file(0).stat().st_size
    assert encoded.model().identity == encoder.identity


def test_boxes_and_further_columns_survive(photos: Path, tmp_path: Path) -> None:
    table = photos / "table.csv"
    table.write_text(
        "path,label,city,x_1,y_1,x_2,y_2\narch/0.jpg,arch,Nice,10,10,60,50\nchurch/0.jpg,church,Aix,,,,\n"
    )
    encoder = load_model(precision="fp32")
    encode_catalog(read_catalog(table), encoder, tmp_path / "out")
    encoded = read_encoded(tmp_path / "out")
    assert encoded.catalog[0].box == (10, 10, 60, 50)
    assert encoded.catalog[1].box is None
    assert encoded.catalog[0].extra == {"city": "Nice"}
    crop = encoder.encode(photos / "arch/0.jpg", box=(10, 10, 60, 50))
    assert np.allclose(encoded.descriptors[0], crop[0], atol=1e-6)


def test_bad_files_are_skipped_named_and_tried_again(photos: Path, tmp_path: Path) -> None:
    bad = photos / "arch" / "1.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(b"no picture")
    encoder, out = load_model(), tmp_path / "out"
    summary = encode_catalog(read_catalog(photos), encoder, out)
    assert summary.encoded == 11
    with (out / "skipped.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["arch/1.jpg"]
    assert rows[0]["reason"]
    bad.write_bytes(whole)
    again = encode_catalog(read_catalog(photos), encoder, out)
    assert (again.encoded, again.already, again.skipped) == (1, 11, ())
    assert not (out / "skipped.csv").exists()
    assert sorted(read_encoded(out).catalog.ids) == sorted(read_catalog(photos).ids)


def test_a_folder_without_one_readable_picture_says_so(photos: Path, tmp_path: Path) -> None:
    for file in photos.rglob("*.jpg"):
        file.write_bytes(b"no picture")
    summary = encode_catalog(read_catalog(photos), load_model(), tmp_path / "out")
    assert summary.nothing_readable
    assert "none of the 12 pictures could be read" in summary.text()
    with pytest.raises(EncodingError, match=r"skipped\.csv"):
        read_encoded(tmp_path / "out")


def test_two_runs_cannot_write_to_one_folder(photos: Path, tmp_path: Path) -> None:
    catalog, encoder, out = read_catalog(photos), load_model(), tmp_path / "out"
    encode_catalog(catalog.select(range(5)), encoder, out)
    refused = []

    def second(done: int, total: int) -> None:
        with pytest.raises(BusyError) as caught:
            encode_catalog(catalog, encoder, out)
        refused.append(caught.value)

    assert encode_catalog(catalog, encoder, out, progress=second).encoded == 7
    assert len(refused) == 8
    assert len(read_encoded(out).catalog) == 12


def test_an_interrupted_first_start_can_be_repeated(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with only_writer(out):
        pass
    (out / ".encoding.json.77.tmp").write_bytes(b"{")
    assert encode_catalog(read_catalog(photos), load_model(), out).encoded == 12


def test_an_out_folder_that_cannot_be_made_is_named(photos: Path) -> None:
    file = photos / "arch" / "0.jpg"
    for out in (file, file / "below"):
        with pytest.raises(EncodingError, match=re.escape(str(file))):
            encode_catalog(read_catalog(photos), load_model(), out)


@pytest.mark.parametrize("decodes", [True, False])
def test_a_file_that_changes_while_it_is_read_is_skipped(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodes: bool
) -> None:
    busy = photos / "arch" / "1.jpg"

    def load_and_append(path: Path, **options: Any) -> Image.Image:
        picture = load_picture(path, **options)
        if path == busy:
            with path.open("ab") as file:
                file.write(b"more")
            if not decodes:
                raise TruncatedPicture("Only half of it was there.", "Copy it again.")
        return picture

    encoder, out = load_model(), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("cfcd.encoding.encoder.load_picture", load_and_append)
        summary = encode_catalog(read_catalog(photos), encoder, out)
    assert [item.id for item, _ in summary.skipped] == ["arch/1.jpg"]
    assert summary.skipped[0][1] == f"{busy} changed while it was read."
    assert encode_catalog(read_catalog(photos), encoder, out).encoded == 1


def test_a_file_deleted_while_it_is_read_is_skipped(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = photos / "arch" / "1.jpg"

    def load_and_delete(path: Path, **options: Any) -> Image.Image:
        picture = load_picture(path, **options)
        if path == gone:
            path.unlink()
        return picture

    monkeypatch.setattr("cfcd.encoding.encoder.load_picture", load_and_delete)
    results = list(encode_items(load_model(), read_catalog(photos)))
    errors = [result for _, result in results if isinstance(result, PictureError)]
    assert [error.what for error in errors] == [f"Cannot read {gone}: No such file or directory."]
    assert isinstance(errors[0].__cause__, FileNotFoundError)
    assert len(results) == 12


def test_another_precision_is_refused(photos: Path, tmp_path: Path) -> None:
    """Else rows made in bf16 would pass for fp32."""
    catalog, out = read_catalog(photos), tmp_path / "out"
    encode_catalog(catalog, load_model(precision="bf16", long_side=64), out)
    for other in ("fp32", "auto"):
        with pytest.raises(EncodingError, match=f"precision bf16, not {other}"):
            encode_catalog(catalog, load_model(precision=other, long_side=64), out)
    # Folders of before say nothing: the default then was the default now.
    settings = json.loads((out / "encoding.json").read_text())
    del settings["precision"]
    (out / "encoding.json").write_text(json.dumps(settings))
    assert encode_catalog(catalog, load_model(long_side=64), out).already == 12


def test_another_model_is_refused_by_both_names(photos: Path, tmp_path: Path) -> None:
    first, second = load_model(), load_model(long_side=64)
    encode_catalog(read_catalog(photos), first, tmp_path / "out")
    with pytest.raises(IdentityMismatch) as caught:
        encode_catalog(read_catalog(photos), second, tmp_path / "out")
    assert first.model.label in str(caught.value)
    assert second.model.label in str(caught.value)


def test_a_folder_that_holds_something_else_is_left_alone(photos: Path) -> None:
    with pytest.raises(EncodingError, match="no encoded folder"):
        encode_catalog(read_catalog(photos), load_model(), photos)


@pytest.mark.parametrize("damage", ["npy", "parquet", "json"])
def test_damage_is_named(photos: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    encode_catalog(read_catalog(photos), load_model(), out)
    file = next(out.glob(f"*.{damage}"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(EncodingError, match=file.name):
        read_encoded(out)


def rows_on_disk(out: Path) -> int:
    """Count rows as they lie in the shards, where a doubled one counts twice."""
    return sum(read_table(out, number, ["id"]).num_rows for number in shard_numbers(out))


_RUN = """
import sys
from cfcd import load_model, read_catalog
from cfcd.encoding import encode_catalog
encode_catalog(read_catalog(sys.argv[1]), load_model(precision="fp32"), sys.argv[2], shard_rows=4)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_runs_lose_and_double_nothing(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(120):
        make_photo(number).save(photos / f"{number:03d}.jpg")
    rng = np.random.default_rng(0)
    kills = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", _RUN, str(photos), str(out)])
        shards_before = len(list(out.glob("items-*.parquet")))
        # Kill a moment after the run has begun to finish shards of its own.
        while process.poll() is None and len(list(out.glob("items-*.parquet"))) < shards_before + 2:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.03)))
        if process.poll() is None and kills < 5:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.wait() == 0
        break
    assert kills >= 3
    assert rows_on_disk(out) == 120
    encoded = read_encoded(out)
    assert sorted(encoded.catalog.ids) == sorted(read_catalog(photos).ids)
    straight = load_model(precision="fp32").encode([item.path for item in encoded.catalog])
    assert np.allclose(encoded.descriptors, straight, atol=1e-5)
