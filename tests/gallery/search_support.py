"""A gallery of made-up descriptors with catalog columns, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cfcd.catalog import Catalog, Item
from cfcd.gallery import Gallery
from cfcd.gallery.truth.store import Store

DIM = 16
META = {"identity": "made-up", "model": "made-up@0", "model_reference": "made-up", "dim": str(DIM),
    "long_side": "null", "scales": "[1.0]"}  # fmt: skip


def objects(count: int, views: int, noise: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Unit rows of `count` objects from `views` sides each, and their labels."""
    rng = np.random.default_rng(seed)
    middles = np.repeat(rng.standard_normal((count, DIM)), views, axis=0)
    rows = middles + noise * rng.standard_normal(middles.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16).astype(np.float32), [f"object {n // views}" for n in range(len(rows))]


def make_gallery(folder: Path, rows: np.ndarray, labels: list[str | None], **columns: list[Any]) -> Gallery:
    Store.create(folder, META)
    gallery = Gallery(folder)
    gallery.add(make_catalog(labels, **columns), rows)
    return gallery


def make_catalog(labels: list[str | None], name: str = "item", **columns: list[Any]) -> Catalog:
    items = [
        Item(
            id=f"{name}{at}",
            path=Path(f"/photos/{name} {at}.jpg"),
            label=label,
            extra={column: values[at] for column, values in columns.items()},
        )
        for at, label in enumerate(labels)
    ]
    return Catalog.from_items(items, source=Path(f"/photos/{name}.csv"), root=Path("/photos"), kind="csv")
