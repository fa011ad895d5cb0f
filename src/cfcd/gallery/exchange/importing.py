"""Take descriptors that another gallery or program has made into a gallery, with the model they are of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Item
from cfcd.catalog.columns import catalog_from_columns
from cfcd.encoding.shards import FileStamp
from cfcd.errors import GalleryError, IdentityMismatch, UsageError
from cfcd.files import is_free
from cfcd.gallery.exchange.origin import SOURCE, Origin
from cfcd.gallery.exchange.reading import Data, check_data, open_data, row_ids
from cfcd.gallery.exchange.rows import rows_from_columns
from cfcd.gallery.gallery import Gallery, model_meta
from cfcd.gallery.plan import free_id
from cfcd.gallery.truth.store import Store
from cfcd.model import find_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = tuple[str, str, Item, FileStamp]
# fp16 rounds a unit row's length by less: what is this close is stored bit for bit.
_UNIT = 1e-3
_UNKNOWN = FileStamp(0, 0, b"")


@dataclass(frozen=True)
class ImportSummary:
    """What an import did; `skipped` are (row, reason) of rows that no gallery can hold."""

    added: int
    changed: int
    unchanged: int
    skipped: tuple[tuple[int | None, str], ...]
    items: int
    model: str
    seconds: float

    def text(self) -> str:
        """Give the summary in one line."""
        counts = {name: getattr(self, name) for name in ("added", "changed", "unchanged")}
        counts["skipped"] = len(self.skipped)
        return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "nothing to do"

    def to_json(self) -> dict[str, Any]:
        """Give the summary as plain data."""
        return {
            "added": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "skipped": [{"row": row, "reason": reason} for row, reason in self.skipped],
            "items": self.items,
            "model": self.model,
            "seconds": round(self.seconds, 3),
        }


def import_descriptors(
    path: str | Path,
    out: str | Path,
    *,
    model: str | Path | None = None,
    foreign: str | None = None,
    column: str | None = None,
    root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Bring descriptors into a new or existing gallery; nothing is removed from it.

    Data are read twice: checked whole, then written in transactions of 8,192 rows. After an interruption
    the same call goes on: rows that are there already stay. Descriptors of a gallery arrive bit for bit.

    Args:
        path: NAME.parquet, NAME.npy with NAME.ids.txt, or a folder of clip-retrieval (see `export_gallery`).
        out: The gallery; made when absent.
        model: The cfcd model that made the descriptors. Needed where the data do not say, checked where they
            do.
        foreign: Instead of `model`, the name of a model that cfcd cannot load: the gallery can then be
            searched by descriptor and by id, not by picture.
        column: Column of the descriptors in a Parquet file, where its name is no usual one.
        root: Folder that relative paths start from; by default the one the data lie in.
        progress: Called with (done, total) rows.

    Raises:
        GalleryError: The data are damaged or lack something; `out` is neither a gallery nor free.
        IdentityMismatch: The data, `model` and the gallery do not agree.
        UsageError: Nobody says which model made the data; an id comes twice; a descriptor is no number.
        BusyError: Another process writes to the gallery now.
    """
    start = time.monotonic()
    path, out = Path(path), Path(out)
    data = open_data(path, column)
    meta = _model_of(data, model, foreign)
    if Gallery.exists(out):
        with Gallery(out) as gallery:
            _check_gallery(gallery, data, meta)
    elif not is_free(out):
        raise GalleryError(f"{out} exists and is no gallery.", "Give a new or empty folder, or a gallery.")
    check_data(data)
    if not Gallery.exists(out):
        Store.create(out, meta)
    taken = _Taken(data.path, Path(root) if root is not None else path.absolute().parent)
    counts = {"added": 0, "changed": 0, "unchanged": 0}
    with Gallery(out) as gallery, gallery._writing() as store:
        done = 0
        for columns, vectors in data.blocks():
            rows, kept = taken.rows(columns, data.origin)
            _write(store, rows, _unit_rows(vectors[kept]), counts)
            done += len(vectors)
            if progress:
                progress(done, data.count)
        items = len(store)
    return ImportSummary(
        **counts,
        skipped=tuple(taken.skipped),
        items=items,
        model=meta["model"],
        seconds=time.monotonic() - start,
    )


def _model_of(data: Data, model: str | Path | None, foreign: str | None) -> dict[str, str]:
    """Say which model made the data, as a store keeps it."""
    origin = data.origin
    if origin is not None:
        if foreign is not None:
            raise UsageError(
                f"{data.path} says itself that {origin.model} made it.", "Leave the foreign model's name out."
            )
        meta = origin.meta()
        if model is not None:
            found = find_model(model).with_preprocessing(long_side=origin.long_side, scales=origin.scales)
            if found.identity != origin.identity:
                raise IdentityMismatch(
                    f"{data.path} was made by {origin.model}, and {found.label} makes other descriptors.",
                    "Give the model that made them, or none.",
                )
            meta["model_reference"] = found.reference
        return meta
    if (model is None) == (foreign is None):
        raise UsageError(
            f"{data.path} does not say which model made its descriptors.",
            "Say it: --model MODEL for one of cfcd's, or --foreign NAME for any other.",
        )
    if model is not None:
        known = find_model(model)
        if known.dim != data.dim:
            raise IdentityMismatch(
                f"{data.path} has {data.dim} numbers per descriptor, and {known.label} makes {known.dim}.",
                "Give the model that made them.",
            )
        return model_meta(known)
    name = str(foreign)
    return Origin(f"foreign:{name}", name, name, data.dim, None, (1.0,), data.count).meta()


def _check_gallery(gallery: Gallery, data: Data, meta: dict[str, str]) -> None:
    if gallery.identity != meta["identity"] or gallery.dim != data.dim:
        raise IdentityMismatch(
            f"{gallery.name} holds descriptors of {gallery.model_label} ({gallery.dim} numbers), "
            f"and {data.path} has those of {meta['model']} ({data.dim}).",
            "Import into a new folder.",
        )


class _Taken:
    """Turn columns into rows, whoever has written them."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        self.skipped: list[tuple[int | None, str]] = []
        self._done = 0

    def rows(self, columns: dict[str, list[Any]], origin: Origin | None) -> tuple[list[Row], list[int]]:
        """Give the rows of a block, and the places of their descriptors in it."""
        count = len(next(iter(columns.values())))
        if origin is not None and SOURCE in columns:
            columns = {"path" if name == "image_path" else name: values for name, values in columns.items()}
            return rows_from_columns(columns, origin.extra), list(range(count))
        return self._foreign(columns, count)

    def _foreign(self, columns: dict[str, list[Any]], count: int) -> tuple[list[Row], list[int]]:
        ids = row_ids(columns, self.path)
        known = {name: values for name, values in columns.items() if name not in {"id", "image_path"}}
        paths = columns.get("path", columns.get("image_path", ids))
        lines = range(self._done + 1, self._done + count + 1)
        source = self.path.absolute()
        catalog = catalog_from_columns(
            {**known, "path": paths, "id": ids},
            lines,
            source=source,
            root=self.root.absolute(),
            kind="parquet",
        )
        self.skipped += [(one.row, one.message) for one in catalog.problems if one.fatal]
        rows = [(str(source), item.id, _as_stored(item), _UNKNOWN) for item in catalog]
        kept = [int(line) - self._done - 1 for line in catalog.rows or () if line is not None]
        self._done += count
        return rows, kept


def _as_stored(item: Item) -> Item:
    """Give the item as a gallery gives it back: dates and the like are text there."""
    return replace(item, extra=json.loads(json.dumps(dict(item.extra), default=str)))


def _unit_rows(vectors: NDArray[Any]) -> NDArray[np.float32]:
    rows = vectors.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(np.abs(lengths - 1) > _UNIT, rows / lengths, rows), np.float32)


def _write(store: Store, rows: list[Row], vectors: NDArray[np.float32], counts: dict[str, int]) -> None:
    """Write one block in one transaction; what is there already, the same, stays as it is."""
    new = [(row, vector, old) for row, vector, old in _news(store, rows, vectors, counts)]
    if not new:
        return
    with store.changing() as generation:
        store.remove([old.number for _, _, old in new if old is not None], generation)
        for (source, key, item, stamp), vector, old in new:
            named = free_id(item, source, store.has_id) if old is None else replace(item, id=old.item.id)
            store.insert(source, key, named, stamp, vector)


def _news(
    store: Store, rows: list[Row], vectors: NDArray[np.float32], counts: dict[str, int]
) -> Iterator[tuple[Row, NDArray[np.float32], Any]]:
    olds = [store.find_key(source, key) for source, key, _, _ in rows]
    numbers = [old.number for old in olds if old is not None]
    held = dict(zip(numbers, store.descriptors(numbers), strict=True))
    for row, vector, old in zip(rows, vectors, olds, strict=True):
        _, _, item, stamp = row
        if old is None:
            counts["added"] += 1
        elif (
            replace(old.item, id=item.id) == item
            and old.stamp == stamp
            and np.array_equal(held[old.number], vector.astype(np.float16))
        ):
            counts["unchanged"] += 1
            continue
        else:
            counts["changed"] += 1
        yield row, vector, old
