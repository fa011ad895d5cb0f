"""One door for every kind of data: look at what the path is and call the reader for it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cfcd.catalog.benchmarks import benchmark_file, benchmark_folder, with_cars_protocol
from cfcd.catalog.delimited import open_text, read_delimited, read_header
from cfcd.catalog.folder import read_folder
from cfcd.catalog.landmarks import is_landmarks, read_landmarks
from cfcd.catalog.lists import read_list
from cfcd.catalog.parquet import read_parquet
from cfcd.catalog.paths import IMAGE_SUFFIXES, suffix_of
from cfcd.catalog.revisited import read_revisited
from cfcd.catalog.table import Catalog
from cfcd.errors import CatalogError

_LONGEST_HEADER = 65_536
_TABLES_IN_FOLDER = ("catalog.csv", "catalog.parquet")
_KINDS = (
    "a folder, a table (.csv, .tsv, .parquet), a list (.txt, .lst) or revisitop ground truth (.pkl, .json)"
)


def read_catalog(data: str | Path, *, root: Path | None = None) -> Catalog:
    """Read a folder, table or list of images.

    A folder stands for its `catalog.csv` (first choice) or `catalog.parquet` when it holds one, otherwise for
    the pictures in it. A CSV with the columns of Google Landmarks v2 and no column `path` is read as such,
    and so are the split files of Stanford Online Products, In-Shop, CUB-200-2011 and Cars-196, or the folder
    that holds them.

    Args:
        data: The folder or file.
        root: The folder that relative paths in a file start from; by default the file's own folder.

    Raises:
        CatalogError: The data cannot be read at all. Bad rows are listed in `Catalog.problems` instead.
    """
    source = _absolute(data)
    base = source.parent if root is None else _absolute(root)
    if not source.exists():
        raise CatalogError(f"{source} does not exist.", f"Check the spelling; DATA is {_KINDS}.")
    if not base.is_dir():
        raise CatalogError(
            f"The root {base} is not a folder.", "Name the folder that relative paths start from."
        )
    if source.is_dir():
        for name in _TABLES_IN_FOLDER:
            if (source / name).is_file():
                return read_catalog(source / name, root=root)
        if read := benchmark_folder(source):
            return read(source if root is None else base)
        if root is not None:
            raise CatalogError(
                f"{source} is a folder of pictures, and a root was given too.",
                "Leave the root out, or name a table.",
            )
        return with_cars_protocol(read_folder(source))
    return _read_file(source, base)


def _read_file(source: Path, root: Path) -> Catalog:
    if read := benchmark_file(source):
        return read(root)
    suffix = suffix_of(source.name)
    if suffix in (".csv", ".tsv", ".tab"):
        names, delimiter = read_header(source)
        if delimiter == "," and is_landmarks(names):
            return read_landmarks(source, names, root)
        return read_delimited(source, root)
    if suffix in (".parquet", ".pq"):
        return read_parquet(source, root)
    if suffix in (".txt", ".lst", ".list"):
        return read_delimited(source, root) if _is_table(source) else read_list(source, root)
    if suffix in (".pkl", ".pickle", ".json"):
        return read_revisited(source, root)
    mend = "Name the folder it lies in." if suffix in IMAGE_SUFFIXES else f"DATA is {_KINDS}."
    raise CatalogError(f"{source} is no kind of data that is known by its ending {suffix!r}.", mend)


def _is_table(source: Path) -> bool:
    """Tell a CSV that was named .txt from a list: its first line has a column `path`."""
    with open_text(source) as file:
        names = [name.strip(' "\r\n') for name in re.split("[,;\t]", file.readline(_LONGEST_HEADER).lower())]
    return len(names) > 1 and "path" in names


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - keeps links as the user wrote them
