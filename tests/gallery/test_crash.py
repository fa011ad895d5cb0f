from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = Path(__file__).resolve().parents[2] / "benchmarks" / "crash.py"


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
def test_killed_writers_and_damaged_files_lose_nothing() -> None:
    """A small run of the benchmark: it counts what is lost or wrong, also for readers meanwhile."""
    command = [sys.executable, str(CRASH), "--kills", "12", "--damages", "16", "--readers", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line.split("|")[1:-1] for line in result.stdout.splitlines() if line.startswith("|")]
    rounds = {cells[0].strip(): int(cells[1]) for cells in lines[2:]}
    assert rounds["kill -9"] == 12
    assert rounds["searches meanwhile"] > 0
    assert sum(count for name, count in rounds.items() if name[:4] not in {"kill", "sear"}) == 16
