"""What a report of one evaluation says, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import cfcd
from cfcd.evaluation import plots
from cfcd.evaluation.cells import GridRow
from cfcd.evaluation.document import (
    Bar,
    Document,
    Facts,
    Figure,
    Figures,
    Grid,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
)
from cfcd.evaluation.intervals import FEW
from cfcd.evaluation.report import LEAVE_ONE_OUT, FolderReport
from cfcd.evaluation.run import Evaluation

INTERVALS = (
    "Intervals: 95 %, percentiles of 10,000 bootstrap resamples of the queries, taken for independent draws; "
    "queries that show one object are not quite that. A measure on which all queries agree gets an interval "
    "without width, which does not make it certain."
)
FEW_QUERIES = f"With fewer than {FEW} queries such intervals are too narrow."
AP_RULES = {
    "standard": "mean of the precision at the place of each right image (rule standard)",
    "trapezoid": "area under the precision-recall curve by trapezoids, as in revisited Oxford and Paris "
    "(rule trapezoid)",
}
_MOST_CLASSES = 200
_MOST_SKIPPED = 50
_DEEPEST = 100  # where the curve of R@k ends, unless the report goes deeper


def evaluation_document(
    evaluation: Evaluation, worst: Sequence[GridRow], intervals: Mapping[str, Any]
) -> Document:
    """Arrange an evaluation as a report.

    Args:
        evaluation: What was found.
        worst: The worst queries with their hits, worst first.
        intervals: Ends of the 95 % interval by measure, as in `report_json`.
    """
    report = evaluation.report
    sections = [
        Section("", (_tiles(report, intervals),)),
        Section("Curves", (Figures(_figures(report)),)),
        Section("Classes, worst first", (_classes(report),)),
        Section("How this was measured", (_facts(evaluation), Text(_remarks(report)))),
    ]
    if evaluation.skipped:
        sections.append(Section("Pictures left out", (_skipped(evaluation),)))
    if worst:
        sections.append(Section(f"The {len(worst):,} worst queries with their hits", (Grid(tuple(worst)),)))
    return Document("Retrieval evaluation", _subtitle(evaluation), tuple(sections))


def query_words(report: FolderReport) -> str:
    """Say how many queries searched how many images."""
    queries = "1 query" if report.queries == 1 else f"{report.queries:,} queries"
    images = "1 image" if report.gallery == 1 else f"{report.gallery:,} images"
    return f"{queries} against {images}"


def _subtitle(evaluation: Evaluation) -> str:
    report = evaluation.report
    return f"{evaluation.model} on {evaluation.catalog.source.name}: {query_words(report)}, {report.protocol}"


def _tiles(report: FolderReport, intervals: Mapping[str, Any]) -> Tiles:
    measures = {"mAP": report.mAP, **{f"R@{k}": v for k, v in sorted(report.recall_at.items())}}
    tiles = [Tile(name, value, *intervals[name]) for name, value in measures.items()]
    plain = {"mAP@R": report.mAP_at_R, "R-precision": report.r_precision}
    return Tiles((*tiles, *(Tile(name, value) for name, value in plain.items())))


def _figures(report: FolderReport) -> tuple[Figure, ...]:
    figures = []
    if report.precision_at:
        figures.append(precision_figure([plots.Curve("", tuple(enumerate(report.precision_at)))]))
    deepest = min(report.gallery, max(_DEEPEST, *report.recall_at))
    figures.append(
        recall_figure([plots.Curve("", recall_points([q.rank_of_first for q in report.per_query], deepest))])
    )
    figures.append(queries_figure([(q.id, q.ap) for q in report.per_query]))
    return tuple(figures)


def precision_figure(curves: Sequence[plots.Curve]) -> Figure:
    """Show precision-recall curves of 101 points."""
    names = [curve.name or "precision, %" for curve in curves]
    rows = [
        (f"{recall}", *(f"{curve.points[recall][1]:.1f}" for curve in curves)) for recall in range(0, 101, 10)
    ]
    return Figure(
        "Precision over recall",
        plots.precision_recall_plot(curves),
        "Mean over the queries of the best precision at each recall or beyond.",
        Table(("recall, %", *names), tuple(rows)),
    )


def recall_figure(curves: Sequence[plots.Curve]) -> Figure:
    """Show curves of R@k, all over the same k."""
    names = [curve.name or "R@k, %" for curve in curves]
    rows = [
        (f"{int(k)}", *(f"{curve.points[at][1]:.1f}" for curve in curves))
        for at, (k, _) in enumerate(curves[0].points)
        if k in {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}
    ]
    return Figure(
        "Recall at k",
        plots.recall_plot(curves),
        "Share of the queries with a right image among the first k; k on a logarithmic scale.",
        Table(("k", *names), tuple(rows)),
    )


def recall_points(ranks: Sequence[int | None], deepest: int) -> tuple[plots.Point, ...]:
    """Give (k, R@k in percent) for k up to `deepest`, beyond 100 only at some; from 1-based first ranks."""
    step = max(1, deepest // 100)
    depths = sorted({*range(1, min(deepest, 100) + 1), *range(step, deepest + 1, step), deepest})
    counts = [0] * (deepest + 1)
    for rank in ranks:
        if rank is not None and rank <= deepest:
            counts[rank] += 1
    found = list(accumulate(counts))
    return tuple((float(k), 100.0 * found[k] / len(ranks)) for k in depths)


def queries_figure(queries: Sequence[tuple[str, float]]) -> Figure:
    """Show the average precision of every query: (id, percent)."""
    ordered = sorted((ap for _, ap in queries), reverse=True)
    shares = (0, 10, 25, 50, 75, 90, 100)
    rows = [(f"{share}", f"{ordered[round(share / 100 * (len(ordered) - 1))]:.1f}") for share in shares]
    return Figure(
        "Average precision of every query",
        plots.sorted_bars_plot(queries),
        "Sorted, best first.",
        Table(("share of the queries, best first, %", "AP of the last of them, %"), tuple(rows)),
        shape="wide",
        hint="Point at a bar for its query.",
    )


def _classes(report: FolderReport) -> Table:
    ordered = sorted(report.per_class, key=lambda c: c.mAP)
    rows = [(c.label, f"{c.queries:,}", Bar(c.mAP), f"{c.recall_at_1:.1f}") for c in ordered[:_MOST_CLASSES]]
    hidden = len(ordered) - len(rows)
    note = f"{hidden:,} better classes are in report.json." if hidden else ""
    return Table(("class", "queries", "mAP, %", "R@1, %"), tuple(rows), note)


def _facts(evaluation: Evaluation) -> Facts:
    report, catalog = evaluation.report, evaluation.catalog
    against = "all other images" if report.protocol == LEAVE_ONE_OUT else "the gallery"
    boxed = sum(box is not None for box in catalog.boxes or ())
    rows = {
        "model": evaluation.model,
        **settings_words(evaluation.settings),
        "data": str(catalog.source),
        "protocol": f"{report.protocol}: each query searches {against}",
        "queries": query_words(report),
        "queries left out": f"{report.skipped_queries:,} without label or right image",
        "pictures left out": f"{len(evaluation.skipped):,}",
        "rows left out": f"{sum(p.fatal for p in catalog.problems):,} that cannot be used",
        "cropping": f"to its box: {boxed:,} of {len(catalog):,} pictures"
        if boxed
        else "none, whole pictures",
        "average precision": AP_RULES.get(report.ap_rule, report.ap_rule),
        "cfcd": cfcd.__version__,
    }
    return Facts(tuple(rows.items()))


def settings_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """Say how pictures were encoded, as far as that is known."""
    rows = {}
    if "long_side" in settings:
        side = settings["long_side"]
        rows["size"] = "as it is" if side is None else f"long side at most {side} pixels"
    if "scales" in settings:
        rows["scales"] = ", ".join(f"{scale:.4g}" for scale in settings["scales"])
    if "precision" in settings:
        asked = settings["precision"]
        rows["precision"] = "auto: bf16 where the device has it" if asked == "auto" else str(asked)
    if "dim" in settings:
        rows["descriptor"] = f"{settings['dim']:,} numbers, {4 * settings['dim']:,} bytes in float32"
    return rows


def _remarks(report: FolderReport) -> tuple[str, ...]:
    few = (FEW_QUERIES,) if report.queries < FEW else ()
    ties = "Images of equal similarity rank in the order of the gallery."
    return (" ".join((INTERVALS, *few)), ties)


def _skipped(evaluation: Evaluation) -> Table:
    rows = [(item.id, reason) for item, reason in evaluation.skipped[:_MOST_SKIPPED]]
    hidden = len(evaluation.skipped) - len(rows)
    note = f"{hidden:,} more are in report.json." if hidden else ""
    return Table(("picture", "reason"), tuple(rows), note, texts=2)
