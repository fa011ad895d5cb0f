"""The gallery that tests of the web ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.web_support import TOKEN, make_site, serving_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery folder; nothing changes it."""
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def client(site: Path) -> Iterator[httpx.Client]:
    """Asks a service of the gallery that takes no changes."""
    with serving_site(site) as asked:
        yield asked


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the pictures that `writable` is given land."""
    return tmp_path_factory.mktemp("writable") / "gallery-uploads"


@pytest.fixture(scope="module")
def writable(uploads: Path) -> Iterator[httpx.Client]:
    """Asks a service of a gallery of its own, which takes changes."""
    with serving_site(make_site(uploads.parent), token=TOKEN) as asked:
        yield asked
