"""The galleries that these tests start from: in a folder, and on a Milvus server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder, load_model
from cfcd.gallery import Gallery
from cfcd.gallery.milvus.address import MilvusAddress
from cfcd.gallery.milvus.client import MilvusClient
from cfcd.gallery.milvus.gallery import MilvusGallery
from cfcd.gallery.opening import open_or_create
from tests.gallery.milvus_server import milvus_server

# A server that runs already, to save the time of starting one: milvus://host:port
RUNNING = "CFCD_TEST_MILVUS"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model(precision="fp32")


@pytest.fixture
def gallery(photos: Path, tmp_path: Path, encoder: Encoder) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "gallery", encoder) as opened:
        opened.update(read_catalog(photos))
        yield opened


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if find_spec("pymilvus") is None:
        pytest.skip("pymilvus is not installed")
    if RUNNING in os.environ:
        yield os.environ[RUNNING]
        return
    if find_spec("milvus") is None:
        pytest.skip("the package milvus, which brings a server, is not installed")
    running = milvus_server(tmp_path_factory.mktemp("milvus"))
    try:
        port = running.__enter__()
    except RuntimeError as error:
        pytest.skip(f"no Milvus server can be started here: {error}")
    try:
        yield f"milvus://127.0.0.1:{port}"
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def place(server: str) -> Iterator[str]:
    """A gallery's address; what is there is dropped before and after."""
    address = MilvusAddress.parse(f"{server}/photos_{os.getpid()}")
    client = MilvusClient(address)
    for end in (False, True):
        for name in (address.collection, f"{address.collection}_cfcd"):
            if client.description(name) is not None:
                client.drop(name)
        if not end:
            yield str(address)
    client.close()


@pytest.fixture
def both(place: str, tmp_path: Path, encoder: Encoder) -> Iterator[tuple[Gallery, Gallery]]:
    """An empty gallery in a folder and one on the server."""
    with (
        open_or_create(tmp_path / "gallery", precision="fp32") as folder,
        MilvusGallery.create(place, encoder) as remote,
    ):
        folder.use(encoder)
        yield folder, remote
