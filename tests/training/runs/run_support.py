"""Small training runs: pictures, options that keep them short, and what to compare of two runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cfcd.model import lite0
from cfcd.training.checkpoints import load_checkpoint
from cfcd.training.log import read_metrics
from cfcd.training.loop import Advance, Progress
from cfcd.training.run import TrainSummary
from tests.support import make_photo

REPOSITORY = Path(__file__).resolve().parents[3]
CLASSES = ("arch", "bridge", "church", "dome")
EACH = 6

# fp32, so that numbers can be compared; crops that leave local matches; whatever small is, the same steps.
TINY: dict[str, object] = {
    "distill": 10.0,
    "model.weights": "random",
    "model.long_side": 64,
    "model.freeze": 13,
    "whitening.kind": "none",
    "head.kind": "madacos",
    "augment.size": 96,
    "augment.area": [0.7, 1.0],
    "augment.flip": 0.0,
    "coarse.epochs": 2,
    "coarse.batch": 8,
    "coarse.lr": 0.002,
    "coarse.full_lr_steps": 0,
    "coarse.warmup": 0.1,
    "fine.epochs": 1,
    "fine.batch": 16,
    "fine.lr": 0.001,
    "fine.warmup": 0.1,
    "fine.weight": 1.0,
    "fine.margin": 0.1,
    "fine.ratio": 0.9,
    "fine.reduction": "sum",
    "run.precision": "fp32",
    "run.monitor": 12,
    "run.workers": 2,
    "run.checkpoint_minutes": 1e-6,
}
METRIC = TINY | {"whitening.kind": "metric", "whitening.dim": 16}
STEPS = 2 * 3 + 2
"""Steps of a run by these options: 24 pictures in batches of 8, twice, then 32 in batches of 16."""

SHORT = TINY | {"coarse.epochs": 1, "coarse.batch": 24, "fine.batch": 24}
"""One step per phase."""

# Of a machine with a GPU, the CPU is used: bit for bit holds there only.
SERIAL = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def make_thin(set_attribute: Callable[[object, str, object], None]) -> None:
    """Make new Lite0 networks thin: all 18 stages, but few channels, and 32 in the last map."""
    thin = [stage._replace(width=8, expansion=min(2, stage.expansion)) for stage in lite0.STAGES]
    set_attribute(lite0, "STAGES", tuple(thin))
    set_attribute(lite0, "CHANNELS", 32)


@dataclass(frozen=True)
class FinishedRun:
    """Hold a finished run, with what it said."""

    photos: Path
    folder: Path
    summary: TrainSummary
    notes: list[str]
    progress: list[str]


WIDE = {"STAGES": lite0.STAGES, "CHANNELS": lite0.CHANNELS}
"""What `make_thin` changes in the module lite0."""


def make_collection(root: Path) -> Path:
    """Write a folder of 4 classes with 6 pictures each: brightness variants and shifts of one."""
    for number, label in enumerate(CLASSES):
        (root / label).mkdir(parents=True)
        base = np.asarray(make_photo(number, (160, 120)), np.float32)
        for variant in range(EACH):
            part = base[variant : variant + 108, 2 * variant : 2 * variant + 144]
            pixels = np.clip(part * (0.7 + 0.08 * variant), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{variant}.jpg", quality=95)
    return root


def spoil(picture: Path) -> None:
    """Turn a file into something that is no picture."""
    picture.write_bytes(b"no picture")


def as_options(options: dict[str, object]) -> list[str]:
    """Write options as the command line takes them."""
    return [word for key, value in options.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def weights_of(run: Path) -> bytes:
    """Read the trained weights of a run."""
    return (run / "model" / "model.safetensors").read_bytes()


def state_of(run: Path) -> dict[str, bytes]:
    """Read the network and the optimiser of a run's last checkpoint."""
    found = load_checkpoint(run)
    assert found is not None
    flat: dict[str, bytes] = {}

    def visit(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                visit(item, f"{name}.{key}")
        elif hasattr(value, "numpy"):
            flat[name] = value.numpy().tobytes()
        else:
            flat[name] = repr(value).encode()

    parts = ("phase", "epoch", "step", "net", "optimizer", "average", "predicted", "random", "measured")
    for part in parts:
        visit(getattr(found, part), part)
    return flat


@contextmanager
def on_one_core() -> Iterator[None]:
    """Let torch compute in one thread during the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Read the log of a run without what depends on the clock."""
    clock = ("seconds", "images_per_s")
    return [{key: value for key, value in row.items() if key not in clock} for row in read_metrics(run)]


class Power(BaseException):
    """A power cut: no error that anybody handles."""


def cut_at(label: str | tuple[str, ...], call: int = 1, act: Callable[[], None] | None = None) -> Progress:
    """Make a `progress` that acts (by default: cuts the power) at the n-th call under a label."""
    calls = 0

    def cut() -> None:
        raise Power(f"{label} {call}")

    @contextmanager
    def progress(current: str) -> Iterator[Advance]:
        def advance(_done: int, _total: int) -> None:
            nonlocal calls
            calls += current.startswith(label)
            if calls == call and current.startswith(label):
                (act or cut)()

        yield advance

    return progress


def run_python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, in the repository's root, so that it finds the tests."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=SERIAL,
        cwd=REPOSITORY,
        check=False,
    )
