"""Two processes that share every batch end where one process ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from safetensors.numpy import load

from cfcd.model import create_model, lite0
from cfcd.training import run
from cfcd.training.log import read_metrics
from cfcd.training.run import read_summary, train
from tests.training.runs.run_support import (
    METRIC,
    REPOSITORY,
    SERIAL,
    TINY,
    WIDE,
    Power,
    cut_at,
    make_collection,
    rows_of,
    spoil,
    weights_of,
)

# The published network, because in a thin one local descriptors are so alike that rounding decides what is
# nearest; and slowly, because great steps multiply what rounding does.
SUM = TINY | {"model.weights": "default", "fine.reduction": "sum", "coarse.lr": 1e-4, "fine.lr": 1e-4}
MEAN = SUM | {"coarse.epochs": 1, "fine.reduction": "mean", "optimizer.ema": 0.9, "optimizer.clip": 5.0}
FITTED = METRIC | {"fine.epochs": 0}
# Nothing looks at all pictures but the steps themselves.
BLIND = TINY | {"whitening.kind": "learned", "run.monitor": 0, "coarse.epochs": 1, "fine.epochs": 0}
THIN = {"fitted": FITTED, "blind": BLIND}


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Start two processes, on a port that is free."""
    try:
        with socket.create_server(("127.0.0.1", 0)):
            pass
    except OSError as error:
        pytest.skip(f"processes cannot talk to each other here: {error}")
    environment = dict(SERIAL)
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the machine's name resolves to
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=REPOSITORY,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


Tensors = dict[str, NDArray[np.float32]]


def start(weights: str | None) -> Tensors:
    """Give the weights that a run starts from."""
    backbone = create_model(weights=weights).net.backbone
    return {f"backbone.{name}": value.numpy().copy() for name, value in backbone.state_dict().items()}


def assert_alike(one: Path, two: Path, start: Tensors) -> None:
    """Compare the rows of two runs to 1e-5, and their weights, also by how far training has moved them."""
    first, second = rows_of(one), rows_of(two)
    assert len(first) == len(second)
    for mine, theirs in zip(first, second, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            # Parts of the loss that are differences of greater numbers are known as well as the loss.
            if isinstance(value, float):
                assert theirs[key] == pytest.approx(value, rel=1e-5, abs=1e-5 * mine.get("loss", 1)), key
            else:
                assert theirs[key] == value
    expected, found = load(weights_of(one)), load(weights_of(two))
    assert expected.keys() == found.keys()

    def norm(tensors: Iterable[NDArray[np.float32]]) -> float:
        return float(np.sqrt(sum(np.square(tensor, dtype=np.float64).sum() for tensor in tensors)))

    # Over the network: where an activation is at a corner of ReLU6, rounding alone decides on its gradient.
    apart = norm(found[name] - tensor for name, tensor in expected.items())
    moved = norm(tensor - start[name] for name, tensor in expected.items() if name in start)
    assert apart <= 1e-5 * norm(expected.values())
    assert apart <= 1e-2 * moved


@dataclass(frozen=True)
class Launch:
    """The runs that two processes made, beside those of one, and what the command said."""

    spoilt: list[Path]
    one: Path
    two: Path
    said: subprocess.CompletedProcess[str]
    thin: Tensors
    published: Tensors


@pytest.fixture
def launch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Train by one process and by two, the first time."""
    return _launch(tmp_path_factory.getbasetemp() / "launch", monkeypatch)


_made: dict[Path, Launch] = {}


def _launch(base: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    if base in _made:
        return _made[base]
    monkeypatch.setattr(run, "draw_curves", lambda _: None)
    one, two = base / "one", base / "two"
    photos = make_collection(base / "photos")
    spoilt = [photos / label / f"{n}.jpg" for label in ("arch", "dome") for n in (1, 2, 4)]
    for picture in spoilt:
        spoil(picture)
    for name, options in THIN.items():
        train(photos, one / name, options=options)
    thin = start(None)
    for name, value in WIDE.items():
        monkeypatch.setattr(lite0, name, value)
    for name, options in (("sum", SUM), ("mean", MEAN)):
        train(photos, one / name, options=options)
    with pytest.raises(Power):
        train(photos, two / "sum", options=SUM, progress=cut_at("coarse 1/2", 3))
    jobs = [
        {"data": str(photos), "out": str(two / name), "options": options, "thin": name in THIN}
        for name, options in [*THIN.items(), ("mean", MEAN)]
    ]
    command = ("train", photos, "--out", two / "sum", "--resume", "--json")
    said = torchrun("-m", "tests.training.runs.several_runs", json.dumps(jobs), *command)
    return _made.setdefault(base, Launch(spoilt, one, two, said, thin, start("default")))


def test_the_mean_over_matches(launch: Launch) -> None:
    assert any(row.get("triplets") for row in read_metrics(launch.one / "mean"))
    assert_alike(launch.one / "mean", launch.two / "mean", launch.published)


def test_the_sum_over_matches_in_a_run_that_one_process_began(launch: Launch) -> None:
    assert any(row.get("triplets") for row in read_metrics(launch.one / "sum"))
    assert_alike(launch.one / "sum", launch.two / "sum", launch.published)


def test_a_fitted_whitening(launch: Launch) -> None:
    assert_alike(launch.one / "fitted", launch.two / "fitted", launch.thin)


@pytest.mark.parametrize("name", ["sum", "blind"])
def test_pictures_that_no_process_could_read_are_named_once(launch: Launch, name: str) -> None:
    for folder in (launch.one / name, launch.two / name):
        summary = read_summary(folder)
        assert [path for path, _ in summary.skipped] == sorted(map(str, launch.spoilt))
        assert summary.images == 18


def test_the_command_says_everything_once(launch: Launch) -> None:
    for word in ("coarse 2/2", "mined", f"skipped {launch.spoilt[0]}"):
        assert launch.said.stderr.count(word) == 1, launch.said.stderr
    assert json.loads(launch.said.stdout) == read_summary(launch.two / "sum").to_json()
