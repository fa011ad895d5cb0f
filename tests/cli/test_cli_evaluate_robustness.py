"""`cfcd evaluate --robustness` from photos to table, JSON and page."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import make_photo

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Two labels of two photos, square and small: a network is slow at every new shape."""
    for number, label in enumerate(("arch", "bridge")):
        (tmp_path / "few" / label).mkdir(parents=True)
        for variant in range(2):
            photo = make_photo(number, (64, 64)).point(
                lambda value, by=variant: int(value * (0.8 + 0.1 * by))
            )
            photo.save(tmp_path / "few" / label / f"{variant}.jpg")
    return tmp_path / "few"


def test_photos_are_disturbed_and_reported(cli: Cli, few: Path, tmp_path: Path) -> None:
    result = cli("evaluate", few, "--robustness", "--size", "32", "--out", "report")
    assert "leave-one-out: all 4 queries, disturbed, against 4 clean images" in result.stdout
    for name in ("perspective", "rotation", "scale", "crop", "occlusion", "blur", "noise", "JPEG", "all"):
        assert any(line.startswith(f"{name} ") for line in result.stdout.splitlines())
    assert "wrote report/robustness.json, report/robustness.md, report/robustness.html" in result.stdout
    saved = json.loads((tmp_path / "report" / "robustness.json").read_text("utf-8"))
    assert len(saved["disturbances"]) == 10
    assert saved["unusable_rows"] == []
    assert saved["clean_mAP"] == 100
    assert 0 < saved["mAP"] < 100
    page = (tmp_path / "report" / "robustness.html").read_text("utf-8")
    assert page.count('<svg class="plot"') == 10
    assert page.count("<img") == 10 * 5
    again = json.loads(cli("evaluate", few, "--robustness", "--size", "32", "--json").stdout)
    assert again == saved


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["evaluate", "--robustness"], 2, "DATA is not given"),
        (["evaluate", "roxford5k", "--robustness", "--root", "."], 2, "not for the benchmarks"),
        (["evaluate", "few", "--robustness", "--out", "few/report"], 2, "lies inside"),
        (["evaluate", "few", "--robustness", "--out", "report", "--worst", "3"], 2, "without --robustness"),
        (["evaluate", "few/arch", "--robustness"], 1, "no labels"),
        (["evaluate", "few", "--robustness", "--distractors", "few"], 2, "is for the benchmarks"),
    ],
)
def test_errors_are_two_sentences(cli: Cli, few: Path, arguments: list[str], code: int, words: str) -> None:
    result = cli(*arguments, code=code)
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (few / "report").exists()
