"""Catalogs without pictures."""

from __future__ import annotations

from pathlib import Path

from cfcd.catalog import Catalog

Flags = list[bool | None]


def table(
    labels: list[str | None] | None,
    queries: Flags | None = None,
    gallery: Flags | None = None,
    *,
    splits: list[str | None] | None = None,
) -> Catalog:
    ids = [f"{number}.jpg" for number in range(len(labels or splits or queries or gallery or "ab"))]
    return Catalog(
        source=Path("/data/photos.csv"),
        root=Path("/data"),
        kind="table",
        ids=ids,
        paths=ids,
        labels=labels,
        splits=splits,
        is_query=queries,
        is_gallery=gallery,
    )
