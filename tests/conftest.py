"""What tests share: made-up photos, the developers' real photos, and the command line as a subprocess."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from tests.support import make_photo

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("cfcd", deadline=None)  # how long a test takes says nothing on a busy machine
settings.load_profile("cfcd")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt tests and what they start, as at a terminal; in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 3 labels with 4 photos each; those of a label are brightness variants of one."""
    root = tmp_path / "photos"
    for number, label in enumerate(("arch", "bridge", "church")):
        (root / label).mkdir(parents=True)
        base = np.asarray(make_photo(number), np.float32)
        for variant in range(4):
            pixels = np.clip(base * (0.7 + 0.1 * variant), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{variant}.jpg", quality=95)
    return root


@pytest.fixture(scope="session")
def shared_photos() -> Path:
    """The developers' real photos, which are not part of the repository."""
    folder = REPOSITORY.parent / "shared" / "photos"
    if not folder.is_dir():
        pytest.skip("the developers' photos (shared/photos beside the repository) are not here")
    return folder


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `cfcd ARGUMENTS` in a process of its own, in an empty folder."""

    def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "cfcd", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "120"},
            check=False,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result

    return run
