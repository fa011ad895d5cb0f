"""What tests of whole runs share: pictures and a finished run; torch is met only where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cfcd.training.loop import Advance
    from tests.training.runs.run_support import FinishedRun


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Train a thin network in one thread of the CPU, even where there is a GPU: there, bits may differ."""
    from tests.training.runs.run_support import make_thin, on_one_core

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    make_thin(monkeypatch.setattr)
    with on_one_core():
        yield


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end without a model folder and curves, which take longer than a few steps."""
    from cfcd.training import run

    monkeypatch.setattr(run, "save_model", lambda *_, **__: SimpleNamespace(label="light"))
    monkeypatch.setattr(run, "draw_curves", lambda _: None)


@pytest.fixture
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that must not be changed: 4 classes of 6."""
    return _collection(tmp_path_factory.getbasetemp())


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory, quick: None) -> FinishedRun:
    """A run of both phases with a fitted whitening; must not be changed."""
    return _finished(tmp_path_factory.getbasetemp())


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory, quick: None, light: None) -> Path:
    """The folder of a run by TINY that nothing interrupted; without model and curves."""
    return _whole(tmp_path_factory.getbasetemp())


@cache
def _collection(base: Path) -> Path:
    from tests.training.runs.run_support import make_collection

    return make_collection(base / "collection" / "photos")


@cache
def _finished(base: Path) -> FinishedRun:
    from cfcd.model import save_model
    from cfcd.training import run
    from cfcd.training.curves import draw_curves
    from tests.training.runs.run_support import METRIC, FinishedRun

    notes: list[str] = []
    labels: list[str] = []

    @contextmanager
    def progress(label: str) -> Iterator[Advance]:
        labels.append(label)
        yield lambda _done, _total: None

    photos, folder = _collection(base), base / "finished" / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        # The test that asks first may end its own runs lightly.
        patch.setattr(run, "save_model", save_model)
        patch.setattr(run, "draw_curves", draw_curves)
        summary = run.train(photos, folder, options=METRIC, note=notes.append, progress=progress, matches=2)
    return FinishedRun(photos, folder, summary, notes, labels)


@cache
def _whole(base: Path) -> Path:
    from cfcd.training.run import train
    from tests.training.runs.run_support import TINY

    train(_collection(base), base / "whole", options=TINY)
    return base / "whole"
