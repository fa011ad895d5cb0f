from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.encoding import Reading
from cfcd.encoding.preprocess import to_pixels
from cfcd.model import Preprocessing
from cfcd.pictures import load_picture
from cfcd.training.batches import CleanBatch, clean_batches, decode_ahead
from tests.support import make_photo

PREPROCESSING = Preprocessing("RGB", (127.0,) * 3, (128.0,) * 3, "bilinear", 48, 16)
SIZES = ((96, 64), (64, 96), (90, 90), (48, 20), (200, 133))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """40 photos of 5 sizes; row 4 has a box, row 6 is damaged, row 9 is missing, row 11 is truncated."""
    items = []
    for row in range(40):
        path = tmp_path / f"{row}.jpg"
        make_photo(row, SIZES[row * row % 5]).save(path)
        items.append(Item(str(row), path, box=(10.0, 5.0, 50.0, 35.0) if row == 4 else None))
    (tmp_path / "6.jpg").write_bytes(b"no picture")
    (tmp_path / "9.jpg").unlink()
    whole = (tmp_path / "11.jpg").read_bytes()
    (tmp_path / "11.jpg").write_bytes(whole[: len(whole) // 2])
    return Catalog.from_items(items, source=tmp_path, root=tmp_path, kind="table")


def pixels_of(catalog: Catalog, row: int) -> np.ndarray:
    item = catalog[row]
    picture = load_picture(item.path, box=item.box, long_side=48, allow_truncated=True)
    return to_pixels(picture, PREPROCESSING, 1.0)


def contents(batches: Iterator[CleanBatch]) -> list[tuple[list[int], bytes]]:
    return [(batch.rows.tolist(), batch.pixels.tobytes()) for batch in batches]


def test_every_readable_row_once_as_the_encoder_sees_it(catalog: Catalog) -> None:
    unreadable: dict[int, str] = {}
    rows = [*range(39, 10, -1), *range(10)]  # in any order; row 10 is not asked for
    seen = []
    for batch in clean_batches(catalog, rows[1:], PREPROCESSING, unreadable=unreadable, batch=3, window=16):
        assert batch.pixels.dtype == np.uint8
        assert batch.rows.dtype == np.int64
        assert 1 <= len(batch.rows) == len(batch.pixels) <= 3
        for row, pixels in zip(batch.rows.tolist(), batch.pixels, strict=True):
            assert np.array_equal(pixels, pixels_of(catalog, row))
        seen += batch.rows.tolist()
    assert sorted([*seen, *unreadable]) == sorted(rows[1:])
    assert set(unreadable) == {6, 9, 11}
    assert "no such file" in unreadable[9]
    assert pixels_of(catalog, 4).shape == (32, 32, 3)  # the box of 40 x 30; the whole picture is 96 x 64


def slow_batches(catalog: Catalog, rows: list[int], window: int, batch: int) -> list[list[int]]:
    found = []
    for start in range(0, len(rows), window):
        shapes: dict[tuple[int, ...], list[int]] = {}
        for row in rows[start : start + window]:
            if row not in {6, 9, 11}:
                shapes.setdefault(pixels_of(catalog, row).shape, []).append(row)
        for shape in sorted(shapes):
            same = sorted(shapes[shape])
            found += [same[at : at + batch] for at in range(0, len(same), batch)]
    return found


@pytest.mark.parametrize(("window", "batch"), [(7, 2), (16, 4), (256, 32), (1, 1)])
def test_windows_and_batches_are_those_of_the_slow_reference(
    catalog: Catalog, window: int, batch: int
) -> None:
    rows = list(reversed(range(40)))
    batches = clean_batches(catalog, rows, PREPROCESSING, unreadable={}, window=window, batch=batch)
    assert [batch.rows.tolist() for batch in batches] == slow_batches(catalog, rows, window, batch)


@pytest.mark.parametrize("processes", [2, 3, 10])
def test_processes_share_the_windows_and_change_no_batch(catalog: Catalog, processes: int) -> None:
    bad: dict[int, str] = {}
    alone = contents(
        clean_batches(catalog, np.arange(40), PREPROCESSING, unreadable=bad, window=8, workers=1)
    )
    shared, shared_bad = [], dict[int, str]()
    for process in range(processes):
        own = contents(
            clean_batches(
                catalog,
                np.arange(40),
                PREPROCESSING,
                unreadable=shared_bad,
                window=8,
                process=process,
                processes=processes,
                workers=3,
            )
        )
        assert {row // 8 % processes for rows, _ in own for row in rows} <= {process}
        shared += own
    assert sorted(shared) == sorted(alone)
    assert shared_bad == bad


def test_truncated_pictures_are_read_on_demand(catalog: Catalog) -> None:
    unreadable: dict[int, str] = {}
    reading = Reading(allow_truncated=True)
    batches = list(clean_batches(catalog, [11], PREPROCESSING, unreadable=unreadable, reading=reading))
    assert [batch.rows.tolist() for batch in batches] == [[11]]
    assert not unreadable
    assert not list(clean_batches(catalog, [11, 6], PREPROCESSING, unreadable=unreadable))
    assert set(unreadable) == {6, 11}


def test_windows_of_large_pictures_are_small(catalog: Catalog) -> None:
    large = replace(PREPROCESSING, long_side=4096)  # 48 MiB each, so 5 to a window
    batches = list(clean_batches(catalog, range(12, 40), large, unreadable={}))
    for batch in batches:
        assert len({(row - 12) // 5 for row in batch.rows.tolist()}) == 1
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(12, 40))


def test_nothing_to_read(photos: Path) -> None:
    assert not list(clean_batches(read_catalog(photos), [], PREPROCESSING, unreadable={}))


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_results_come_in_order_and_not_too_far_ahead() -> None:
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    def decode(job: int) -> int:
        time.sleep(0.001 * (job % 3))
        return -job

    given = 0
    for result in decode_ahead(jobs(), decode, ahead=7, workers=4):
        given += 1
        assert result == -given
        assert taken - given <= 7
    assert given == taken == 100
    assert not decoding_threads()


def test_closing_gives_up_what_has_not_begun() -> None:
    gate = threading.Event()
    begun: list[int] = []

    def decode(job: int) -> int:
        begun.append(job)
        if job:
            gate.wait(30)
        return job

    results = decode_ahead(range(1000), decode, ahead=50, workers=2)
    assert next(results) == 0
    threading.Timer(0.3, gate.set).start()
    results.close()
    assert len(begun) <= 3
    assert not decoding_threads()


def test_an_error_comes_in_its_turn_and_ends_the_threads() -> None:
    def decode(job: int) -> float:
        return 1 / (5 - job)

    given = []
    with pytest.raises(ZeroDivisionError):
        for result in decode_ahead(range(100), decode, ahead=20, workers=3):
            given.append(result)  # noqa: PERF402
    assert len(given) == 5
    assert not decoding_threads()
