"""Google Landmarks v2: its tables name images by id alone; the file of "abcdef" is train/a/b/c/abcdef.jpg.

Format: Weyand et al., "Google Landmarks Dataset v2", CVPR 2020,
https://github.com/cvdfoundation/google-landmark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cfcd.catalog.columns import catalog_from_columns
from cfcd.catalog.delimited import blocks_of, open_text
from cfcd.catalog.table import Catalog, Problem
from cfcd.errors import CatalogError

_CLEAN = frozenset(("landmark_id", "images"))
_HEADERS = (
    _CLEAN,
    frozenset(("id", "url", "landmark_id")),
    frozenset(("id", "landmark_id")),
    frozenset(("id", "url")),
    frozenset(("id",)),
)
_PARTS = ("train", "index", "test")
_ID = re.compile(r"[A-Za-z0-9_-]{3,}")


def is_landmarks(names: Sequence[str]) -> bool:
    """Tell by its column names whether a CSV is one of Google Landmarks v2."""
    return frozenset(names) in _HEADERS and len(set(names)) == len(names)


def read_landmarks(source: Path, names: Sequence[str], root: Path) -> Catalog:
    """Read train_clean.csv, train.csv, index.csv, test.csv or index_image_to_landmark.csv.

    The label is the landmark_id, where there is one. The images lie in `train/`, `index/` or `test/` below
    `root`, or `root` is that folder itself. All images of a line of train_clean.csv have the row of that
    line.

    Raises:
        CatalogError: It cannot be told whether the images are train, index or test, or there are no rows.
    """
    part = _part_of(source, names, root)
    problems: list[Problem] = []
    columns: dict[str, list[Any]]
    if frozenset(names) == _CLEAN:
        columns, rows = _read_clean(source, list(names).index("landmark_id"), problems)
    else:
        columns, rows = _read_lines(source, names, problems)
    kept = [index for index, name in enumerate(columns["id"]) if _ID.fullmatch(name)]
    if len(kept) < len(rows):
        for index in sorted(set(range(len(rows))).difference(kept)):
            message = f"{columns['id'][index]!r} is not an image id: three or more letters, digits, - and _"
            problems.append(Problem("bad-id", True, message, row=rows[index]))
        columns = {name: [values[index] for index in kept] for name, values in columns.items()}
        rows = [rows[index] for index in kept]
    if not rows and not problems:
        raise CatalogError(f"{source} has a header but no images.", "Get the file again.")
    folder = _image_folder(root, part, columns["id"])
    columns["path"] = [f"{folder}{name[0]}/{name[1]}/{name[2]}/{name}.jpg" for name in columns["id"]]
    return catalog_from_columns(columns, rows, source=source, root=root, kind="gldv2", problems=problems)


def _read_clean(
    source: Path, label_at: int, problems: list[Problem]
) -> tuple[dict[str, list[Any]], list[int]]:
    ids: list[str] = []
    labels: list[str] = []
    rows: list[int] = []
    with open_text(source) as file:
        next(file)
        # Split by hand: the images of one landmark exceed what the csv module takes as one cell.
        for row, line in enumerate(file, start=2):
            if not line.strip():
                continue
            left, comma, right = line.strip().partition(",")
            label, images = (left, right) if label_at == 0 else (right, left)
            names = images.strip('"').split()
            if not comma or not label or not names:
                problems.append(Problem("wrong-fields", True, "needs a landmark_id and image ids", row=row))
                continue
            ids += names
            labels += [label] * len(names)
            rows += [row] * len(names)
    return {"id": ids, "label": labels}, rows


def _read_lines(
    source: Path, names: Sequence[str], problems: list[Problem]
) -> tuple[dict[str, list[Any]], list[int]]:
    columns: dict[str, list[Any]] = {"label" if name == "landmark_id" else name: [] for name in names}
    rows: list[int] = []
    row = 1
    for block in blocks_of(source, ","):
        for fields in block:
            row += 1
            if len(fields) == len(names):
                rows.append(row)
                for values, cell in zip(columns.values(), fields, strict=True):
                    values.append(cell)
            elif fields:
                message = f"{len(fields)} fields where the header has {len(names)}"
                problems.append(Problem("wrong-fields", True, message, row=row))
    return columns, rows


def _part_of(source: Path, names: Sequence[str], root: Path) -> str:
    if "images" in names or {"url", "landmark_id"} <= set(names):
        return "train"
    for part in _PARTS:
        if source.stem.lower().startswith(part):
            return part
    there = [part for part in _PARTS if (root / part).is_dir()]
    if len(there) == 1:
        return there[0]
    raise CatalogError(
        f"{source} names images by id, and it is not clear whether they are train, index or test images.",
        "Give the file its original name (index.csv, test.csv, ...), or add a column path.",
    )


def _image_folder(root: Path, part: str, ids: Sequence[str]) -> str:
    if (root / part).is_dir() or not ids:
        return f"{part}/"
    return "" if (root / ids[0][0]).is_dir() else f"{part}/"
