"""The README says what is true: its commands and its code run, over pictures with the names it uses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support import make_photo

README = (REPOSITORY / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

# The service is stopped once it answers; on a free port, as another one may run here.
_SERVE = f"""
serve() {{
    "{sys.executable}" -m cfcd serve "$@" --port 0 > serving.txt &
    until grep -q http serving.txt; do kill -0 $! && sleep 0.2 || return 1; done
    kill $! && wait $!
}}"""


@pytest.fixture
def desk(photos: Path) -> Path:
    """A folder with the pictures that the README names, and `photos/` in it."""
    for number, name in enumerate(("a", "b", "query")):
        make_photo(number).save(photos.parent / f"{name}.jpg")
    return photos.parent


def test_the_commands_run(desk: Path) -> None:
    commands = [line for language, block in BLOCKS if not language for line in block.splitlines()]
    commands = [line for line in commands if line.startswith("cfcd ")]
    assert len(commands) >= 4
    program = f'cfcd() {{ "{sys.executable}" -m cfcd "$@"; }}; {_SERVE}; set -e\n' + "\n".join(
        command.replace("cfcd serve", "serve") for command in commands
    )
    result = subprocess.run(["bash", "-c", program], cwd=desk, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (desk / "results.html").is_file()


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_the_code_runs(desk: Path, code: str) -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=desk, capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 6


def test_the_scripts_are_there() -> None:
    for script in re.findall(r"^(scripts/\w+)", README, re.MULTILINE):
        assert os.access(REPOSITORY / script, os.X_OK)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target
