from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_a_clean_folder_exits_with_0(cli: Cli, photos: Path) -> None:
    result = cli("check", photos)
    assert "12 images, 3 labels" in result.stdout
    assert result.stdout.endswith("no problems\n")
    assert result.stderr == ""


def test_fatal_problems_exit_with_1_and_name_file_and_row(cli: Cli, photos: Path) -> None:
    (photos / "t.csv").write_text("path,label\narch/0.jpg,arch\narch/9.jpg,arch\n")
    result = cli("check", photos / "t.csv", code=1)
    assert "fatal: missing (1)\n  row 3  arch/9.jpg  no such file\n" in result.stdout
    assert "1 fatal problem, 1 warning; 1 usable images" in result.stdout


def test_warnings_alone_exit_with_0(cli: Cli, photos: Path) -> None:
    (photos / "arch" / "copy.jpg").write_bytes((photos / "arch" / "0.jpg").read_bytes())
    assert "warning: duplicate (1)" in cli("check", photos).stdout


def test_json_is_one_document_with_every_problem(cli: Cli, photos: Path) -> None:
    rows = "".join(f"absent/{number}.jpg\n" for number in range(50))
    (photos / "t.csv").write_text("path\n" + rows)
    value = json.loads(cli("check", photos / "t.csv", "--json", code=1).stdout)
    assert value["counts"] == {"missing": 50}
    assert [problem["row"] for problem in value["problems"]] == list(range(2, 52))


def test_quick_reads_headers_only(cli: Cli, photos: Path) -> None:
    file = photos / "arch" / "0.jpg"
    file.write_bytes(file.read_bytes()[:-500])
    assert "truncated" in cli("check", photos, code=1).stdout
    assert "truncated" not in cli("check", photos, "--quick").stdout


def test_a_root_moves_relative_paths(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("0.jpg x\n1.jpg x\n")
    cli("check", "t.txt", code=1)
    cli("check", "t.txt", "--root", photos / "arch")


def test_data_that_cannot_be_read_is_two_sentences_on_stderr(cli: Cli) -> None:
    result = cli("check", "nowhere", code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "does not exist." in result.stderr
