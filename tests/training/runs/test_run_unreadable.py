"""Pictures that cannot be read, from the start or from some step on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from cfcd.errors import TrainingError
from cfcd.training.checkpoints import load_checkpoint
from cfcd.training.run import read_summary, train
from tests.training.runs.run_support import CLASSES, SHORT, TINY, cut_at, make_collection, spoil

pytestmark = pytest.mark.usefixtures("light")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of the test's own, to be spoilt."""
    return make_collection(tmp_path / "photos")


def test_unreadable_pictures_are_left_out_and_named(photos: Path, tmp_path: Path) -> None:
    bad = [photos / "arch" / "1.jpg", photos / "dome" / "0.jpg"]
    spoil(bad[0])
    bad[1].write_bytes(b"")
    summary = train(photos, tmp_path / "run", options=SHORT)
    assert [path for path, _ in summary.skipped] == [str(path) for path in bad]
    assert all(reason for _, reason in summary.skipped)
    assert (summary.images, summary.classes) == (22, 4)
    assert "skipped 2" in summary.text()
    assert read_summary(tmp_path / "run") == summary


@pytest.mark.parametrize("kind", ["metric", "learned"])
def test_a_picture_that_becomes_unreadable_is_replaced(photos: Path, tmp_path: Path, kind: str) -> None:
    bad = [photos / label / "2.jpg" for label in CLASSES]

    def act() -> None:
        for picture in bad[:2]:
            spoil(picture)
        for picture in bad[2:]:
            picture.unlink()

    options = TINY | {"whitening.kind": kind, "whitening.dim": 8, "coarse.epochs": 3}
    summary = train(photos, tmp_path / "run", options=options, progress=cut_at("coarse 1/3", 1, act))
    assert [path for path, _ in summary.skipped] == [str(path) for path in bad]
    assert summary.images == 20
    assert summary.steps == 3 * 3 + 2


def test_a_class_that_becomes_unreadable_is_named(photos: Path, tmp_path: Path) -> None:
    def act() -> None:
        shutil.rmtree(photos / "dome")

    with pytest.raises(TrainingError, match=r"'dome'.*cfcd check"):
        train(photos, tmp_path / "run", options=TINY, progress=cut_at("coarse 1/2", 1, act))
    found = load_checkpoint(tmp_path / "run")
    assert found is not None
    make_collection(tmp_path / "again")
    (tmp_path / "again" / "dome").rename(photos / "dome")
    assert train(photos, tmp_path / "run", options=TINY, resume=True).skipped == ()
