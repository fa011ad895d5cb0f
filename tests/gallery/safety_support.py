"""A gallery that needs no model, and what it must hold whatever happens to its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cfcd.catalog import Catalog, Item
from cfcd.gallery import Gallery
from cfcd.gallery.truth.store import Store

DIM = 16
Held = dict[str, tuple[Item, bytes]]


def make(folder: Path) -> Gallery:
    meta = {"identity": "x", "model": "x", "model_reference": "x", "dim": str(DIM)}
    Store.create(folder, {**meta, "long_side": "null", "scales": "[1.0]"})
    return Gallery(folder)


def vectors(count: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def catalog(names: list[str], label: str = "", source: str = "/photos") -> Catalog:
    items = [
        Item(
            name,
            Path(f"/photos/{name}.jpg"),
            label or None,
            box=(0.0, 1.0, 2.5, 4.0),
            extra={"city": "Nîmes"},
        )
        for name in names
    ]
    return Catalog.from_items(items, source=Path(source), root=Path("/photos"), kind="folder")


def fill(gallery: Gallery, count: int) -> None:
    """Add, replace and remove, so that the files hold more than one generation."""
    names = [f"item {number}" for number in range(count)]
    gallery.add(catalog(names), vectors(count, 1))
    gallery.add(catalog(names[:20], "changed"), vectors(20, 2))
    gallery.remove(names[10:15])


def held(gallery: Gallery) -> Held:
    """Read everything, and see that a search equals brute force over it."""
    with gallery._store.reading():
        items = list(gallery._store.items())
        found = [np.empty((0, DIM), np.float16)]
        found += [block for _, block in gallery._store.descriptors_above(0, DIM)]
        assert len(items) == len(gallery._store)
    stored = np.concatenate(found)
    query = vectors(1, 99)[0]
    scores = np.sort(stored.astype(np.float32) @ query)[::-1][:5]
    hits = gallery.search_vector(query, 5)
    assert np.allclose([hit.score for hit in hits], scores, atol=2e-3)
    for hit in hits:
        assert gallery.find(hit.id) == hit.item
    return {one.item.id: (one.item, row.tobytes()) for one, row in zip(items, stored, strict=True)}
