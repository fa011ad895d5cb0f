from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from demo_photos import smooth_picture

from cfcd.demo.sources import SOURCES, Photo, Source, find_photos, open_photo
from cfcd.errors import UnreadablePicture


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported, with one photograph."""
    folder = tmp_path / "cfcd_test_shop"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    smooth_picture(40, 30).save(folder / "one.png")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def source(file: str, name: str = "one") -> Source:
    return Source(name, "cfcd-test-shop", file, "A. Author", "CC0 1.0", (10, 5, 30, 25))


def test_finds_files_without_importing_and_names_what_is_missing(shop: Path) -> None:
    found, missing = find_photos(
        (
            source("cfcd_test_shop/one.png"),
            source("cfcd_test_shop/gone.png", "two"),
            source("cfcd_test_nowhere/a.png", "three"),
        )
    )
    credit = "A. Author; CC0 1.0; shipped by cfcd-test-shop"
    assert found == [Photo("one", shop / "one.png", (10, 5, 30, 25), credit)]
    assert missing == [
        "two: package cfcd-test-shop has no file cfcd_test_shop/gone.png",
        "three: package cfcd-test-shop is not installed",
    ]
    assert "cfcd_test_shop" not in sys.modules


def test_opens_boxes_arrays_and_grey(tmp_path: Path) -> None:
    picture = smooth_picture(40, 30)
    picture.save(tmp_path / "a.png")
    cut = open_photo(Photo("a", tmp_path / "a.png", (10, 5, 30, 25), ""))
    assert cut.tobytes() == picture.crop((10, 5, 30, 25)).tobytes()
    grey = np.asarray(picture.convert("L"))
    np.savez(tmp_path / "b.npz", data=grey)
    opened = open_photo(Photo("b", tmp_path / "b.npz", None, ""))
    assert opened.mode == "RGB"
    assert (np.asarray(opened) == grey[:, :, None]).all()


@pytest.mark.parametrize("name", ["broken.png", "broken.npz", "other.npz"])
def test_a_file_without_a_picture_is_named(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "other.npz", nothing=np.zeros(3))
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(UnreadablePicture, match=re.escape(name)):
        open_photo(Photo("x", tmp_path / name, None, ""))


def test_the_table_names_folders_and_credits() -> None:
    names = [source.name for source in SOURCES if not source.backdrop]
    assert all(re.fullmatch(r"[a-z][a-z_]*", name) for name in names)
    assert {name for name in names if names.count(name) > 1} == {"motorcycle"}
    assert len({source.file for source in SOURCES}) == len(SOURCES)
    assert all(source.author and source.licence for source in SOURCES)
    assert not any(".." in source.file or source.file.startswith("/") for source in SOURCES)
    assert {source.name for source in SOURCES if source.backdrop} == {"brick", "grass", "gravel"}


def test_the_installed_photographs_open_and_no_two_objects_look_alike() -> None:
    photos, missing = find_photos()
    if missing:
        pytest.skip(f"the packages of the extra demo are not all installed: {missing[0]}")
    small: dict[str, np.ndarray] = {}
    for photo in photos:
        picture = open_photo(photo)
        assert min(picture.size) >= 160
        assert "shipped by" in photo.credit
        levels = np.asarray(picture.resize((16, 16)), np.float64).ravel()
        small.setdefault(photo.name, (levels - levels.mean()) / levels.std())
    alike = np.array(list(small.values())) @ np.array(list(small.values())).T / 768
    assert len(small) >= 23
    assert np.abs(alike - np.diag(np.diag(alike))).max() < 0.9
