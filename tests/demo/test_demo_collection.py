from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from demo_photos import smooth_picture
from PIL import Image

from cfcd.demo import collection
from cfcd.demo.collection import CREDITS, MARKER, build_collection, surroundings
from cfcd.demo.sources import Photo, find_photos
from cfcd.errors import MissingExtra, UsageError

SMALL = {"views": 3, "size": 64}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Photo]:
    """Nine objects, the first from two places, and a backdrop, in place of what is installed."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    found = []
    for number in range(11):
        path = shelf / f"{number}.png"
        smooth_picture(90, 70, number).save(path)
        name = "wall" if number == 10 else f"object_{'abcdefghij'[max(number - 1, 0)]}"
        found.append(Photo(name, path, None, f"Author {number}; CC0", number == 10))
    monkeypatch.setattr(collection, "find_photos", lambda: (found, ["lost: package x is not installed"]))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_builds_a_folder_per_object_with_credits(tmp_path: Path, photos: list[Photo]) -> None:
    steps: list[tuple[int, int]] = []
    summary = build_collection(
        tmp_path / "deep" / "demo", **SMALL, progress=lambda done, total: steps.append((done, total))
    )
    files = contents(summary.folder)
    names = {photo.name for photo in photos if not photo.backdrop}
    expected = {f"{name}/view_{view:02d}.jpg" for name in names for view in range(3)}
    assert set(files) == expected | {CREDITS, MARKER}
    assert (summary.objects, summary.images, summary.built) == (9, 27, True)
    assert summary.size_bytes == sum(map(len, files.values()))
    assert summary.missing == ("lost: package x is not installed",)
    assert steps == [(done, 27) for done in range(1, 28)]
    for name in expected:
        with Image.open(summary.folder / name) as picture:
            assert max(picture.size) == 64
    credits = files[CREDITS].decode()
    assert all(f"{photo.path.name}: {photo.credit}" in credits for photo in photos)
    assert [path.name for path in summary.folder.parent.iterdir()] == ["demo"]


def test_two_photographs_of_one_object_take_turns(tmp_path: Path, photos: list[Photo]) -> None:
    Image.new("RGB", (90, 70), (0, 0, 255)).save(photos[0].path)
    Image.new("RGB", (90, 70), (255, 0, 0)).save(photos[1].path)
    folder = build_collection(tmp_path / "demo", views=12, size=64).folder
    for view, colour in ((0, 2), (1, 0)):
        with Image.open(folder / f"object_a/view_{view:02d}.jpg") as picture:
            assert int(np.argmax(np.asarray(picture).mean(axis=(0, 1)))) == colour


def test_a_second_build_gives_the_same_files(tmp_path: Path, photos: list[Photo]) -> None:
    first, second = (build_collection(tmp_path / name, **SMALL).folder for name in "ab")
    assert contents(first) == contents(second)
    other = build_collection(tmp_path / "c", **SMALL, seed=1).folder
    assert contents(first)["object_b/view_02.jpg"] != contents(other)["object_b/view_02.jpg"]


def test_a_finished_collection_is_left_alone(tmp_path: Path, photos: list[Photo]) -> None:
    first = build_collection(tmp_path / "demo", **SMALL)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    (first.folder / "object_a" / "mine.jpg").write_bytes(b"added by the user")
    again = build_collection(tmp_path / "demo", **SMALL)
    assert not again.built
    assert (again.objects, again.images, again.size_bytes) == (first.objects, first.images, first.size_bytes)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items() if path.is_file())


def test_other_settings_replace_and_a_lost_picture_is_made_again(tmp_path: Path, photos: list[Photo]) -> None:
    folder = build_collection(tmp_path / "demo", **SMALL).folder
    whole = contents(folder)
    (folder / "object_c/view_01.jpg").unlink()
    assert build_collection(folder, **SMALL).built
    assert contents(folder) == whole
    assert build_collection(folder, views=2, size=64).images == 18
    assert len(contents(folder)) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "shelf"]


@pytest.mark.parametrize("marker", [None, "[]", "{}", "no json", '{"objects": 3, "views": 2}'])
def test_foreign_files_are_refused_and_kept(tmp_path: Path, photos: list[Photo], marker: str | None) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.jpg").write_bytes(b"dear")
    if marker is not None:
        (tmp_path / "mine" / MARKER).write_text(marker)
    with pytest.raises(UsageError, match="not part of a demo"):
        build_collection(tmp_path / "mine", **SMALL)
    assert (tmp_path / "mine" / "holiday.jpg").read_bytes() == b"dear"


def test_photographs_added_by_hand_are_never_replaced(tmp_path: Path, photos: list[Photo]) -> None:
    folder = build_collection(tmp_path / "demo", **SMALL).folder
    (folder / "object_a" / "mine.jpg").write_bytes(b"dear")
    with pytest.raises(UsageError, match="not part of a demo"):
        build_collection(folder, views=2, size=64)
    assert (folder / "object_a" / "mine.jpg").read_bytes() == b"dear"


def test_a_file_in_the_way_is_refused_and_an_empty_folder_used(tmp_path: Path, photos: list[Photo]) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(UsageError):
        build_collection(tmp_path / "file", **SMALL)
    (tmp_path / "empty").mkdir()
    assert build_collection(tmp_path / "empty", **SMALL).built


def test_a_failure_leaves_the_old_collection_and_no_litter(
    tmp_path: Path, photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build_collection(tmp_path / "demo", **SMALL).folder
    whole = contents(folder)

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_collection(folder, views=2, size=64, progress=fail)
    assert contents(folder) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "shelf"]


def test_too_few_objects_name_the_extra(tmp_path: Path, photos: list[Photo]) -> None:
    del photos[6:10]
    with pytest.raises(MissingExtra, match=r'pip install "cfcd\[demo\]"'):
        build_collection(tmp_path / "demo", **SMALL)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("wrong", [{"views": 1}, {"size": 31}])
def test_senseless_settings_are_refused(tmp_path: Path, photos: list[Photo], wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        build_collection(tmp_path / "demo", **wrong)


def test_surroundings_without_textures_show_no_other_object() -> None:
    sharp = Image.fromarray((np.indices((200, 200)).sum(axis=0) // 4 % 2 * 255).astype(np.uint8)).convert(
        "RGB"
    )
    made = surroundings([], [sharp], np.random.default_rng(0), 100)
    assert np.asarray(made, float).std() < 30
    assert made.size == (100, 100)


def test_marker_holds_the_settings(tmp_path: Path, photos: list[Photo]) -> None:
    folder = build_collection(tmp_path / "demo", **SMALL, seed=4).folder
    marker = json.loads((folder / MARKER).read_text())
    assert (marker["views"], marker["size"], marker["seed"], len(marker["objects"])) == (3, 64, 4, 9)


def test_the_real_demo_builds(tmp_path: Path) -> None:
    missing = find_photos()[1]
    if missing:
        pytest.skip(f"the packages of the extra demo are not all installed: {missing[0]}")
    summary = build_collection(tmp_path / "demo", views=2, size=160)
    assert summary.objects >= 20 and summary.images == 2 * summary.objects
