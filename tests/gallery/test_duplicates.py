"""Duplicates of real files: what counts as one, which is kept, and what is left alone."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.encoding import Encoder
from cfcd.encoding.shards import FileStamp
from cfcd.errors import UsageError
from cfcd.files import content_digest
from cfcd.gallery import Gallery
from cfcd.gallery.duplicates.groups import Duplicates, find_duplicates
from cfcd.gallery.duplicates.pixels import grey_thumbnail, likeness
from cfcd.gallery.truth.store import Store
from tests.support import make_photo as make_smooth_photo

META = {
    "identity": "i",
    "model": "m",
    "model_reference": "m",
    "dim": "4",
    "long_side": "null",
    "scales": "[1.0]",
}


def make_photo(number: int) -> Image.Image:
    """Smooth colour fields with finer ones on them: as much detail as photographs have."""
    smooth = make_smooth_photo(number, (480, 360))
    cells = np.random.default_rng(1000 + number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    finer = Image.fromarray(cells).resize(smooth.size, Image.Resampling.BICUBIC)
    return Image.blend(smooth, finer, 0.4)


def crop(photo: Image.Image, share: float) -> Image.Image:
    width, height = photo.size
    left, top = round(width * share / 2), round(height * share / 2)
    return photo.crop((left, top, width - left, height - top))


def shown(found: Duplicates) -> list[list[tuple[str, str]]]:
    return [[(one.item.id, one.kind) for one in group] for group in found.groups]


def made(
    folder: Path, vectors: dict[str, list[float]], **boxes: tuple[float, float, float, float]
) -> Gallery:
    """A gallery of files in a folder with given descriptors; "name@box" is a part of a file."""
    Store.create(folder / "g", META)
    gallery = Gallery(folder / "g")
    items, stamps = [], []
    for name in vectors:
        path = folder / name.partition("@")[0]
        items.append(Item(name, path, box=boxes.get(name.partition("@")[2])))
        status = path.stat() if path.exists() else None
        stamps.append(
            FileStamp(status.st_size, status.st_mtime_ns, content_digest(path))
            if status
            else FileStamp(9, 9, b"x")
        )
    catalog = Catalog.from_items(items, source=folder, root=folder, kind="test")
    if not items:
        return gallery
    rows = np.array([[*vector, *[0.0] * (4 - len(vector))] for vector in vectors.values()], np.float32)
    gallery.add(catalog, rows / np.linalg.norm(rows, axis=1, keepdims=True), stamps=stamps)
    return gallery


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A gallery of six photos, four of them with copies of every kind."""
    root = tmp_path_factory.mktemp("archive")
    photos = root / "photos"
    photos.mkdir()
    for number in range(6):
        make_photo(number).resize((400, 300), Image.Resampling.BICUBIC).save(photos / f"{number}.png")
    zero, one, two = (Image.open(photos / f"{number}.png").convert("RGB") for number in range(3))
    shutil.copy(photos / "0.png", photos / "0 copy.png")
    zero.save(photos / "0 small.jpg", quality=70)
    crop(one, 0.06).save(photos / "1 crop.jpg", quality=85)
    ImageEnhance.Brightness(one).enhance(1.2).save(photos / "1 bright.jpg", quality=85)
    ImageEnhance.Contrast(two).enhance(0.8).save(photos / "2 pale.jpg", quality=80)
    with Gallery.create(root / "gallery", encoder) as gallery:
        gallery.update(read_catalog(photos))
    return root


def test_copies_are_found_and_other_photos_are_not(archive: Path) -> None:
    steps: list[tuple[int, int]] = []
    with Gallery(archive / "gallery") as gallery:
        found = find_duplicates(gallery, threshold=0.6, progress=lambda *step: steps.append(step))
    kinds = {group[0][0]: set(group) for group in shown(found)}
    # Copied in the same instant or later: which of two equal files is older, the clock decides.
    first, second = ("0.png", "0 copy.png") if "0.png" in kinds else ("0 copy.png", "0.png")
    assert kinds == {
        first: {(first, "kept"), (second, "exact"), ("0 small.jpg", "near")},
        "1.png": {("1.png", "kept"), ("1 bright.jpg", "near"), ("1 crop.jpg", "near")},
        "2.png": {("2.png", "kept"), ("2 pale.jpg", "near")},
    }
    assert (found.count("exact"), found.count("near")) == (1, 4)
    assert found.all_pairs
    assert not found.unreadable
    assert steps[-1][0] == steps[-1][1]
    near = [one for group in found.groups for one in group if one.kind == "near"]
    assert all(one.likeness is not None and one.likeness >= 0.94 for one in near)
    assert (found.groups[0][0].width, found.groups[0][0].height) == (400, 300)
    spare = [one for group in found.groups for one in group[1:]]
    assert found.bytes == sum(one.item.path.stat().st_size for one in spare)
    assert len(list((archive / "photos").iterdir())) == 11  # nothing was deleted


def test_the_index_finds_the_same_as_all_pairs(archive: Path) -> None:
    with Gallery(archive / "gallery") as gallery:
        one = find_duplicates(gallery, threshold=0.6)
        other = find_duplicates(gallery, threshold=0.6, all_pairs_up_to=0)
    assert not other.all_pairs
    assert replace(other, all_pairs=True, seconds=one.seconds) == one


def test_without_pixels_descriptors_decide(tmp_path: Path) -> None:
    vectors = {"a.jpg": [1.0], "b.jpg": [1.0, 0.1], "c.jpg": [0, 1.0]}
    with made(tmp_path, vectors) as gallery:
        found = find_duplicates(gallery)
        # Files that are not there: nothing can be said of them.
        assert shown(found) == []
        assert {reason for _, _, reason in found.unreadable} == {"the file is missing"}
        found = find_duplicates(gallery, pixels=False)
    # By the stored digest the made-up files a and b are the same.
    assert [len(group) for group in found.groups] == [3]


def test_pixels_keep_two_photos_of_one_object_apart(tmp_path: Path) -> None:
    for number in range(2):
        make_photo(number).save(tmp_path / f"{number}.png")
    with made(tmp_path, {"0.png": [1.0], "1.png": [1.0]}) as gallery:
        assert shown(find_duplicates(gallery)) == []
        assert len(find_duplicates(gallery, pixels=False).groups) == 1


def test_the_best_is_kept(tmp_path: Path) -> None:
    photo = make_photo(3).resize((200, 160), Image.Resampling.BICUBIC)
    photo.resize((100, 80)).save(tmp_path / "a small.png")
    photo.save(tmp_path / "b coarse.jpg", quality=60)
    photo.save(tmp_path / "c fine.jpg", quality=95)
    for number, name in enumerate(("d new.jpg", "e old.jpg", "f old.jpg")):
        shutil.copy(tmp_path / "c fine.jpg", tmp_path / name)
        os.utime(tmp_path / name, ns=(0, 10**18 - (10**17 if number else 0)))
    names = ("f old.jpg", "a small.png", "c fine.jpg", "b coarse.jpg", "d new.jpg", "e old.jpg")
    with made(tmp_path, {name: [1.0] for name in names}) as gallery:
        (group,) = find_duplicates(gallery).groups
    assert [(one.item.id, one.kind) for one in group] == [
        ("e old.jpg", "kept"),
        ("f old.jpg", "exact"),
        ("d new.jpg", "exact"),
        ("c fine.jpg", "exact"),
        ("b coarse.jpg", "near"),
        ("a small.png", "near"),
    ]


def test_equal_files_stay_together_behind_a_better_one(tmp_path: Path) -> None:
    make_photo(4).save(tmp_path / "best.png")
    make_photo(4).resize((240, 180), Image.Resampling.BICUBIC).save(tmp_path / "small.png")
    shutil.copy(tmp_path / "small.png", tmp_path / "small too.png")
    names = ("small too.png", "best.png", "small.png")
    with made(tmp_path, {name: [1.0] for name in names}) as gallery:
        (group,) = find_duplicates(gallery).groups
    assert [one.kind for one in group] == ["kept", "near", "exact"]
    assert group[1].likeness == group[2].likeness


def test_what_is_no_duplicate(tmp_path: Path) -> None:
    make_photo(0).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "hard.png").hardlink_to(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "changed.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "gone.png")
    names = ("a.png", "link.png", "hard.png", "changed.png", "gone.png", "a.png@left", "a.png@right")
    vectors = {name: [1.0] for name in names}
    with made(tmp_path, vectors, left=(0, 0, 300, 300), right=(20, 0, 320, 300)) as gallery:
        make_photo(1).save(tmp_path / "changed.png")
        (tmp_path / "gone.png").unlink()
        found = find_duplicates(gallery)
    # Names of one file, and parts of one file.
    assert shown(found) == []
    assert [(key, reason) for key, _, reason in found.unreadable] == [
        ("changed.png", "it has changed since it was indexed"),
        ("gone.png", "the file is missing"),
    ]


def test_many_copies_are_one_group(tmp_path: Path) -> None:
    for number in range(80):
        Image.new("RGB", (40, 30), "white").save(
            tmp_path / f"{number:02d}.png", compress_level=number % 9 + 1
        )
    with made(tmp_path, {f"{number:02d}.png": [1.0] for number in range(80)}) as gallery:
        for limit in (0, 1000):
            (group,) = find_duplicates(gallery, all_pairs_up_to=limit).groups
            assert len(group) == 80


def test_only_among_chosen_items(tmp_path: Path) -> None:
    make_photo(0).save(tmp_path / "0.png")
    names = [f"{number}.png" for number in range(6)]
    for name in names[1:]:
        shutil.copy(tmp_path / "0.png", tmp_path / name)
    with made(tmp_path, {name: [1.0] for name in names}) as gallery:
        for limit in (0, 1000):
            found = find_duplicates(gallery, where="id in ('1.png', '4.png', '5.png')", all_pairs_up_to=limit)
            (group,) = found.groups
            assert {one.item.id for one in group} == {"1.png", "4.png", "5.png"}
            assert found.items == 3
        with pytest.raises(UsageError):
            find_duplicates(gallery, where="id in")


def test_a_threshold_is_a_cosine(tmp_path: Path) -> None:
    with made(tmp_path, {}) as gallery:
        assert find_duplicates(gallery).groups == ()
        for threshold in (0.0, 1.5, float("nan")):
            with pytest.raises(UsageError, match="threshold"):
                find_duplicates(gallery, threshold=threshold)


@pytest.mark.parametrize("change", ["crop", "turn", "half", "jpeg", "grey", "stretch", "same"])
def test_likeness_of_copies_and_of_others(tmp_path: Path, change: str) -> None:
    photo = make_photo(5).resize((480, 360), Image.Resampling.BICUBIC)
    other = make_photo(6).resize((480, 360), Image.Resampling.BICUBIC)
    copies = {
        "crop": crop(photo, 0.08),
        "turn": crop(photo.rotate(1.5, Image.Resampling.BICUBIC), 0.06),
        "half": photo.resize((240, 180), Image.Resampling.BICUBIC),
        "jpeg": photo,
        "grey": photo.convert("L"),
        "stretch": photo.resize((480, 330), Image.Resampling.BICUBIC),
        "same": photo,
    }
    copies[change].save(tmp_path / "copy.jpg", quality=30 if change == "jpeg" else 90)
    photo.save(tmp_path / "photo.png")
    other.save(tmp_path / "other.png")
    first, copy, third = (grey_thumbnail(tmp_path / name) for name in ("photo.png", "copy.jpg", "other.png"))
    assert likeness(first, copy) >= 0.94
    assert likeness(copy, first) >= 0.94
    assert likeness(first, third) < 0.7


def test_likeness_of_empty_pages() -> None:
    white, black = np.full((64, 64), 255, np.uint8), np.zeros((64, 64), np.uint8)
    assert likeness(white, white) == 1
    assert likeness(white, black) == 0
    half = white.copy()
    half[:32] = 0
    assert likeness(white, half) == 0
