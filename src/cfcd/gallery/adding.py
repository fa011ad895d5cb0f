"""Put descriptors that are at hand into a gallery, many at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Catalog
from cfcd.encoding.shards import FileStamp
from cfcd.errors import UsageError
from cfcd.gallery.plan import free_id
from cfcd.gallery.truth.store import Store
from cfcd.gallery.update import UpdateSummary

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH_ROWS = 4096
# fp16 rounds a unit row's length by less: what is this close is stored bit for bit.
_UNIT = 1e-3
_UNKNOWN = FileStamp(0, 0, b"")


def add(
    store: Store,
    catalog: Catalog,
    descriptors: NDArray[np.floating[Any]],
    dim: int,
    *,
    source: str | None = None,
    stamps: Sequence[FileStamp] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UpdateSummary:
    """Add rows to a store, 4,096 in a transaction; see `Gallery.add`."""
    start = time.monotonic()
    _check(catalog, descriptors, dim, stamps)
    source = str(catalog.source) if source is None else source
    added = changed = 0
    for first in range(0, len(catalog), _BATCH_ROWS):
        last = min(first + _BATCH_ROWS, len(catalog))
        vectors = _unit_rows(descriptors[first:last], first)
        with store.changing() as generation:
            for at in range(first, last):
                item = catalog[at]
                stamp = _UNKNOWN if stamps is None else stamps[at]
                old = store.find_key(source, item.id)
                if old is None:
                    named = free_id(item, source, store.has_id)
                    added += 1
                else:
                    named = replace(item, id=old.item.id)
                    store.remove([old.number], generation)
                    changed += 1
                store.insert(source, item.id, named, stamp, vectors[at - first])
        if progress:
            progress(last, len(catalog))
    return UpdateSummary(added, changed, 0, 0, 0, 0, {}, time.monotonic() - start)


def _check(
    catalog: Catalog,
    descriptors: NDArray[np.floating[Any]],
    dim: int,
    stamps: Sequence[FileStamp] | None,
) -> None:
    if descriptors.shape != (len(catalog), dim):
        raise UsageError(
            f"There are descriptors of shape {descriptors.shape} for {len(catalog)} rows.",
            f"This gallery needs ({len(catalog)}, {dim}) numbers.",
        )
    if stamps is not None and len(stamps) != len(catalog):
        raise UsageError(
            f"There are {len(stamps)} file stamps for {len(catalog)} rows.",
            "Give one stamp per row, or none.",
        )
    if len(set(catalog.ids)) != len(catalog):
        twice = Counter(catalog.ids).most_common(1)[0][0]
        raise UsageError(f"{catalog.source} lists {twice!r} twice.", "Give every row an id of its own.")


def _unit_rows(descriptors: NDArray[np.floating[Any]], first: int) -> NDArray[np.floating[Any]]:
    """Bring rows to unit length, where they are not; (n, D) fp16 or fp32."""
    lengths = np.linalg.norm(descriptors.astype(np.float32), axis=1, keepdims=True)
    bad = ~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0)
    if bad.any():
        raise UsageError(
            f"Row {first + int(np.argmax(bad))} of the descriptors is zero or not finite.",
            "Leave such rows out; the rows before its batch are in the gallery.",
        )
    scaled: NDArray[np.floating[Any]] = np.where(
        np.abs(lengths - 1) > _UNIT, descriptors / lengths, descriptors
    )
    return scaled
