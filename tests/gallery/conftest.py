"""The gallery that these tests start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder, load_model
from cfcd.gallery import Gallery


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model(precision="fp32")


@pytest.fixture
def gallery(photos: Path, tmp_path: Path, encoder: Encoder) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "gallery", encoder) as opened:
        opened.update(read_catalog(photos))
        yield opened
