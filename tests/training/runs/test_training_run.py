"""What a run makes, and that it makes the same thing again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

import cfcd  # noqa: E402
from cfcd.model.folder import find_model  # noqa: E402
from cfcd.training.log import read_metrics  # noqa: E402
from cfcd.training.recipe_file import load_recipe  # noqa: E402
from cfcd.training.recipe_head import HEAD_OPTIONS  # noqa: E402
from cfcd.training.run import read_summary, train  # noqa: E402
from tests.training.runs.run_support import (  # noqa: E402
    CLASSES,
    METRIC,
    SHORT,
    STEPS,
    TINY,
    FinishedRun,
    rows_of,
    state_of,
    weights_of,
)

BOTH = {"step", "phase", "epoch", "lr", "loss", "classification", "distillation", "median", "scale", "margin"}
FINE = {"triplets", "accepted", "active"}


def test_the_model_is_found_in_the_run_and_encodes(finished: FinishedRun) -> None:
    assert finished.summary.model == finished.folder / "model"
    picture = finished.photos / "arch" / "0.jpg"
    descriptors = cfcd.load_model(finished.summary.model, precision="fp32").encode(picture)
    assert descriptors.shape == (1, 16)
    assert np.allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
    assert finished.summary.label == find_model(finished.summary.model).label
    by_run = cfcd.load_model(finished.folder, precision="fp32")
    assert np.array_equal(by_run.encode(picture), descriptors)


def test_the_model_says_how_it_was_made(finished: FinishedRun) -> None:
    record = find_model(finished.summary.model).config.training
    recipe = load_recipe(finished.folder / "recipe.yaml")
    assert record["recipe"] == json.loads(json.dumps(recipe.to_dict()))
    assert record["steps"] == STEPS
    assert (record["mAP_before"], record["mAP_after"]) == (finished.summary.before, finished.summary.after)
    assert "24 pictures of 4 classes" in record["data"]
    assert "trained by cfcd" in record["weights"]


def test_the_recipe_is_read_back_equal(finished: FinishedRun) -> None:
    assert load_recipe(finished.folder / "recipe.yaml") == load_recipe("small", METRIC)


def test_the_log_has_every_step_of_both_phases(finished: FinishedRun) -> None:
    rows = [row for row in read_metrics(finished.folder) if "loss" in row]
    assert [(row["step"], row["phase"], row["epoch"]) for row in rows] == [
        *[(step, "coarse", 1) for step in (1, 2, 3)],
        *[(step, "coarse", 2) for step in (4, 5, 6)],
        *[(step, "fine", 1) for step in (7, 8)],
    ]
    for row in rows:
        fine = row["phase"] == "fine"
        numbers = BOTH | {"images_per_s", "seconds"} | (FINE if fine else set())
        assert set(row) == BOTH | FINE | {"images_per_s", "seconds"}
        assert all(row[key] is not None for key in numbers)
        assert fine or all(row[key] is None for key in FINE)
        weighted = row["classification"] + 10 * row["distillation"] + (row["triplets"] or 0)  # TINY's weights
        assert row["loss"] == pytest.approx(weighted, rel=1e-5)
    assert rows[0]["distillation"] == pytest.approx(0, abs=1e-6)
    assert rows[1]["distillation"] > 1e-5
    assert any(row["accepted"] for row in rows), "no triplet is tested by these pictures"


def test_map_is_measured_before_during_and_after(finished: FinishedRun) -> None:
    rows = [row for row in read_metrics(finished.folder) if "mAP" in row]
    assert [row["step"] for row in rows] == [0, 3, 6, 8, 8]
    assert {row["of"] for row in rows} == {"12 training pictures"}
    assert (finished.summary.before, finished.summary.after) == (rows[0]["mAP"], rows[-1]["mAP"])
    assert finished.summary.measured_on == "12 training pictures"
    assert all(0 <= row["mAP"] <= 100 for row in rows)
    places = [(row["phase"], row["epoch"]) for row in rows]
    assert places == [("coarse", 0), ("coarse", 1), ("coarse", 2), ("fine", 1), ("fine", 1)]


def test_the_summary_is_kept(finished: FinishedRun) -> None:
    summary = finished.summary
    assert (summary.images, summary.classes, summary.steps, summary.skipped) == (24, 4, STEPS, ())
    assert read_summary(finished.folder) == summary
    assert json.loads((finished.folder / "summary.json").read_text()) == summary.to_json()
    assert "24 pictures of 4 classes" in summary.text()
    assert str(summary.model) in summary.text()
    assert f"{summary.before:.1f} -> {summary.after:.1f}" in summary.text()


def test_curves_events_and_matches_are_there(finished: FinishedRun) -> None:
    for name in ("curves.png", "matches.png"):
        with Image.open(finished.folder / name) as picture:
            assert min(picture.size) > 100
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(finished.folder / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("training/loss")}
    rows = {row["step"]: row["loss"] for row in read_metrics(finished.folder) if "loss" in row}
    assert losses == pytest.approx(rows)


def test_chatter_names_every_epoch_and_the_mining(finished: FinishedRun) -> None:
    told = [note for note in finished.notes if "loss" in note]
    assert [note.split()[:2] for note in told] == [["coarse", "1/2"], ["coarse", "2/2"], ["fine", "1/1"]]
    assert any("mined" in note for note in finished.notes)
    assert finished.notes[-1].startswith(f"whitening fitted again  mAP {finished.summary.after:.1f} (")
    assert {"looking at the pictures", "coarse 1/2", "mining", "fine 1/1"} <= set(finished.progress)


def test_the_same_again_gives_the_same_bytes(finished: FinishedRun, tmp_path: Path) -> None:
    again = tmp_path / "tiny"
    train(finished.photos, again, options=METRIC)
    assert weights_of(again) == weights_of(finished.folder)
    for name in ("recipe.yaml", "model/config.json", "model/model.onnx"):
        assert (again / name).read_bytes() == (finished.folder / name).read_bytes()
    assert rows_of(again) == rows_of(finished.folder)


@pytest.mark.usefixtures("light")
def test_another_seed_gives_other_weights(collection: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(collection, tmp_path / str(seed), options=SHORT | {"seed": seed})
    assert rows_of(tmp_path / "0") != rows_of(tmp_path / "1")
    assert state_of(tmp_path / "0") != state_of(tmp_path / "1")


@pytest.mark.usefixtures("light")
def test_threads_that_decode_change_nothing(collection: Path, tmp_path: Path) -> None:
    for workers in (1, 4):
        train(collection, tmp_path / str(workers), options=SHORT | {"run.workers": workers})
    assert state_of(tmp_path / "1") == state_of(tmp_path / "4")


@pytest.mark.usefixtures("light")
def test_callers_keep_their_random_numbers_and_settings(collection: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(collection, tmp_path / "run", options=SHORT)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("kind", HEAD_OPTIONS)
def test_every_head_trains(collection: Path, tmp_path: Path, kind: str) -> None:
    options = SHORT | {"head.kind": kind}
    assert train(collection, tmp_path / "run", options=options).steps == 2


@pytest.mark.usefixtures("light")
def test_without_a_monitor_nothing_is_measured(collection: Path, tmp_path: Path) -> None:
    summary = train(collection, tmp_path / "run", options=SHORT | {"run.monitor": 0})
    assert (summary.before, summary.after, summary.measured_on) == (None, None, "")
    assert "mAP" not in summary.text()
    assert not any("mAP" in row for row in read_metrics(tmp_path / "run"))


@pytest.mark.usefixtures("light")
def test_only_the_split_train_is_trained_on(collection: Path, tmp_path: Path) -> None:
    table = tmp_path / "catalog.csv"
    splits = ("train", "train", "train", "test", "test", "val")
    rows = [f"{label}/{n}.jpg,{label},{split}" for label in CLASSES for n, split in enumerate(splits)]
    table.write_text("\n".join(["path,label,split", *rows]))
    summary = train(table, tmp_path / "run", root=collection, options=SHORT)
    assert summary.images == 12
    assert summary.measured_on == "4 queries in 8 pictures"


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("skipped", ["coarse", "fine"])
def test_one_phase_alone(collection: Path, tmp_path: Path, skipped: str) -> None:
    options = TINY | {"coarse.epochs": 1, "fine.epochs": 1, f"{skipped}.epochs": 0}
    train(collection, tmp_path / "run", options=options)
    phases = {row["phase"] for row in read_metrics(tmp_path / "run") if "loss" in row}
    assert phases == {"coarse", "fine"} - {skipped}
