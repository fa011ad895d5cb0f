from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cfcd.gallery import Gallery
from cfcd.gallery.indexes.choice import Choice, read_choice

Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_what_was_chosen_is_kept_and_shown(cli: Cli, photos: Path, tmp_path: Path) -> None:
    options = ("--memory", "2GB", "--recall", "99%", "--latency", "20ms", "--reduce", "64")
    made = json.loads(cli("index", photos, "--out", "gallery", *options, "--json").stdout)
    assert made["index"] == {
        "kind": "exact",
        "chosen": "for memory 2 GB, recall@10 0.99, latency 20 ms",
        "recall": "exact",
    }
    assert "index" not in json.loads(cli("index", photos, "--out", "gallery", "--json").stdout)
    shown = cli("info", "gallery").stdout
    assert "for memory 2 GB, recall@10 0.99, latency 20 ms" in shown
    assert "exact" in shown
    with Gallery(tmp_path / "gallery") as gallery:
        expected = Choice(memory=2 * 10**9, recall=0.99, latency=0.02, reduce=64)
        assert read_choice(gallery._store) == expected


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--index", "faiss"), "faiss"),
        (("--memory", "2"), "2GB"),
        (("--recall", "99"), "0.99"),
        (("--latency", "20"), "20ms"),
        (("--index", "pq", "--recall", "0.9"), "either"),
        (("--whiten",), "--reduce"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_made(
    cli: Cli, photos: Path, tmp_path: Path, options: tuple[str, ...], word: str
) -> None:
    result = cli("index", photos, "--out", "gallery", *options, code=2)
    assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "gallery").exists()
