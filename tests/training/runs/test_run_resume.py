"""A run that was interrupted, wherever it was, ends as one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from cfcd.errors import Interrupted
from cfcd.training import loop
from cfcd.training import run as module
from cfcd.training.checkpoints import load_checkpoint
from cfcd.training.run import train
from cfcd.training.step import Measured, Stepper
from tests.training.runs.run_support import (
    METRIC,
    STEPS,
    TINY,
    FinishedRun,
    Power,
    cut_at,
    rows_of,
    run_python,
    state_of,
    weights_of,
)

# Everything that keeps something from step to step.
ALL_STATE = TINY | {
    "run.precision": "auto",
    "head.kind": "curricularface",
    "model.batchnorm": "trained",
    "whitening.kind": "learned",
    "whitening.dim": 16,
    "optimizer.ema": 0.9,
    "optimizer.accumulate": 2,
    "optimizer.clip": 1.0,
    "coarse.epochs": 1,
    "fine.epochs": 2,
    "fine.mine_every": 1,
}
ALL_STEPS = 3 + 2 * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_runs_end_as_if_nothing_had_happened(collection: Path, tmp_path: Path) -> None:
    done = run_python("-m", "tests.training.runs.killed_runs", collection, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["killed"] == told["planned"]
    assert len(told["moments"]) >= 4
    straight = tmp_path / "straight" / "run"
    for kind in ("placed", "random"):
        run = tmp_path / kind / "run"
        assert weights_of(run) == weights_of(straight)
        assert rows_of(run) == rows_of(straight)
        for name in ("recipe.yaml", "model/config.json", "model/model.onnx"):
            assert (run / name).read_bytes() == (straight / name).read_bytes()
        assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("light")
def test_a_run_in_pieces_of_one_step_is_the_whole_run(collection: Path, tmp_path: Path) -> None:
    train(collection, tmp_path / "whole", options=ALL_STATE)
    pieces, cuts = tmp_path / "pieces", 0
    while not (pieces / "summary.json").exists():
        try:
            # In the second step of every attempt the power fails.
            train(collection, pieces, options=ALL_STATE, resume=True, progress=cut_at(("coarse", "fine"), 2))
        except Power:
            cuts += 1
    assert cuts == ALL_STEPS - 1
    assert rows_of(pieces) == rows_of(tmp_path / "whole")
    assert state_of(pieces) == state_of(tmp_path / "whole")


@pytest.mark.usefixtures("light")
def test_steps_since_the_last_checkpoint_are_taken_again(
    collection: Path, tmp_path: Path, whole: Path
) -> None:
    options = TINY | {"run.checkpoint_minutes": 10}
    with pytest.raises(Power):
        train(collection, tmp_path / "cut", options=options, progress=cut_at("coarse 2/2", 3))
    found = load_checkpoint(tmp_path / "cut")
    assert found is not None
    assert (found.phase, found.epoch, found.step, found.steps) == ("coarse", 1, 0, 3)
    assert rows_of(tmp_path / "cut")[-1]["step"] == 5
    train(collection, tmp_path / "cut", options=options, resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(whole)
    assert state_of(tmp_path / "cut") == state_of(whole)


def test_the_end_is_made_again_if_it_was_cut(finished: FinishedRun, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(finished.folder, run)
    (run / "summary.json").unlink()
    (run / "curves.png").write_bytes(b"half")
    shutil.rmtree(run / "model")
    summary = train(finished.photos, run, resume=True)
    assert weights_of(run) == weights_of(finished.folder)
    assert rows_of(run) == rows_of(finished.folder)
    same = ("before", "after", "steps", "images", "classes", "label", "measured_on", "skipped")
    assert [getattr(summary, name) for name in same] == [getattr(finished.summary, name) for name in same]


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("sent", "label", "call", "stops_after"),
    [
        (signal.SIGINT, "coarse 1/2", 2, 2),
        (signal.SIGTERM, "coarse 2/2", 1, 4),
        (signal.SIGINT, "coarse 2/2", 3, 6),  # the last steps of epochs
        (signal.SIGINT, "fine 1/1", 2, 8),
    ],
)
def test_a_signal_stops_between_steps_with_a_checkpoint(
    collection: Path,
    tmp_path: Path,
    whole: Path,
    sent: signal.Signals,
    label: str,
    call: int,
    stops_after: int,
) -> None:
    run = tmp_path / "run"
    options = TINY | {"run.checkpoint_minutes": 10}
    before = signal.getsignal(sent)
    with pytest.raises(Interrupted, match="--resume") as caught:
        train(
            collection,
            run,
            options=options,
            progress=cut_at(label, call, lambda: os.kill(os.getpid(), sent)),
        )
    assert f"after step {stops_after}" in caught.value.what
    assert signal.getsignal(sent) is before
    found = load_checkpoint(run)
    assert found is not None
    assert found.steps == stops_after
    assert train(collection, run, resume=True).steps == STEPS
    assert rows_of(run) == rows_of(whole)
    assert state_of(run) == state_of(whole)


@pytest.mark.usefixtures("light")
def test_a_stop_between_two_rows_of_the_log_leaves_no_row(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_ROWS_PER_EPOCH", 1)
    train(collection, tmp_path / "whole", options=TINY)
    assert [row["step"] for row in rows_of(tmp_path / "whole") if "loss" in row] == [3, 6, 8]
    take = Stepper.take

    def take_and_ask(*arguments: Any) -> Measured:
        measured = take(*arguments)
        os.kill(os.getpid(), signal.SIGINT)
        return measured

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Stepper, "take", take_and_ask)
        train(collection, tmp_path / "cut", options=TINY)
    train(collection, tmp_path / "cut", resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    assert state_of(tmp_path / "cut") == state_of(tmp_path / "whole")


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("label", ["looking at the pictures", "measuring", "mining"])
def test_outside_of_steps_a_signal_stops_at_once(
    collection: Path, tmp_path: Path, whole: Path, label: str
) -> None:
    progress = cut_at(label, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(collection, tmp_path / "cut", options=TINY, progress=progress)
    train(collection, tmp_path / "cut", options=TINY, resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(whole)
    assert state_of(tmp_path / "cut") == state_of(whole)


@pytest.mark.usefixtures("light")
def test_a_second_signal_stops_at_once(collection: Path, tmp_path: Path, whole: Path) -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(collection, tmp_path / "cut", options=TINY, progress=cut_at("coarse", 2, twice))
    train(collection, tmp_path / "cut", resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(whole)
    assert state_of(tmp_path / "cut") == state_of(whole)


def test_a_finished_run_is_not_touched(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    monkeypatch.setattr(module, "build", None)
    for options in ({}, METRIC):
        assert train(finished.photos, finished.folder, options=options, resume=True) == finished.summary
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")} == files


def test_matches_are_drawn_of_a_finished_run(finished: FinishedRun, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(finished.folder, run)
    (run / "matches.png").unlink()
    summary = train(finished.photos, run, resume=True, matches=1)
    assert (run / "matches.png").exists()
    assert replace(summary, folder=finished.folder, model=finished.summary.model) == finished.summary
    assert rows_of(run) == rows_of(finished.folder)
    assert weights_of(run) == weights_of(finished.folder)


@pytest.mark.usefixtures("light")
def test_a_start_that_came_to_no_checkpoint_begins_anew(
    collection: Path, tmp_path: Path, whole: Path
) -> None:
    with pytest.raises(Power):
        train(collection, tmp_path / "cut", options=TINY, progress=cut_at("looking at the pictures"))
    train(collection, tmp_path / "cut", options=TINY, resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(whole)
    assert state_of(tmp_path / "cut") == state_of(whole)
