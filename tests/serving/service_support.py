"""Galleries to be served, and what tests ask of a service."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.encoding import Encoder, load_model
from cfcd.gallery import Gallery
from cfcd.serving.queries import Query, QueryPicture, Wish
from cfcd.serving.service import Service
from tests.support import make_photo


@cache
def small_encoder(long_side: int = 96) -> Encoder:
    return load_model(precision="fp32", long_side=long_side)


def photo_bytes(seed: int) -> bytes:
    stream = BytesIO()
    make_photo(seed).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Random unit rows, as fp16 holds them."""
    found = np.random.default_rng(seed).standard_normal((count, 1280))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float16).astype(np.float32)


def made_up(names: list[str], folder: Path, labels: list[str] | None = None, **columns: list[Any]) -> Catalog:
    items = [
        Item(
            id=name,
            path=folder / f"{name}.jpg",
            label=None if labels is None else labels[at],
            extra={key: values[at] for key, values in columns.items()},
        )
        for at, name in enumerate(names)
    ]
    return Catalog.from_items(items, source=folder, root=folder, kind="made-up")


def gallery_of_rows(
    folder: Path,
    vectors: np.ndarray,
    name: str,
    labels: list[str] | None = None,
    *,
    long_side: int = 96,
    **columns: list[Any],
) -> None:
    """Make a gallery of items name0, name1, ... with these descriptors."""
    with Gallery.create(folder, small_encoder(long_side)) as gallery:
        names = [f"{name}{at}" for at in range(len(vectors))]
        gallery.add(made_up(names, folder.parent, labels, **columns), vectors)


def gallery_of_photos(folder: Path, photos: Path) -> None:
    with Gallery.create(folder, small_encoder()) as gallery:
        gallery.update(read_catalog(photos))


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Service]:
    service = Service.open(folder, precision="fp32", **options)
    try:
        yield service
    finally:
        service.close()


def best(service: Service, vector: np.ndarray) -> str:
    found = service.search(Query(vectors=[vector]), Wish(k=1))
    return found.hits[0].id


def of_picture(data: bytes) -> Query:
    return Query(pictures=[QueryPicture(data)])


def python(code: str, *arguments: str | Path) -> str:
    """Run Python in a process of its own; gives what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
