from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cfcd.model.extras
from cfcd.errors import MissingExtra, TrainingError
from cfcd.training.log import MetricsLog, read_metrics

values = st.none() | st.floats() | st.integers(-(2**70), 2**70) | st.text(max_size=5)
some_rows = st.lists(st.dictionaries(st.text(max_size=8), values, max_size=4), max_size=8)


def written(folder: Path, rows: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    with MetricsLog(folder, tensorboard=False, **more) as log:
        for row in rows:
            log.write(row)
    return read_metrics(folder)


def numbered(rows: list[dict[str, Any]], first: int = 1) -> list[dict[str, Any]]:
    return [{**row, "step": i} for i, row in enumerate(rows, first)]


def finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]


@settings(max_examples=60, deadline=None)
@given(some_rows)
def test_rows_come_back_with_null_for_what_is_not_finite(rows: list[dict[str, Any]]) -> None:
    rows = numbered(rows)
    with tempfile.TemporaryDirectory() as folder:
        assert written(Path(folder) / "new", rows) == finite(rows)
        lines = (Path(folder) / "new" / "metrics.jsonl").read_text("ascii").splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == finite(rows)


@settings(max_examples=60, deadline=None)
@given(some_rows, some_rows, st.integers(1, 10), st.integers(0, 30), st.booleans())
def test_resumed_log_is_that_of_a_run_never_stopped(
    before: list[dict[str, Any]], after: list[dict[str, Any]], step: int, torn: int, monitored: bool
) -> None:
    """Rows after the checkpoint were written by the killed run and must go, like a torn last line."""
    before, after = numbered(before), numbered(after, step + 1)
    if monitored and step <= len(before):
        before.insert(step, {"step": step, "mAP": 50.0})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder, before)
        with (folder / "metrics.jsonl").open("ab") as file:
            file.write(b'{"step": 1, "phase": "coarse", "loss": 1.5}'[:torn])
        resumed = written(folder, after, after_step=step)
        kept = [row for row in before if row["step"] <= step]
        assert resumed == finite(kept + after)
        whole = (folder / "metrics.jsonl").read_bytes()
        written(folder, kept + after)
        assert (folder / "metrics.jsonl").read_bytes() == whole


def test_run_started_anew_forgets_an_earlier_one(tmp_path):
    written(tmp_path, [{"step": 0}, {"step": 1}])
    assert written(tmp_path, [{"step": 5}]) == [{"step": 5}]
    (tmp_path / "metrics.jsonl").write_bytes(b"rubbish\n\n")
    assert written(tmp_path, [{"step": 6}]) == [{"step": 6}]


def test_resuming_without_a_file_starts_one(tmp_path):
    assert written(tmp_path / "new", [{"step": 8}], after_step=7) == [{"step": 8}]


@pytest.mark.parametrize("cut", range(1, len('{"step": 2, "loss": 3.5}') + 1))
def test_last_line_may_be_torn_anywhere(tmp_path, cut):
    line = '{"step": 2, "loss": 3.5}'
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + line[:cut])
    whole = [{"step": 2, "loss": 3.5}] if cut == len(line) else []
    assert read_metrics(tmp_path) == [{"step": 1}, *whole]


@pytest.mark.parametrize(
    "damage", [b'{"step": 2, "lo', b"", b"\0\0\0", b"[2]", b'{"loss": 1}', b'{"step": 2.5}', b"\xff"]
)
def test_damage_before_the_last_line_is_named(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 3}\n')
    with pytest.raises(TrainingError, match=r"Line 2 of .*metrics\.jsonl"):
        read_metrics(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TrainingError, match=r"Line 2 of .*metrics\.jsonl"):
        MetricsLog(tmp_path, after_step=3, tensorboard=False)
    assert path.read_bytes() == before


def test_missing_log_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match=r"metrics\.jsonl cannot be read"):
        read_metrics(tmp_path)


def test_stop_while_resuming_leaves_the_old_log(tmp_path, monkeypatch):
    written(tmp_path, numbered([{}] * 5))
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            MetricsLog(tmp_path, after_step=2, tensorboard=False)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_process_loses_no_row(tmp_path):
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom cfcd.training.log import MetricsLog\n"
        "log = MetricsLog(Path(sys.argv[1]), tensorboard=False)\n"
        "for step in range(50):\n    log.write({'step': step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_metrics(tmp_path) == [{"step": step} for step in range(50)]


def test_row_without_a_whole_step_is_refused_and_leaves_no_trace(tmp_path):
    with MetricsLog(tmp_path, tensorboard=False) as log:
        for row in ({"step": 1.0}, {"step": None}):
            with pytest.raises(TypeError, match="whole number"):
                log.write(row)
        with pytest.raises(TypeError):
            log.write({"step": 1, "loss": object()})
    assert read_metrics(tmp_path) == []


def test_closing_twice_is_fine_and_writing_afterwards_is_not(tmp_path):
    log = MetricsLog(tmp_path, tensorboard=False)
    log.close()
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.write({"step": 1})


def test_without_tensorboard_the_extra_is_named_before_anything_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(
        cfcd.model.extras, "find_spec", lambda name: None if name == "tensorboard" else object()
    )
    written(tmp_path, [{"step": 1}])
    with pytest.raises(MissingExtra, match="tensorboard"):
        MetricsLog(tmp_path)
    assert read_metrics(tmp_path) == [{"step": 1}]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_the_numbers_of_training_and_monitor(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    with MetricsLog(tmp_path) as log:
        log.write({"step": 1, "phase": "coarse", "epoch": 1, "loss": 2.5, "triplets": None, "scale": 32})
        log.write({"step": 2, "phase": "coarse", "epoch": 1, "loss": math.nan, "scale": 33.5})
        log.write({"step": 2, "phase": "coarse", "epoch": 1, "mAP": 75.5, "of": "test"})
        log.write({"step": 2, "mAP": 80, "of": "{a}"})
    assert scalars(tmp_path) == {
        "training/epoch": [(1, 1), (2, 1)],
        "training/loss": [(1, 2.5)],
        "training/scale": [(1, 32), (2, 33.5)],
        "monitor/epoch/test": [(2, 1)],
        "monitor/mAP/test": [(2, 75.5)],
        "monitor/mAP/{a}": [(2, 80)],
    }


@pytest.mark.parametrize(("after", "kept"), [(0, []), (2, [1, 2]), (9, [1, 2, 3, 4])])
def test_tensorboard_forgets_the_steps_after_the_checkpoint(tmp_path, after, kept):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    for resumed, steps in ((0, range(1, 5)), (after, range(after + 1, after + 3))):
        with MetricsLog(tmp_path, after_step=resumed) as log:
            for step in steps:
                log.write({"step": step, "loss": float(step + 100 * resumed)})
    expected = [(step, float(step)) for step in kept]
    expected += [(step, float(step + 100 * after)) for step in (after + 1, after + 2)]
    assert scalars(tmp_path) == {"training/loss": expected}
