"""Text lists with one picture a line: "path", "path label" or "path<TAB>label"."""

from __future__ import annotations

from pathlib import Path

from cfcd.catalog.columns import catalog_from_columns
from cfcd.catalog.delimited import open_text
from cfcd.catalog.paths import IMAGE_SUFFIXES, suffix_of
from cfcd.catalog.table import Catalog
from cfcd.errors import CatalogError


def read_list(source: Path, root: Path) -> Catalog:
    """Read a text list; empty lines and lines that start with # are passed over.

    Where a line has a tab, the path stands before the first and the label after it. Otherwise a line that
    ends like a picture ("my photo.jpg") is a path without label, and in any other line the last word is the
    label and the path all before it ("my photo.jpg nice").

    Raises:
        CatalogError: No lines, or not UTF-8.
    """
    paths: list[str] = []
    labels: list[str | None] = []
    rows: list[int] = []
    with open_text(source) as file:
        for row, line in enumerate(file, start=1):
            text = line.strip()
            if text and not text.startswith("#"):
                path, label = split_line(text)
                paths.append(path)
                labels.append(label)
                rows.append(row)
    if not rows:
        raise CatalogError(
            f"{source} lists no pictures.", "Write one picture a line: its path, a space, its label."
        )
    return catalog_from_columns({"path": paths, "label": labels}, rows, source=source, root=root, kind="list")


def split_line(text: str) -> tuple[str, str | None]:
    """Split a stripped line into path and label."""
    if "\t" in text:
        path, _, label = text.partition("\t")
        return path.rstrip(), label.strip() or None
    if suffix_of(text) in IMAGE_SUFFIXES:
        return text, None
    *words, last = text.rsplit(maxsplit=1)
    return (words[0], last) if words else (text, None)
