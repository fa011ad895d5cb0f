"""Describe whatever a path holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cfcd.catalog import Catalog, read_catalog
from cfcd.encoding.shards import is_encoded, read_ids, read_settings, shard_numbers
from cfcd.gallery.opening import gallery_class, is_gallery
from cfcd.model import ModelFolder, find_model
from cfcd.model.folder import CONFIG, TRAINED, built_in_names


def describe(path: str | Path) -> dict[str, Any]:
    """Describe a gallery, an encoded folder, a model (folder or built-in name) or pictures, as plain data."""
    folder = Path(path)
    if is_gallery(path):
        with gallery_class(path)(path) as gallery:
            return gallery.info()
    if is_encoded(folder):
        settings = read_settings(folder)
        counts = {"items": len(read_ids(folder)), "shards": len(shard_numbers(folder))}
        return {"kind": "encoded folder", "folder": str(folder), **counts, **settings}
    if str(path) in built_in_names() or any((folder / part / CONFIG).is_file() for part in (".", TRAINED)):
        return _describe_model(find_model(path))
    return _describe_catalog(read_catalog(folder))


def _describe_model(model: ModelFolder) -> dict[str, Any]:
    network = asdict(model.config.network)
    # A transformers configuration is long and stands in config.json for whoever wants it.
    network.pop("backbone_config", None)
    return {
        "kind": "model",
        "name": model.name,
        "folder": str(model.path),
        "identity": model.identity,
        "dim": model.dim,
        "network": network,
        "preprocessing": asdict(model.config.preprocessing),
        "training": model.config.training,
        "files": list(model.config.files),
    }


def _describe_catalog(catalog: Catalog) -> dict[str, Any]:
    sides = catalog.query_gallery()
    return {
        "kind": f"pictures ({catalog.kind})",
        "source": str(catalog.source),
        "images": len(catalog),
        "labels": len(set(catalog.labels or ()) - {None}),
        "splits": dict(Counter(split or "none" for split in catalog.splits or ())),
        "queries": None if sides is None else len(sides[0]),
        "gallery": None if sides is None else len(sides[1]),
        "columns": list(catalog.extra),
        "bad_rows": sum(problem.fatal for problem in catalog.problems) or None,
    }


def to_text(found: dict[str, Any], indent: str = "") -> str:
    """Lay plain data out in aligned lines."""
    width = max((len(name) for name in found), default=0)
    lines = []
    for name, value in found.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{name}\n{to_text(value, indent + '  ')}")
        elif value is not None and value not in ({}, []):
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            lines.append(f"{indent}{name:<{width}}  {shown}")
    return "\n".join(lines)
