"""One door for every kind of data: look at what the path is and call the reader for it."""

from __future__ import annotations

import os
from pathlib import Path

from cfcd.catalog.delimited import read_delimited
from cfcd.catalog.folder import read_folder
from cfcd.catalog.table import Catalog
from cfcd.errors import CatalogError

_TABLES_IN_FOLDER = ("catalog.csv", "catalog.parquet")


def read_catalog(data: str | Path, *, root: Path | None = None) -> Catalog:
    """Read a folder or table of images.

    Args:
        data: A folder (its `catalog.csv`, else its `catalog.parquet`, else its pictures), or a CSV/TSV table.
        root: The folder that relative paths in a table start from; by default the table's own.

    Raises:
        CatalogError: The data cannot be read at all. Bad rows are listed in `Catalog.problems` instead.
    """
    source = Path(os.path.abspath(Path(data).expanduser()))  # noqa: PTH100 - links in a path stay as the user wrote
    if not source.exists():
        raise CatalogError(f"{source} does not exist.", "Check the spelling; relative paths start from here.")
    if source.is_dir():
        for name in _TABLES_IN_FOLDER:
            if (source / name).is_file():
                return read_catalog(source / name, root=root)
        return read_folder(source)
    return read_delimited(source, root or source.parent)
