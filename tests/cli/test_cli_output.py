from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cfcd.cli.output import emit, guarded, one_line
from cfcd.errors import UsageError

Cli = Callable[..., subprocess.CompletedProcess[str]]


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("The box is odd.", "Mend it."), 2, ["error: The box is odd.", "  Mend it."]),
        (PermissionError(13, "Permission denied", "/x"), 1, ["refused", "/x", "Permission denied"]),
        (OSError(28, "No space left on device"), 1, ["No space left"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (ZeroDivisionError("division by zero"), 1, ["should not happen", "--debug"]),
    ],
)
def test_every_end_has_its_words_and_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: list[str]
) -> None:
    assert guarded(raising(error), debug=False) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(word in captured.err for word in words)
    assert "Traceback" not in captured.err


def test_json_knows_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": [float("nan"), 1.5, {"b": float("inf")}]}, "", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, {"b": None}]}


def test_one_line() -> None:
    assert one_line("a\nb\x1b[31m") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m"
    assert one_line("Köln 東京") == "Köln 東京"


def test_names_a_terminal_cannot_show(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (photos / "arch" / "0.jpg").rename(photos / "arch" / "東京.jpg")
    cli("index", photos, "--out", "gallery")
    result = subprocess.run(
        [sys.executable, "-m", "cfcd", "search", "gallery", photos / "arch" / "1.jpg"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert b"\\u6771\\u4eac.jpg" in result.stdout


def test_a_folder_that_may_not_be_written_to(cli: Cli, photos: Path, tmp_path: Path) -> None:
    result = cli("index", photos, "--out", photos / "arch" / "0.jpg" / "gallery", code=1)
    assert "should not happen" not in result.stderr
    cli("index", photos, "--out", "gallery")
    result = cli("search", "gallery", "--id", "arch/0.jpg", "--grid", "/proc/x.png", code=1)
    assert "should not happen" not in result.stderr


def test_a_read_only_gallery_is_searched_and_not_written(photos: Path, cli: Cli, tmp_path: Path) -> None:
    if shutil.which("setpriv") is None or os.name != "posix":
        pytest.skip("needs setpriv, which takes root's right to write anywhere away")
    cli("index", photos, "--out", "gallery")
    for left in (tmp_path / "gallery").glob("*-*m"):
        left.unlink()
    (tmp_path / "gallery").chmod(0o555)
    caps = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}"] if os.geteuid() == 0 else []

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*drop, sys.executable, "-m", "cfcd", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    try:
        found = run("search", "gallery", "--id", "arch/0.jpg", "--k", "1")
        assert found.returncode == 0, found.stderr
        assert "arch" in found.stdout
        refused = run("index", str(photos), "--out", "gallery")
        assert refused.returncode == 1
        assert "cannot be written to" in refused.stderr
    finally:
        (tmp_path / "gallery").chmod(0o755)


def test_random_weights_are_named_on_every_use(cli: Cli, photos: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    cli("create", "model", "--backbone", "efficientnet_lite0", "--weights", "random")
    for command in (
        ("index", photos, "--model", "model", "--out", "gallery"),
        ("search", "gallery", photos / "arch" / "0.jpg"),
        ("evaluate", photos, "--model", "model"),
    ):
        assert "random weights" in cli(*command).stderr
