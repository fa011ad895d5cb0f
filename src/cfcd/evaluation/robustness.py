"""How well disturbed photos still find their own kind among undisturbed ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cfcd.catalog import Catalog
from cfcd.encoding.encoder import Encoder, load_model
from cfcd.encoding.preprocess import wanted_long_side
from cfcd.encoding.shards import read_encoded
from cfcd.errors import PictureError, UsageError
from cfcd.evaluation.disturbances import DISTURBANCES, Disturbance, disturb
from cfcd.evaluation.folder import check_unit_rows
from cfcd.evaluation.metrics import average_precision, rankings
from cfcd.evaluation.robustness_report import LEAST_SIDE, Level, Result, RobustnessReport, View
from cfcd.evaluation.run import evaluate, holds_descriptors
from cfcd.gallery.opening import name_of

__all__ = ["MOST_QUERIES", "RobustnessReport", "evaluate_robustness"]

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_QUERIES = 200


def evaluate_robustness(
    data: str | Path | Catalog,
    model: str | Path | Encoder | None = None,
    *,
    queries: int = MOST_QUERIES,
    disturbances: Sequence[Disturbance] = DISTURBANCES,
    root: Path | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RobustnessReport:
    """Measure how well disturbed pictures find undisturbed ones with the same label.

    The queries, the gallery and the measure are those of `cfcd.evaluation.evaluate`; in leave-one-out the
    query's own undisturbed picture is left out of its ranking.

    Args:
        data: Pictures or their catalog.
        model: The model to encode with, "imagenet-lite0" by default.
        queries: How many are disturbed at most: each costs as much as encoding as many pictures as there are
            levels in all. A sample is spread evenly over the queries in the order of the collection.
        disturbances: What is done to them.
        root: Folder that relative paths in a table start from, instead of the table's own.
        out: Folder that keeps the undisturbed descriptors, so that an interrupted evaluation goes on.
        progress: Called with (done, total) pictures to encode, disturbed ones included.

    Raises:
        UsageError: The data hold descriptors, or nothing is to be disturbed.
        EvaluationError: There is nothing to evaluate, as in `evaluate`.
        PictureError: A query could be read at first, and then no longer.
    """
    if not isinstance(data, Catalog) and holds_descriptors(Path(data)):
        raise UsageError(
            f"{name_of(data)} holds descriptors, and only pictures can be disturbed.", "Give the pictures."
        )
    levels = [(d, level) for d in disturbances for level in range(1, len(d.strengths) + 1)]
    if queries < 1 or not levels or not all(d.strengths for d in disturbances):
        raise UsageError("There is nothing to disturb.", "Ask for at least one query and one level.")
    encoder = model if isinstance(model, Encoder) else load_model(model or "imagenet-lite0")
    with ExitStack() as stack:
        kept = Path(out) if out is not None else Path(stack.enter_context(TemporaryDirectory())) / "encoded"

        def first_part(done: int, total: int) -> None:
            if progress:
                progress(done, total + min(queries, total) * len(levels))

        evaluation = evaluate(data, encoder, root=root, out=kept, progress=first_part)
        rows = _rows(evaluation.catalog, kept)
    # Only queries with a label and a right image have a measure.
    countable = [query.id for query in evaluation.report.per_query]
    count = min(queries, len(countable))
    chosen = [countable[at * len(countable) // count] for at in range(count)]
    place = {key: at for at, key in enumerate(evaluation.catalog.ids)}
    numbers = [place[key] for key in chosen]
    view = _view(encoder)
    disturbed = np.empty((1 + len(levels), count, rows.shape[1]), np.float32)
    disturbed[0] = rows[numbers]
    _encode(evaluation.catalog, numbers, levels, encoder, view, disturbed[1:], progress)
    for block in disturbed:
        check_unit_rows(block, chosen)
    found = _search(evaluation.catalog, numbers, rows, disturbed)
    rest = iter(found[1:])
    results = tuple(Result(d, tuple(next(rest) for _ in d.strengths)) for d in disturbances)
    return RobustnessReport(evaluation, tuple(chosen), found[0], results, view)


def _view(encoder: Encoder) -> View:
    wanted = wanted_long_side(encoder.model.config.preprocessing)
    return View(None if wanted is None else max(LEAST_SIDE, wanted), encoder.reading)


def _rows(catalog: Catalog, folder: Path) -> NDArray[np.float32]:
    """Read the descriptors of an encoded folder in the order of the catalog."""
    encoded = read_encoded(folder)
    place = {key: at for at, key in enumerate(encoded.catalog.ids)}
    return np.asarray(encoded.descriptors[[place[key] for key in catalog.ids]], np.float32)


def _encode(
    catalog: Catalog,
    numbers: Sequence[int],
    levels: Sequence[tuple[Disturbance, int]],
    encoder: Encoder,
    view: View,
    rows: NDArray[np.float32],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Fill (levels, queries, D) rows with descriptors of the disturbed queries."""
    one_at_a_time = Lock()

    # The levels of a query follow each other, so it is decoded once for all of them.
    @lru_cache(maxsize=4)
    def opened(query: int) -> Image.Image:
        return view.load(catalog[numbers[query]])

    def load(job: tuple[int, int]) -> Image.Image:
        query, level = job
        with one_at_a_time:
            picture = opened(query)
        return disturb(picture, *levels[level], catalog.ids[numbers[query]])

    jobs = ((query, level) for query in range(len(numbers)) for level in range(len(levels)))
    total = len(catalog) + len(numbers) * len(levels)
    for done, ((query, level), result) in enumerate(encoder.stream(jobs, load), start=1):
        if isinstance(result, PictureError):
            raise result
        rows[level, query] = result
        if progress:
            progress(len(catalog) + done, total)


def _search(
    catalog: Catalog,
    numbers: Sequence[int],
    rows: NDArray[np.float32],
    disturbed: NDArray[np.float32],
) -> list[Level]:
    """Let (levels, queries, D) descriptors search the gallery."""
    sides = catalog.query_gallery()
    gallery = np.arange(len(catalog)) if sides is None else np.array(sides[1])
    place = np.full(len(catalog), -1)
    place[gallery] = np.arange(len(gallery))
    labels = np.array(catalog.labels, object)
    own = place[numbers]
    positives = []
    for query, itself in zip(numbers, own, strict=True):
        same = np.flatnonzero(labels[gallery] == labels[query])
        positives.append(same[same != itself])
    ranked = rankings(disturbed.reshape(-1, rows.shape[1]), rows[gallery], np.tile(own, len(disturbed)))
    levels = []
    for _ in disturbed:
        aps, first = [], []
        for right in positives:
            ranks = next(ranked).ranks_of(right)
            aps.append(100 * average_precision(ranks, len(right)))
            first.append(bool(ranks[0] == 0))
        levels.append(Level(tuple(aps), tuple(first)))
    return levels
