from __future__ import annotations

import errno
import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest

from cfcd.errors import GalleryError
from cfcd.gallery import Gallery
from cfcd.gallery.truth import log, store
from tests.gallery.safety_support import catalog, fill, held, make, vectors


def names(count: int) -> list[str]:
    return [f"new {number}" for number in range(count)]


def test_a_log_that_cannot_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with make(tmp_path / "g") as gallery:
        fill(gallery, 30)
        expected, size = held(gallery), (tmp_path / "g" / "gallery.log").stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr(log.os, "fsync", full)
            with pytest.raises(GalleryError, match=r"No space left.*Free some space"):
                gallery.add(catalog(names(10)), vectors(10, 5))
        assert held(gallery) == expected
        gallery.add(catalog(names(10)), vectors(10, 5))
        assert held(gallery).keys() == expected.keys() | set(names(10))
        assert (tmp_path / "g" / "gallery.log").stat().st_size > size


def test_a_store_that_cannot_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path / "g") as gallery:
        fill(gallery, 30)
        expected = held(gallery)
        log_before = (tmp_path / "g" / "gallery.log").read_bytes()
        open_database = store.open_database

        def limited(file: Path, write: bool) -> tuple[sqlite3.Connection, bool]:
            connection, immutable = open_database(file, write)
            if write:
                connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size instead
            return connection, immutable

        with monkeypatch.context() as patch:
            patch.setattr(store, "open_database", limited)
            with pytest.raises(GalleryError, match=r"full.*Free some space"):
                gallery.add(catalog(names(2000)), vectors(2000, 5))
        assert held(gallery) == expected
        assert (tmp_path / "g" / "gallery.log").read_bytes() == log_before
        gallery.add(catalog(names(2000)), vectors(2000, 5))
        assert len(gallery) == 2025


def add_until_full(folder: Path, limit: int) -> None:
    """Run where no file may grow beyond a limit; ends with status 7 for a GalleryError."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with Gallery(folder) as gallery:
        before = held(gallery)
        try:
            gallery.add(catalog(names(3000)), vectors(3000, 5))
        except GalleryError as error:
            if held(gallery) == before and "Free some space" in str(error):
                os._exit(7)
    os._exit(1)


@pytest.mark.skipif(os.name != "posix", reason="needs limits")
@pytest.mark.parametrize("spare", [0, 5_000, 100_000])
def test_files_that_may_not_grow(tmp_path: Path, spare: int) -> None:
    with make(tmp_path / "g") as gallery:
        fill(gallery, 300)
        expected = held(gallery)
    largest = max(file.stat().st_size for file in (tmp_path / "g").iterdir())
    process = multiprocessing.get_context("spawn").Process(  # a fork of a process with threads can hang
        target=add_until_full, args=(tmp_path / "g", largest + spare)
    )
    process.start()
    process.join()
    assert process.exitcode == 7
    with Gallery(tmp_path / "g") as gallery:
        assert held(gallery) == expected
        gallery.add(catalog(names(3)), vectors(3, 5))
        assert len(gallery) == len(expected) + 3
