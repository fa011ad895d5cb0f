"""Column names of a table: the ones cfcd knows, near misses, and what to say when the files are missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cfcd.catalog.table import Problem
from cfcd.errors import CatalogError

BOX_COLUMNS = ("x_1", "y_1", "x_2", "y_2")
KNOWN_COLUMNS = ("path", "label", "id", "split", "is_query", "is_gallery", *BOX_COLUMNS)
_ALIASES = {
    "path": ("paths", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img"),
    "label": ("labels", "class", "class_id", "category", "landmark_id", "target"),
    "split": ("splits", "subset", "fold"),
}


def normal_names(names: Sequence[Any], source: Path) -> list[str]:
    """Return column names with the known ones in lower case; names of further columns stay as written.

    Raises:
        CatalogError: A name occurs twice, or some but not all columns of a box are there.
    """
    stripped = [str(name).strip() for name in names]
    normal = [name.lower() if name.lower() in KNOWN_COLUMNS else name for name in stripped]
    doubles = sorted({name for name in normal if normal.count(name) > 1})
    if doubles:
        raise CatalogError(
            f"{source} has several columns named {doubles[0]!r}.", "Rename or remove all but one."
        )
    absent = [name for name in BOX_COLUMNS if name not in normal]
    if 0 < len(absent) < len(BOX_COLUMNS):
        raise CatalogError(
            f"{source} has some columns of a box but lacks {', '.join(absent)}.",
            "Give all of x_1, y_1, x_2, y_2 (pixels), or none of them.",
        )
    return normal


def no_path_column(names: Sequence[str], source: Path) -> CatalogError:
    """Return the error for a table without the column `path`, naming what it has and what comes nearest."""
    near = [name for name in names if name.strip().lower() in _ALIASES["path"]]
    near += [name for name in names if get_close_matches("path", [name.strip().lower()]) and name not in near]
    hint = f"rename {near[0]!r} to path" if near else "name the column with the files 'path'"
    found = ", ".join(repr(name[:40]) for name in names[:20])
    return CatalogError(
        f"{source} has no column 'path'; its columns are {found}.",
        f"In its first line, {hint} (and the object's name 'label').",
    )


def misnamed(names: Iterable[str]) -> list[Problem]:
    """Point at further columns that are probably meant to be known ones."""
    present = list(names)
    found = []
    for known in KNOWN_COLUMNS:
        if known in present:
            continue
        for name in present:
            lower = name.lower().replace(" ", "_")
            near = lower in _ALIASES.get(known, ()) or get_close_matches(lower, [known], cutoff=0.85)
            if name not in KNOWN_COLUMNS and near:
                message = f"column {name!r} is kept as a further column; rename it to {known!r} if it is that"
                found.append(Problem("unknown-column", False, message, row=1))
    return found
