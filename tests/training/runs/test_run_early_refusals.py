"""What a run refuses before it takes hours, and the recipe of a run that came to no checkpoint."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from cfcd.errors import MissingExtra, TrainingError, UsageError
from cfcd.training.run import train
from tests.training.runs.run_support import (
    CLASSES,
    TINY,
    FinishedRun,
    Power,
    cut_at,
    make_collection,
)


def test_classes_of_one_picture_are_refused_before_the_coarse_phase(tmp_path: Path) -> None:
    photos = make_collection(tmp_path / "photos")
    for label in CLASSES:
        for number in range(1, 6):
            (photos / label / f"{number}.jpg").unlink()
    with pytest.raises(TrainingError, match="one image only"):
        train(photos, tmp_path / "run", options=TINY)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("package", ["onnx", "matplotlib"])
def test_what_is_needed_at_the_end_is_looked_for_at_the_start(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(
        "cfcd.model.extras.find_spec", lambda name: None if name == package else find_spec(name)
    )
    with pytest.raises(MissingExtra, match=package):
        train(collection, tmp_path / "run", options=TINY)
    assert not (tmp_path / "run").exists()


def test_a_run_inside_the_pictures_is_refused(collection: Path) -> None:
    # Its curves and matches would be pictures of a class "run" next time.
    with pytest.raises(UsageError, match="inside"):
        train(collection, collection / "run", options=TINY)
    assert not (collection / "run").exists()


def test_a_start_that_came_to_no_checkpoint_keeps_its_recipe(collection: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Power):
        train(collection, run, options=TINY, progress=cut_at("looking at the pictures"))
    before = (run / "recipe.yaml").read_bytes()
    with pytest.raises(Power):
        train(collection, run, resume=True, progress=cut_at("looking at the pictures"))
    assert (run / "recipe.yaml").read_bytes() == before


def test_a_finished_run_without_its_checkpoint_is_not_trained_over(
    finished: FinishedRun, tmp_path: Path
) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(finished.folder, run)
    (run / "checkpoint.pt").unlink()
    with pytest.raises(TrainingError, match="without its checkpoint"):
        train(finished.photos, run, resume=True)
    assert (run / "summary.json").exists()
