"""Small stores of clustered vectors, and the slow search that indexes are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.gallery.truth.store import Store

DIM = 32


def clustered(count: int, seed: int = 0, centres: int = 40, dim: int = DIM) -> np.ndarray:
    """Unit vectors around centres, as descriptors of objects are, in the precision of the store."""
    rng = np.random.default_rng(seed)
    middle = np.random.default_rng(99).standard_normal((centres, dim))
    vectors = middle[rng.integers(0, centres, count)] + 0.6 * rng.standard_normal((count, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16).astype(np.float32)


def make_store(folder: Path, meta: dict[str, str] | None = None) -> Store:
    Store.create(folder, meta or {})
    return Store(folder, write=True)


def add(store: Store, vectors: np.ndarray) -> None:
    first = store.generation
    with store.changing():
        for at, vector in enumerate(vectors):
            item = Item(id=f"{first}-{at}", path=Path("/x.jpg"))
            store.insert("test", item.id, item, FileStamp(1, 1, b""), vector)


def remove(store: Store, numbers: list[int]) -> None:
    with store.changing() as generation:
        store.remove(numbers, generation)


def everything(store: Store, dim: int = DIM) -> tuple[np.ndarray, np.ndarray]:
    """All row numbers and their vectors, read in odd blocks."""
    parts = list(store.descriptors_above(0, dim, block=777))
    if not parts:
        return np.empty(0, np.int64), np.empty((0, dim))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]).astype(
        float
    )


def slow_search(
    store: Store, query: np.ndarray, k: int, allowed: set[int] | None = None
) -> list[tuple[int, float]]:
    numbers, vectors = everything(store, len(query))
    hits = [
        (number, score)
        for number, score in zip(numbers.tolist(), (vectors @ query.astype(float)).tolist(), strict=True)
        if allowed is None or number in allowed
    ]
    return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]
