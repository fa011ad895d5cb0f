"""How well the network retrieves while it is being trained, on a sample of pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from cfcd.errors import EvaluationError
from cfcd.evaluation.folder import evaluate_descriptors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Catalog
    from cfcd.training.data import TrainingSet
    from cfcd.training.passes import Advance, Passes

_QUERY_SHARE = 3  # one query to two pictures of the gallery
_PER_CLASS = 4  # pictures at least, where not all classes fit: one alone would find nothing of its kind

T = TypeVar("T")


@dataclass(frozen=True)
class Monitor:
    """Hold the pictures that mAP is measured on.

    Attributes:
        catalog: The pictures.
        queries: Row numbers of the queries; None: every picture searches all others.
        gallery: Row numbers of the gallery.
        of: What they are, in words: "300 of split test", for logs and curves.
    """

    catalog: Catalog
    queries: Sequence[int] | None
    gallery: Sequence[int] | None
    of: str

    @classmethod
    def choose(cls, catalog: Catalog, data: TrainingSet, most: int) -> Monitor | None:
        """Choose up to `most` pictures, evenly spread: queries and gallery, else of the training pictures.

        Of many classes with few pictures each some are chosen, so that queries have something to find.
        Returns None for `most` 0.
        """
        if most <= 0:
            return None
        sides = catalog.query_gallery()
        if sides is None:
            rows = _some_classes(data.labels, most)
            return cls(data.catalog.select(rows), None, None, f"{len(rows)} training pictures")
        queries, gallery = _some_queries(catalog.labels or [None] * len(catalog), *sides, most)
        rows = sorted({*queries, *gallery})
        place = {row: at for at, row in enumerate(rows)}
        return cls(
            catalog.select(rows),
            [place[row] for row in queries],
            [place[row] for row in gallery],
            f"{len(queries)} queries in {len(gallery)} pictures",
        )

    def run(self, passes: Passes, advance: Advance, *, plain: bool = False) -> float | None:
        """Encode the pictures with the network as it is, and measure.

        Args:
            passes: Run the network.
            advance: Called with (done, total).
            plain: Leave the whitening out: the descriptors are the pooled features at unit length.
        """
        pooled, unreadable = passes.pooled(self.catalog, range(len(self.catalog)), advance)
        unit = F.normalize(torch.from_numpy(pooled)).numpy() if plain else passes.descriptors(pooled)
        return self.measure(unit, tuple(unreadable))

    def measure(self, descriptors: NDArray[np.float32], unreadable: Sequence[int] = ()) -> float | None:
        """Compute mAP in percent of unit descriptors (n, D) of all rows; None where nothing can be found."""
        bad = set(unreadable)
        kept = [row for row in range(len(self.catalog)) if row not in bad]
        place = {row: at for at, row in enumerate(kept)}
        sides = [
            None if side is None else [place[row] for row in side if row in place]
            for side in (self.queries, self.gallery)
        ]
        labels = self.catalog.labels or [None] * len(self.catalog)
        try:
            report = evaluate_descriptors(
                descriptors[kept],
                [labels[row] for row in kept],
                [self.catalog.ids[row] for row in kept],
                queries=sides[0],
                gallery=sides[1],
            )
        except EvaluationError:
            return None
        return report.mAP


def _some_classes(labels: NDArray[np.int64], most: int) -> list[int]:
    """Choose rows for a search of each picture among the others."""
    if len(labels) <= most:
        return list(range(len(labels)))
    order = np.argsort(labels, kind="stable")
    classes = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    chosen = _spread([rows for rows in classes if len(rows) > 1] or classes, max(1, most // _PER_CLASS))
    return sorted(row for rows in chosen for row in _spread(rows.tolist(), most // len(chosen)))


def _some_queries(
    labels: Sequence[str | None], queries: Sequence[int], gallery: Sequence[int], most: int
) -> tuple[list[int], list[int]]:
    """Choose queries that have something to find, what they find first, and other pictures around it."""
    count, own = Counter(labels[row] for row in gallery), set(gallery)
    able = [row for row in queries if labels[row] is not None and count[labels[row]] > (row in own)]
    chosen = _spread(able or queries, max(1, most // _QUERY_SHARE))
    room = max(1, most - len(chosen))
    wanted = {labels[row] for row in chosen}
    right = _spread([row for row in gallery if labels[row] in wanted], room)
    rest = [row for row in gallery if labels[row] not in wanted]
    kept = {*right, *_spread(rest, room - len(right))}
    return chosen, [row for row in gallery if row in kept]


def _spread(rows: Sequence[T], most: int) -> list[T]:
    if len(rows) <= most:
        return list(rows)
    return [rows[at * len(rows) // most] for at in range(most)]
