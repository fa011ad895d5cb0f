"""`cfcd compare` on reports that `cfcd evaluate` has written."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import make_photo

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def reports(cli: Cli, photos: Path) -> None:
    """Reports of one collection at two sizes, one label of it hard."""
    for number in range(3):
        make_photo(20 + number).save(photos / "arch" / f"{number}.jpg")
    cli("evaluate", photos, "--out", "before", "--size", "64")
    cli("evaluate", photos, "--out", "after")


def test_two_runs_are_compared_as_text_json_and_files(cli: Cli, reports: None, tmp_path: Path) -> None:
    result = cli("compare", "before", "after", "--out", "comparison")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("A  imagenet-lite0@")
    assert lines[1].endswith("(after/report.json)")
    assert [line.split()[0] for line in lines[4:8]] == ["mAP", "R@1", "R@5", "R@10"]
    assert "wrote comparison/comparison.json" in lines[-1]
    page = (tmp_path / "comparison" / "comparison.html").read_text("utf-8")
    assert "<script" not in page
    assert "Query by query" in page
    value = json.loads(cli("compare", "before/report.json", "after", "--json").stdout)
    assert value == json.loads((tmp_path / "comparison" / "comparison.json").read_text()) | {
        "a": {"report": "before/report.json", "model": value["a"]["model"]}
    }
    (protocol,) = value["protocols"]
    means = [json.loads((tmp_path / name / "report.json").read_text())["mAP"] for name in ("before", "after")]
    assert protocol["measures"][0]["difference"]["mean"] == pytest.approx(means[1] - means[0], abs=1e-3)
    assert len(protocol["queries"]) == 12


def test_pictures_that_moved_or_went(cli: Cli, reports: None, photos: Path, tmp_path: Path) -> None:
    def pictures(*options: str) -> int:
        cli("compare", "before", "after", "--out", "c", *options)
        return (tmp_path / "c" / "comparison.html").read_text("utf-8").count("<img")

    there = pictures()
    assert there > 0
    assert pictures("--changed", "0") == 0
    shutil.move(photos, tmp_path / "moved")
    assert pictures() == 0
    assert pictures("--root", "moved") == there


def test_other_data_are_refused_unless_asked_for(cli: Cli, reports: None, photos: Path) -> None:
    (photos / "church" / "3.jpg").unlink()
    cli("evaluate", photos, "--out", "fewer")
    refused = cli("compare", "before", "fewer", code=1)
    assert "Only in A: 1 query, 'church/3.jpg'." in refused.stderr
    assert "--common" in refused.stderr
    assert refused.stdout == ""
    common = cli("compare", "before", "fewer", "--common").stdout
    assert "note: Only in A: 1 query, 'church/3.jpg'." in common


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["compare", "before"], 2, "Missing argument"),
        (["compare", "absent", "absent"], 1, "There is no report absent"),
        (["compare", "empty", "empty"], 1, "There is no report empty/report.json"),
        (["compare", "odd.json", "odd.json"], 1, "odd.json has no list per_query"),
        (["compare", "odd.json", "odd.json", "--changed", "-1"], 2, "--changed"),
    ],
)
def test_errors_are_two_sentences(
    cli: Cli, tmp_path: Path, arguments: list[str], code: int, word: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd.json").write_text("{}")
    result = cli(*arguments, code=code)
    assert word in result.stderr
    assert "Traceback" not in result.stderr
