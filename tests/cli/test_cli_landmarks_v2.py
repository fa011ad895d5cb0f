from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evaluation.landmarks_dataset import (
    TEST,
    check_recognition,
    check_retrieval,
    image,
    make_dataset,
    picture,
)

Cli = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = "evaluate-landmarks"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "gldv2")


def test_retrieval(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    found = json.loads(cli(COMMAND, "retrieval", dataset, "--size", "64", "--out", "out", "--json").stdout)
    check_retrieval(found)
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {name: saved[name] for name in found} == found
    assert [query["ap"] for query in saved["per_query"]] == [
        {"all": 100, "public": 100},
        {"all": 50, "private": 50},
        {"all": 100, "private": 100},
    ]
    assert (
        "A and B have the same average precision on each of 2 queries" in cli("compare", "out", "out").stdout
    )
    sides = ["--gallery", "out/index", "--queries", "out/test-retrieval"]
    text = cli(COMMAND, "retrieval", dataset, *sides).stdout
    assert text.startswith("mAP@100   public 100.00 (1 queries)   private 75.00 (2 queries)   all 83.33")
    assert "model imagenet-lite0@" in text


def test_recognition(cli: Cli, dataset: Path) -> None:
    picture(dataset, "test", image(TEST, 4)).write_bytes(b"no picture")
    arguments = ["--size", "64", "--k", "3", "--out", "out", "--json"]
    result = cli(COMMAND, "recognition", dataset, *arguments)
    check_recognition(json.loads(result.stdout))
    assert f"{image(TEST, 4)}.jpg" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["retrieve", "gldv2"], 2, "'retrieve' is unknown"),
        (["recognition", "gldv2", "--vote", "mean"], 2, "--vote 'mean'"),
        (["retrieval"], 2, "is not given"),
        (["retrieval", "gldv2", "--out", "o", "--k", "3"], 2, "--k is for recognition"),
        (["retrieval", "gldv2", "--out", "o", "--vote", "max"], 2, "--vote is for recognition"),
        (["retrieval", "gldv2", "--out", "o", "--labels", "none.csv"], 2, "--labels is for recognition"),
        (
            ["retrieval", "gldv2", "--gallery", "x.npy", "--queries", "x.npy", "--device", "cpu"],
            2,
            "--device",
        ),
        (["retrieval", "gldv2", "--solution", "none.csv", "--out", "o"], 1, "none.csv"),
    ],
)
def test_errors_are_two_sentences(
    cli: Cli, dataset: Path, arguments: list[str], code: int, word: str
) -> None:
    result = cli(COMMAND, *arguments, code=code)
    assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
