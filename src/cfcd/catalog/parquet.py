"""Parquet tables: the same columns as CSV, with the types of further columns kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cfcd.catalog.columns import catalog_from_columns
from cfcd.catalog.header import KNOWN_COLUMNS, no_path_column, normal_names
from cfcd.catalog.table import Catalog
from cfcd.errors import CatalogError


def read_parquet(source: Path, root: Path) -> Catalog:
    """Read a Parquet file with the column `path`; the first entry is row 1.

    Numbers in `label`, `id` and `split` become text; further columns become Python objects of their own type.

    Raises:
        CatalogError: Not a Parquet file, no column `path`, no rows, or lists where single values belong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(source).read()
    except (pa.ArrowException, OSError) as error:
        raise CatalogError(
            f"{source} cannot be read as Parquet: {error}.", "Write the file again."
        ) from error
    names = normal_names(table.column_names, source)
    if "path" not in names:
        raise no_path_column(table.column_names, source)
    if not table.num_rows:
        raise CatalogError(f"{source} has no rows.", "Add one row per image.")
    columns: dict[str, list[Any]] = {}
    for name, column in zip(names, table.columns, strict=True):
        values = column
        if name in KNOWN_COLUMNS and pa.types.is_nested(column.type):
            raise CatalogError(
                f"{source} has a column {name!r} of type {column.type}.", "Give it one plain value per row."
            )
        if name in KNOWN_COLUMNS and pa.types.is_binary(column.type):
            try:
                values = column.cast(pa.string())
            except pa.ArrowException as error:
                raise CatalogError(
                    f"{source} has bytes in the column {name!r} that are not UTF-8 text.", "Write it as text."
                ) from error
        try:
            columns[name] = values.to_pylist()
        except UnicodeDecodeError as error:
            raise CatalogError(
                f"{source} has text in the column {name!r} that is not UTF-8.", "Write the file again."
            ) from error
        except ValueError:
            # Python's dates know no nanoseconds: such a time is kept as text.
            columns[name] = values.cast(pa.string()).to_pylist()
    rows = range(1, table.num_rows + 1)
    return catalog_from_columns(columns, rows, source=source, root=root, kind="parquet")
