"""`cfcd evaluate roxford5k`: the command, what it prints and writes, and which options go together."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.revisited_miniature import make_distractors, make_miniature

Cli = Callable[..., subprocess.CompletedProcess[str]]
MODEL = ("--model", "imagenet-lite0", "--size", "96")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_miniature(tmp_path / "data")
    make_distractors(tmp_path / "more", 3)
    rng = np.random.default_rng(0)
    for name, rows in (("q", 4), ("x", 12), ("d", 5)):
        table = rng.standard_normal((rows, 6)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", table / np.linalg.norm(table, axis=1, keepdims=True))
    return tmp_path / "data"


def test_from_images_to_a_report_that_can_be_compared(cli: Cli, data: Path, tmp_path: Path) -> None:
    command = ("evaluate", "roxford5k", "--root", "data", *MODEL)
    printed = cli(*command, "--distractors", "more", "--out", "report").stdout
    assert printed.startswith("roxford5k: 4 queries against 12 images and 3 distractors (percent)\n")
    assert "cropped to their boxes" in printed
    assert printed.rstrip().endswith("wrote report/report.json, report/report.md, report/report.html")
    saved = json.loads((tmp_path / "report" / "report.json").read_text())
    assert saved["distractors"] == 3
    whole = json.loads(cli(*command, "--no-crop", "--json", "--out", "whole").stdout)
    assert whole["cropped"] is False
    assert whole["settings"]["long_side"] == 96
    assert whole["protocols"]["medium"]["mAP"] < saved["protocols"]["medium"]["mAP"]
    encoded = cli("encode", "more", "--out", "shards", *MODEL)
    assert encoded.returncode == 0
    shards = json.loads(cli(*command, "--distractors", "shards", "--json").stdout)
    assert shards["protocols"] == saved["protocols"]
    assert "not cropped" in cli("compare", "whole", "report", code=1).stderr
    cli(*command[:-1], "128", "--distractors", "more", "--out", "other")
    compared = cli("compare", "report", "other").stdout
    for name in ("easy", "medium", "hard"):
        assert name in compared


def test_from_descriptors(cli: Cli, data: Path) -> None:
    files = ("--queries", "q.npy", "--database", "x.npy", "--ground-truth", "data/gnd_roxford5k.pkl")
    bare = json.loads(cli("evaluate", *files, "--distractors", "d.npy", "--json").stdout)
    assert (bare["dataset"], bare["distractors"], bare["model"]) == (None, 5, None)
    named = cli("evaluate", "roxford5k", *files)
    assert named.stdout.startswith("roxford5k: 4 queries")
    assert "warning: whether the queries were cropped" in named.stdout
    assert cli("evaluate", *files, "--normalise").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ("roxford5k", 2, "--root"),
        ("", 2, "DATA is not given"),
        ("roxford5 --root data", 2, "Did you mean the benchmark roxford5k?"),
        ("ROxford5k --root data", 2, "Did you mean the benchmark roxford5k?"),
        ("roxford5k --root nowhere", 1, "nowhere is no folder"),
        ("rparis6k --root data", 1, "holds no gnd_rparis6k.pkl"),
        ("roxford5k --root data --normalise", 2, "--normalise is for --queries"),
        ("more --no-crop", 2, "--no-crop is for the benchmarks"),
        ("more --distractors more", 2, "--distractors is for the benchmarks"),
        ("more --queries q.npy", 2, "--queries is for the benchmarks"),
        ("roxford5k --root data --distractors more", 2, "--out"),
        ("--queries q.npy", 2, "--database is not given"),
        ("roxford5k --database x.npy", 2, "--queries is not given"),
        ("--queries q.npy --database x.npy", 2, "--ground-truth is not given"),
        (
            "--queries q.npy --database x.npy --ground-truth data/gnd_roxford5k.pkl --size 96",
            2,
            "--size has no effect",
        ),
        (
            "--queries q.npy --database x.npy --ground-truth data/gnd_roxford5k.pkl --precision fp32",
            2,
            "--precision has no effect",
        ),
        ("roxford5k --root data --worst 3", 2, "--worst is for the pictures of --out"),
        ("--queries x.npy --database x.npy --ground-truth data/gnd_roxford5k.pkl", 1, "names 4 images"),
        ("--queries q.npy --database x.npy --ground-truth q.npy", 1, "not a pickle of plain data"),
        ("--queries q.npy --database none.npy --ground-truth data/gnd_roxford5k.pkl", 1, "none.npy"),
    ],
)
def test_errors_are_two_sentences(cli: Cli, data: Path, arguments: str, code: int, word: str) -> None:
    result = cli("evaluate", *arguments.split(), code=code)
    assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 2
