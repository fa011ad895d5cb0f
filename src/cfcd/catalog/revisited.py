"""Ground truth of Revisited Oxford and Paris (`gnd_roxford5k.pkl`, or JSON with the same keys) as a catalog.

Format: Radenović et al., "Revisiting Oxford and Paris", CVPR 2018,
https://github.com/filipradenovic/revisitop.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from cfcd.catalog.columns import catalog_from_columns
from cfcd.catalog.header import BOX_COLUMNS
from cfcd.catalog.paths import IMAGE_SUFFIXES, suffix_of
from cfcd.catalog.safe_pickle import load_plain_pickle
from cfcd.catalog.table import Catalog
from cfcd.errors import CatalogError

_MAX_JSON_BYTES = 64 << 20
_IMAGE_FOLDERS = ("jpg", "images")


def read_revisited(source: Path, root: Path) -> Catalog:
    """Read both image lists: first the database in its order, then the queries in theirs.

    Database image i is row i of the catalog, as the indices in `gnd` count; its id is its NAME. A query's id
    is "query:NAME", and its box is `bbx`. Files are NAME.jpg in `jpg/` or `images/` below `root`, or in
    `root` itself. The further column `role` is "database" or "query"; the row of an item is its place in its
    list, from 1.

    Raises:
        CatalogError: The file cannot be read, or lacks imlist, qimlist or gnd.
    """
    truth = load_ground_truth(source)
    database, queries = truth["imlist"], truth["qimlist"]
    boxes = [[None] * 4] * len(database) + [_corners(entry, source) for entry in truth["gnd"]]
    folder = _image_folder(root, (*database, *queries))
    columns: dict[str, list[Any]] = {
        "id": [*database, *(f"query:{name}" for name in queries)],
        "path": [folder + _file_name(name) for name in (*database, *queries)],
        "is_query": [False] * len(database) + [True] * len(queries),
        "is_gallery": [True] * len(database) + [False] * len(queries),
        "role": ["database"] * len(database) + ["query"] * len(queries),
        **{name: [box[corner] for box in boxes] for corner, name in enumerate(BOX_COLUMNS)},
    }
    rows = [*range(1, len(database) + 1), *range(1, len(queries) + 1)]
    return catalog_from_columns(columns, rows, source=source, root=root, kind="revisitop")


def load_ground_truth(source: Path) -> dict[str, Any]:
    """Load a ground truth and check its outer shape: imlist and qimlist of names, gnd of one dict per query.

    Raises:
        CatalogError: The file cannot be read safely, or lacks one of the three.
    """
    truth = _load_json(source) if suffix_of(source.name) == ".json" else load_plain_pickle(source)
    mend = "Name a file such as gnd_roxford5k.pkl, with imlist, qimlist and gnd."
    if not isinstance(truth, dict):
        raise CatalogError(f"{source} holds a {type(truth).__name__}, not a ground truth.", mend)
    for key in ("imlist", "qimlist"):
        names = truth.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CatalogError(f"{source} has no list of image names {key!r}.", mend)
    entries = truth.get("gnd")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CatalogError(f"{source} has no list 'gnd'.", mend)
    if len(entries) != len(truth["qimlist"]):
        raise CatalogError(f"{source} has {len(truth['qimlist'])} queries but {len(entries)} in 'gnd'.", mend)
    return truth


def _load_json(source: Path) -> Any:
    try:
        size = source.stat().st_size
        if size > _MAX_JSON_BYTES:
            raise CatalogError(
                f"{source} has {size:,} bytes; ground truth of at most {_MAX_JSON_BYTES:,} is read.",
                "Name the ground truth file itself.",
            )
        return json.loads(source.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CatalogError(
            f"{source} cannot be read as JSON: {error}.", "Get or write the file again."
        ) from error


def _corners(entry: dict[Any, Any], source: Path) -> list[float | None]:
    box = entry.get("bbx")
    if box is None:
        return [None] * 4
    if isinstance(box, list) and len(box) == 4 and all(type(corner) in (int, float) for corner in box):
        with suppress(OverflowError):
            return [float(corner) for corner in box]
    raise CatalogError(f"{source} has a 'bbx' that is not four numbers.", "Get the file again.")


def _file_name(name: str) -> str:
    return name if suffix_of(name) in IMAGE_SUFFIXES else f"{name}.jpg"


def _image_folder(root: Path, names: tuple[str, ...]) -> str:
    for folder in _IMAGE_FOLDERS:
        if (root / folder).is_dir():
            return f"{folder}/"
    return "" if any((root / _file_name(name)).is_file() for name in names[:20]) else "jpg/"
