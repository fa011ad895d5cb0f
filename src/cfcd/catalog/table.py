"""The Catalog: a table of images, one Python sequence per column (Google Landmarks v2: 1.58 million rows)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from cfcd.errors import CatalogError

Box = tuple[float, float, float, float]
"""x_1, y_1, x_2, y_2 in pixels of the upright picture; x_2 and y_2 lie past the last pixel."""

_Value = TypeVar("_Value")
_HASH_BLOCK = 65_536
# Splits that are searched with against splits that are searched in, the first pair found wins.
_QUERY_GALLERY_SPLITS = (
    ("test", "train"),
    ("query", "gallery"),
    ("query", "index"),
    ("test", "gallery"),
    ("test", "index"),
)


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a catalog.

    `path` is the absolute file; `row` is the 1-based line or row in the source (the header of a CSV is row
    1), None where the source has no rows; `extra` holds the further columns untouched.
    """

    id: str
    path: Path
    label: str | None = None
    split: str | None = None
    is_query: bool | None = None
    is_gallery: bool | None = None
    box: Box | None = None
    row: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Something wrong with one row, file or label; fatal when a run has to leave the row out."""

    kind: str
    fatal: bool
    message: str
    file: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class Catalog:
    """A table of N images, columnar; a column that the source lacks is None.

    `source` is what was read and `root` the folder relative paths start from, both absolute; `paths` are kept
    as written. `problems` lists the rows that could not be taken over and other findings.
    """

    source: Path
    root: Path
    kind: str
    ids: Sequence[str]
    paths: Sequence[str]
    labels: Sequence[str | None] | None = None
    splits: Sequence[str | None] | None = None
    is_query: Sequence[bool | None] | None = None
    is_gallery: Sequence[bool | None] | None = None
    boxes: Sequence[Box | None] | None = None
    rows: Sequence[int | None] | None = None
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        """Raise CatalogError unless every column has one value per image."""
        for name, column in self._columns():
            if len(column) != len(self.ids):
                raise CatalogError(
                    f"Column {name!r} has {len(column)} values for {len(self.ids)} images.",
                    "Give every column one value per image, or None for the whole column.",
                )

    @classmethod
    def from_items(cls, items: Sequence[Item], *, source: Path, root: Path, kind: str) -> Catalog:
        """Make a catalog of rows at hand; a column in which no row has a value is left out."""

        def column(name: str) -> list[Any] | None:
            values = [getattr(item, name) for item in items]
            return None if all(value is None for value in values) else values

        names = dict.fromkeys(name for item in items for name in item.extra)
        return cls(
            source=source,
            root=root,
            kind=kind,
            ids=[item.id for item in items],
            paths=[str(item.path) for item in items],
            labels=column("label"),
            splits=column("split"),
            is_query=column("is_query"),
            is_gallery=column("is_gallery"),
            boxes=column("box"),
            rows=column("row"),
            extra={name: [item.extra.get(name) for item in items] for name in names},
        )

    def _columns(self) -> Iterator[tuple[str, Sequence[Any]]]:
        for spec in fields(self)[3:-2]:
            column = getattr(self, spec.name)
            if column is not None:
                yield spec.name, column
        yield from self.extra.items()

    def __len__(self) -> int:
        """Count the images."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        """Return one row; negative indices count from the end."""
        return Item(
            id=self.ids[index],
            path=self.file(index),
            label=_at(self.labels, index),
            split=_at(self.splits, index),
            is_query=_at(self.is_query, index),
            is_gallery=_at(self.is_gallery, index),
            box=_at(self.boxes, index),
            row=_at(self.rows, index),
            extra={name: column[index] for name, column in self.extra.items()},
        )

    def __iter__(self) -> Iterator[Item]:
        """Go through the rows in order."""
        return (self[index] for index in range(len(self)))

    def file(self, index: int) -> Path:
        """Return the absolute path of one image."""
        path = self.root / self.paths[index]
        # "a/../b" is resolved by its letters: were "a" a symbolic link, the system would follow it elsewhere.
        return Path(os.path.normpath(path)) if ".." in path.parts else path

    def select(self, indices: Sequence[int]) -> Catalog:
        """Return the catalog of these rows, in this order; the problems of the source stay."""

        def pick(column: Sequence[_Value] | None) -> list[_Value] | None:
            return None if column is None else [column[index] for index in indices]

        return replace(
            self,
            ids=[self.ids[index] for index in indices],
            paths=[self.paths[index] for index in indices],
            labels=pick(self.labels),
            splits=pick(self.splits),
            is_query=pick(self.is_query),
            is_gallery=pick(self.is_gallery),
            boxes=pick(self.boxes),
            rows=pick(self.rows),
            extra={name: [column[index] for index in indices] for name, column in self.extra.items()},
        )

    @property
    def has_labels(self) -> bool:
        """Tell whether any image has a label."""
        return self.labels is not None and any(label is not None for label in self.labels)

    def query_gallery(self) -> tuple[list[int], list[int]] | None:
        """Return the rows to search with and the rows to search in, or None for leave-one-out over all rows.

        The columns is_query and is_gallery decide first (one alone: the other rows are the other side; a row
        may be on both sides; evaluations leave the query itself out). Then the splits, in any case:
        test against train (val ignored), query against gallery or index, test against gallery or index.

        Raises:
            CatalogError: is_query and is_gallery leave one side empty.
        """
        if self.is_query is not None or self.is_gallery is not None:
            return self._flagged()
        if self.splits is None:
            return None
        names = {split: split.strip().lower() for split in set(self.splits) if split is not None}
        for query_name, gallery_name in _QUERY_GALLERY_SPLITS:
            if {query_name, gallery_name} <= set(names.values()):
                sides = [None if split is None else names[split] for split in self.splits]
                return (
                    [index for index, side in enumerate(sides) if side == query_name],
                    [index for index, side in enumerate(sides) if side == gallery_name],
                )
        return None

    def _flagged(self) -> tuple[list[int], list[int]]:
        everything = range(len(self))
        queries = None if self.is_query is None else [i for i in everything if self.is_query[i]]
        gallery = None if self.is_gallery is None else [i for i in everything if self.is_gallery[i]]
        if queries is None:
            chosen = set(gallery or ())
            queries = [i for i in everything if i not in chosen]
        if gallery is None:
            chosen = set(queries)
            gallery = [i for i in everything if i not in chosen]
        if not queries or not gallery:
            raise CatalogError(
                f"{self.source} marks {len(queries)} images as queries and {len(gallery)} as gallery.",
                "Set is_query and is_gallery to 1 for at least one image each, or remove both columns.",
            )
        return queries, gallery

    def identity(self) -> str:
        """Return a sha256 in hex over ids, paths, labels, boxes and splits, in order, whatever the root."""
        digest = hashlib.sha256()
        columns = (self.ids, self.paths, self.labels, self.boxes, self.splits)
        for start in range(0, len(self), _HASH_BLOCK):
            block = slice(start, start + _HASH_BLOCK)
            # JSON is unambiguous whatever the strings hold, and its C encoder is fast.
            values = [None if column is None else list(column[block]) for column in columns]
            digest.update(json.dumps(values).encode())
        return digest.hexdigest()


def _at(column: Sequence[_Value] | None, index: int) -> _Value | None:
    return None if column is None else column[index]
