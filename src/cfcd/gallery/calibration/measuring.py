"""Measure from which score on a gallery's hits are right: search with labelled pictures, pool the hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cfcd.catalog import Box, Catalog, Item
from cfcd.encoding.bulk import encode_items
from cfcd.encoding.shards import Encoded
from cfcd.errors import EvaluationError, PictureError, UsageError
from cfcd.gallery.calibration.fit import Pairs, fit_threshold, number_of, reliability_curve
from cfcd.gallery.calibration.thresholds import Calibration
from cfcd.gallery.gallery import Gallery
from cfcd.gallery.truth.rows import StoredItem

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Row = TypeVar("_Row")

MOST_QUERIES = 10_000
LEAVE_ONE_OUT, LABELLED = "leave-one-out", "labelled pictures"
_BATCH = 256
# Hits looked at beyond k, because copies of the query are passed over.
_SPARE = 8
_NO_LABELS = "Put the pictures of each object into a folder of their own, or give a table with labels."


@dataclass(frozen=True)
class Calibrated:
    """A calibration, the hits it was made of, and the pictures that could not be read."""

    calibration: Calibration
    pairs: Pairs
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Query:
    """A labelled query; `number` is its own row in the gallery, if it is one."""

    label: str
    vector: NDArray[np.float32]
    path: str
    box: Box | None
    digest: bytes
    number: int | None = None

    def is_copy(self, hit: StoredItem) -> bool:
        """Tell whether a hit is the query's own picture, here or as another file: no evidence of anything."""
        if hit.number == self.number:
            return True
        if hit.item.box != self.box:
            return False
        same_bytes = bool(self.digest) and hit.stamp.digest == self.digest
        return same_bytes or str(hit.item.path) == self.path


@dataclass
class _Pool:
    """Hits gathered so far; unlabelled ones and copies are counted only."""

    scores: list[float]
    right: list[bool]
    queries: list[int]
    labels: list[str]
    first: list[bool]
    searched: int = 0
    unlabelled: int = 0
    copies: int = 0

    def add(self, query: _Query, hits: Sequence[tuple[StoredItem, float]], k: int) -> None:
        own = [query.is_copy(hit) for hit, _ in hits]
        others = [hit for hit, copy in zip(hits, own, strict=True) if not copy][:k]
        self.copies += sum(own) - (query.number is not None)
        for rank, (hit, score) in enumerate(others):
            if hit.item.label is None:
                self.unlabelled += 1
                continue
            self.scores.append(score)
            self.right.append(hit.item.label == query.label)
            self.queries.append(self.searched)
            self.labels.append(query.label)
            self.first.append(rank == 0)
        self.searched += 1

    def pairs(self) -> Pairs:
        return Pairs(
            np.array(self.scores, np.float64),
            np.array(self.right, bool),
            np.array(self.queries, np.int64),
            number_of(self.labels),
            np.array(self.first, bool),
        )


def calibrate(
    gallery: Gallery,
    data: Catalog | Encoded | None = None,
    *,
    precision: float = 0.95,
    maybe: float = 0.5,
    k: int = 10,
    most_queries: int = MOST_QUERIES,
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Find the scores from which on hits are a match, or may be one, and keep them in the gallery.

    Every labelled picture searches the gallery; a hit is right when its label is the query's. Copies of
    the query (the same file, or the same bytes) are passed over, and hits without a label are left out.
    The thresholds hold for queries like these: with about as many queries whose object is in the gallery,
    and about as many other items in it.

    Args:
        gallery: A gallery with labels.
        data: Labelled pictures, or a folder encoded before; where a catalog has queries and a gallery
            (splits such as test and train), its queries. None takes the gallery's own items, each left
            out when it searches.
        precision: Share of right hits wanted at and above the threshold of "match".
        maybe: Likewise for "maybe".
        k: Hits per query that count.
        most_queries: From more queries so many are drawn, evenly.
        progress: Called with (done, total) queries.

    Raises:
        UsageError: A precision or k is out of range.
        EvaluationError: Nothing is labelled, queries are too few for the precision, or it is not reached.
        IdentityMismatch: `data` was encoded with another model.
    """
    if not 0 < maybe <= precision < 1:
        raise UsageError(
            f"The precisions {precision:g} for match and {maybe:g} for maybe are out of range.",
            "Give both between 0 and 1, that of maybe no higher: such as 0.95 and 0.5.",
        )
    if k < 1:
        raise UsageError(f"k is {k}.", "Count at least one hit per query.")
    skipped: list[tuple[str, str]] = []
    if data is None:
        found = list(_own_queries(gallery, most_queries))
    else:
        found = list(_queries(gallery, data, most_queries, skipped, progress))
    pool = _Pool([], [], [], [], [])
    store = gallery._store
    with store.reading():
        gallery._index.catch_up(store)
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            vectors = np.stack([query.vector for query in batch])
            results = gallery._index.search(vectors, k + _SPARE)
            rows = store.by_number(sorted({int(n) for numbers, _ in results for n in numbers}))
            for query, (numbers, scores) in zip(batch, results, strict=True):
                hits = [
                    (rows[int(number)], float(score)) for number, score in zip(numbers, scores, strict=True)
                ]
                pool.add(query, hits, k)
        pairs = pool.pairs()
        if not len(pairs):
            raise EvaluationError(
                f"None of {pool.searched:,} labelled queries has a labelled hit in {gallery.name}.",
                _NO_LABELS,
            )
        match, perhaps = fit_threshold(pairs, precision), fit_threshold(pairs, maybe)
        calibration = Calibration(
            gallery.identity,
            store.generation,
            store.token(store.generation).hex(),
            len(store),
            match,
            perhaps,
            reliability_curve(pairs),
            {
                "data": gallery.name if data is None else str(_catalog(data).source),
                "protocol": LEAVE_ONE_OUT if data is None else LABELLED,
                "k": k,
                "queries": pool.searched,
                "objects": len(set(pool.labels)),
                "hits": len(pairs),
                "right": int(pairs.right.sum()),
                "unlabelled": pool.unlabelled,
                "copies": pool.copies,
                "skipped": len(skipped),
            },
        )
    gallery._calibrations.write(calibration)
    return Calibrated(calibration, pairs, tuple(skipped))


def _own_queries(gallery: Gallery, most: int) -> Iterator[_Query]:
    with gallery._store.reading():
        labelled = [stored for stored in gallery._store.items() if stored.item.label is not None]
        chosen = _evenly(labelled, most)
        vectors = gallery._descriptors([stored.number for stored in chosen])
        for stored, vector in zip(chosen, vectors, strict=True):
            yield replace(_query(stored.item, vector, stored.stamp.digest), number=stored.number)


def _queries(
    gallery: Gallery,
    data: Catalog | Encoded,
    most: int,
    skipped: list[tuple[str, str]],
    progress: Callable[[int, int], None] | None,
) -> Iterator[_Query]:
    """Take the labelled queries of a catalog; its pictures are encoded now."""
    catalog = _catalog(data)
    sides = catalog.query_gallery()
    rows: Sequence[int] = range(len(catalog)) if sides is None else sides[0]
    rows = [row for row in rows if catalog.labels is not None and catalog.labels[row] is not None]
    if not rows:
        raise EvaluationError(f"{catalog.source} has no labelled queries.", _NO_LABELS)
    rows = _evenly(rows, most)
    if isinstance(data, Encoded):
        made = data.settings["preprocessing"]
        gallery._check_identity(data.identity, str(data.settings["model"]), made["long_side"], made["scales"])
        for row in rows:
            yield _query(catalog[row], data.descriptors[row], data.stamps[row].digest)
        return
    results = encode_items(gallery.encoder, (catalog[row] for row in rows))
    for done, (job, result) in enumerate(results, start=1):
        if isinstance(result, PictureError):
            skipped.append((str(job.item.path), result.what))
        else:
            yield _query(job.item, result, b"" if job.stamp is None else job.stamp.digest)
        if progress:
            progress(done, len(rows))


def _query(item: Item, vector: NDArray[np.float32], digest: bytes) -> _Query:
    return _Query(str(item.label), vector, str(item.path), item.box, digest)


def _catalog(data: Catalog | Encoded) -> Catalog:
    return data.catalog if isinstance(data, Encoded) else data


def _evenly(rows: Sequence[_Row], most: int) -> list[_Row]:
    """Take at most so many, spread over all: rows of one object mostly follow each other."""
    if len(rows) <= most:
        return list(rows)
    return [rows[at * len(rows) // most] for at in range(most)]
