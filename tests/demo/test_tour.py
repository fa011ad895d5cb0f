"""The tour over a user's pictures, the first time and every time after."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cfcd.demo.tour import TourResult, default_out, run_tour
from cfcd.encoding import Encoder, load_model
from cfcd.errors import EncodingError, UsageError
from cfcd.gallery import Gallery
from tests.support import make_photo

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model(precision="fp32")


@contextmanager
def quiet(label: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


@pytest.fixture
def tour(photos: Path, tmp_path: Path, encoder: Encoder) -> Callable[[], TourResult]:
    return lambda: run_tour(photos, tmp_path / "tour", encoder, quiet)


def test_a_tour_measures_and_shows(tour: Callable[[], TourResult], tmp_path: Path) -> None:
    result = tour()
    assert (result.images, result.labels) == (12, 3)
    assert result.report is not None
    assert result.report.mAP == pytest.approx(100)
    assert [grid.name for grid in result.grids] == ["results.html", "results.png"]
    assert all(grid.stat().st_size > 1000 for grid in result.grids)
    assert "12 pictures of 3 objects; no problems found" in result.text()
    assert f"mine search {tmp_path / 'tour' / 'gallery'} PICTURE" in result.text("mine")
    assert json.loads(json.dumps(result.to_json()))["evaluation"]["mAP"] == pytest.approx(100)


def test_the_next_tour_takes_in_what_changed(
    tour: Callable[[], TourResult], photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    tour()
    (photos / "arch" / "3.jpg").unlink()
    make_photo(70).save(photos / "church" / "new.jpg")
    make_photo(71).save(photos / "bridge" / "0.jpg")
    (photos / "arch").rename(photos / "tower")
    result = tour()
    assert (result.images, result.labels) == (12, 3)
    with Gallery(tmp_path / "tour" / "gallery", encoder) as gallery:
        catalog, _ = gallery.contents()
        best = gallery.search(photos / "bridge" / "0.jpg", k=1)[0]
        assert (best.id, best.score) == ("bridge/0.jpg", pytest.approx(1, abs=1e-3))
    files = [str(path.relative_to(photos)) for path in photos.rglob("*.jpg")]
    assert sorted(item.path.relative_to(photos).as_posix() for item in catalog) == sorted(files)
    assert set(catalog.labels or ()) == {"tower", "bridge", "church"}


def test_unreadable_pictures_are_left_out(
    tour: Callable[[], TourResult], photos: Path, tmp_path: Path
) -> None:
    (photos / "arch" / "0.jpg").write_bytes(b"no picture")
    result = tour()
    assert result.images == 11
    assert "1 problems, see cfcd check" in result.text()
    for file in photos.rglob("*.jpg"):
        file.write_bytes(b"no picture")
    with pytest.raises(EncodingError, match=r"None of the 12 pictures of .* could be read\.") as caught:
        tour()
    assert caught.value.mend == "cfcd check names what is wrong with each."


def test_pictures_without_labels(tmp_path: Path, encoder: Encoder) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(5):
        make_photo(number).save(flat / f"{number}.jpg")
    result = run_tour(flat, tmp_path / "tour", encoder, quiet)
    assert result.report is None
    assert "no labels" in result.text()
    assert result.to_json()["evaluation"] is None


def test_results_stay_out_of_the_pictures(photos: Path, encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="lies inside"):
        run_tour(photos, photos / "tour", encoder, quiet)
    assert not (photos / "tour").exists()


def test_every_collection_has_a_folder_of_its_own(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "catalog.csv").write_text("path\narch/0.jpg\n")
    monkeypatch.chdir(photos)
    assert default_out(None) == Path("cfcd-demo")
    for given, name in (
        (photos, "photos"),
        (Path(), "photos"),
        (Path("arch"), "arch"),
        (Path("arch/.."), "photos"),
        (photos / "catalog.csv", "catalog"),
        (tmp_path / "absent", "absent"),
    ):
        assert default_out(given) == Path(f"cfcd-demo-{name}")


def test_tours_of_two_folders_one_after_the_other(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for number in range(3):
        make_photo(number).save(tmp_path / "other" / f"{number}.jpg")
    for folder, images in (("photos", 12), ("other", 3), ("photos", 12)):
        found = json.loads(cli("demo", folder, "--json").stdout)
        assert found["images"] == images
        assert (tmp_path / f"cfcd-demo-{folder}" / "results.html").is_file()
    assert "lies inside" in cli("demo", "photos", "--out", "photos/out", code=2).stderr
    refused = cli("demo", "other", "--out", "cfcd-demo-photos", code=1).stderr
    assert "Give another --out folder" in refused
