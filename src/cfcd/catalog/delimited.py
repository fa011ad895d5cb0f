"""CSV and TSV tables: header line, UTF-8, comma, semicolon or tab."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

from cfcd.catalog.columns import catalog_from_columns
from cfcd.catalog.header import KNOWN_COLUMNS, no_path_column, normal_names
from cfcd.catalog.paths import IMAGE_SUFFIXES, suffix_of
from cfcd.catalog.table import Catalog, Problem
from cfcd.errors import CatalogError

_BLOCK = 2048


@contextmanager
def open_text(source: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file (a byte order mark is dropped) and turn failures into CatalogError."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise CatalogError(
            f"{source} is not UTF-8 text: byte {error.object[error.start]:#04x} is not allowed there.",
            "Save it again with the encoding UTF-8 (in a spreadsheet: 'CSV UTF-8').",
        ) from error
    except OSError as error:
        raise CatalogError(
            f"{source} cannot be read: {error.strerror}.", "Check its name and that you may read it."
        ) from error


def read_header(source: Path) -> tuple[list[str], str]:
    """Return the column names of a table as written, and the character between its fields.

    Raises:
        CatalogError: The file is empty, or not text.
    """
    with open_text(source) as file:
        line = file.readline(1 << 20)
    if not line.strip():
        raise CatalogError(
            f"{source} does not start with a header line.", "Start it with the line path,label"
        )

    def fields(delimiter: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        except csv.Error as error:
            raise CatalogError(
                f"{source} has no header line: {error}.", "Start it with the line path,label"
            ) from error

    def rank(delimiter: str) -> tuple[int, int]:
        names = fields(delimiter)
        return sum(name.strip().lower() in KNOWN_COLUMNS for name in names), len(names)

    # Only the header decides, so that later cells cannot mislead; among equals the comma comes first.
    delimiter = max(",;\t", key=rank)
    return [name.strip() for name in fields(delimiter)], delimiter


def read_delimited(source: Path, root: Path) -> Catalog:
    """Read a CSV or TSV with the column `path`; cells of further columns stay strings.

    The row of an entry is its number as a spreadsheet counts: the header is row 1, and an entry with line
    breaks in quotes is one row. Empty lines are passed over. Spaces after the delimiter are dropped.

    Raises:
        CatalogError: No column `path`, no rows, broken quoting, or not UTF-8.
    """
    written, delimiter = read_header(source)
    names = normal_names(written, source)
    if "path" not in names:
        if any(suffix_of(name) in IMAGE_SUFFIXES for name in written):
            raise CatalogError(
                f"{source} has no header line: its first line is {delimiter.join(written)[:80]!r}.",
                "Start it with the line path,label",
            )
        raise no_path_column(written, source)
    columns: list[list[str]] = [[] for _ in names]
    rows: list[int] = []
    problems: list[Problem] = []
    row = 2
    for block in blocks_of(source, delimiter):
        numbers: Sequence[int] = range(row, row + len(block))
        row += len(block)
        good = block
        if set(map(len, block)) != {len(names)}:
            good = [fields for fields in block if len(fields) == len(names)]
            problems += [
                Problem(
                    "wrong-fields",
                    True,
                    f"{len(fields)} fields where the header has {len(names)}",
                    row=number,
                )
                for number, fields in zip(numbers, block, strict=True)
                if fields and len(fields) != len(names)
            ]
            numbers = [
                number for number, fields in zip(numbers, block, strict=True) if len(fields) == len(names)
            ]
        rows += numbers
        # A block without a good row gives no values to go with the columns.
        for column, values in zip(columns, zip(*good, strict=True), strict=False):
            column.extend(values)
    if not rows and not problems:
        raise CatalogError(f"{source} has a header but no rows.", "Add one line per image below it.")
    return catalog_from_columns(
        dict(zip(names, columns, strict=True)), rows, source=source, root=root, kind="csv", problems=problems
    )


def blocks_of(source: Path, delimiter: str) -> Iterator[list[list[str]]]:
    """Read the records below the header, many at a time; an empty line is an empty record."""
    with open_text(source) as file:
        # Strict: a quote that is never closed is an error instead of swallowing the rest of the file.
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            next(reader)
            while block := list(islice(reader, _BLOCK)):
                yield block
        except csv.Error as error:
            raise CatalogError(
                f"{source} cannot be read as a table at line {reader.line_num}: {error}.",
                "Look for a double quote that is not closed, or not doubled inside a quoted cell.",
            ) from error
