"""What a report on Revisited Oxford or Paris says, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import cfcd
from cfcd.evaluation import plots
from cfcd.evaluation.cells import GridCell, GridRow
from cfcd.evaluation.curves import interpolated_precision
from cfcd.evaluation.document import (
    Bar,
    Cell,
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
from cfcd.evaluation.evaluation_document import FEW_QUERIES, INTERVALS, precision_figure, queries_figure
from cfcd.evaluation.intervals import FEW, bootstrap_mean
from cfcd.evaluation.report_files import write_report
from cfcd.evaluation.revisited_evaluation import RevisitedEvaluation
from cfcd.evaluation.revisited_report import ProtocolResult, RevisitedQuery, RevisitedReport

_HITS = 8
_ORDER = ("medium", "hard", "easy")  # whose average precision says which queries are worst


def write_revisited(evaluation: RevisitedEvaluation, out: Path, worst: int) -> list[Path]:
    """Write an evaluation as report.json, report.md and report.html; give the files.

    Args:
        evaluation: What was found.
        out: Folder for the files, made if need be.
        worst: Queries shown with their hits, where the images are known.
    """
    return write_report(out, "report", evaluation.to_json(), revisited_document(evaluation, worst))


def revisited_document(evaluation: RevisitedEvaluation, worst: int) -> Document:
    """Arrange an evaluation as a report; see `write_revisited`."""
    report = evaluation.report
    counted = [result for result in report.protocols if result.queries]
    sections = [
        Section("", (Tiles(tuple(_tile(report, result) for result in counted)),)),
        Section("Protocols", (_protocols(report),)),
        Section("Precision over recall", (Figures(tuple(_curve(report, result) for result in counted)),)),
        Section("Query by query", (Figures(tuple(_bars(report, result) for result in counted)),)),
        Section("Queries, worst first", (_queries(report),)),
        Section("How this was measured", (_facts(evaluation), Text(_remarks(evaluation)))),
    ]
    if rows := _rows(evaluation, _worst_first(report)[:worst]):
        sections.append(Section(f"The {len(rows):,} worst queries with their hits", (Grid(tuple(rows)),)))
    subtitle = f"{evaluation.model or 'descriptors of a model that is not known'} on {evaluation.title}"
    return Document("Revisited Oxford and Paris", subtitle, tuple(sections))


def _aps(report: RevisitedReport, protocol: str) -> list[tuple[str, float]]:
    """List (id, average precision in percent) of the queries that count."""
    return [(query.id, ap) for query in report.per_query if (ap := query.ap[protocol]) is not None]


def _tile(report: RevisitedReport, result: ProtocolResult) -> Tile:
    around = bootstrap_mean([ap for _, ap in _aps(report, result.protocol)])
    return Tile(f"mAP, {result.protocol}", result.mAP, around.low, around.high)


def _protocols(report: RevisitedReport) -> Table:
    cuts = list(report.protocols[0].precision_at)
    rows: list[tuple[Cell, ...]] = []
    for result in report.protocols:
        measures = (result.mAP, *(result.precision_at[k] for k in cuts))
        cells = (f"{value:.2f}" if result.queries else "" for value in measures)
        rows.append((result.protocol, *cells, f"{result.queries:,}", f"{len(result.without_positives):,}"))
    heads = ("protocol", "mAP, %", *(f"mP@{k}, %" for k in cuts), "queries", "left out")
    return Table(heads, tuple(rows), "Left out: queries that have nothing to find under the protocol.")


def _curve(report: RevisitedReport, result: ProtocolResult) -> Figure:
    ranks = [
        np.array(places, np.int64)
        for query in report.per_query
        if query.ap[result.protocol] is not None and (places := query.ranks[result.protocol]) is not None
    ]
    mean = 100 * np.mean([interpolated_precision(places, len(places)) for places in ranks], axis=0)
    figure = precision_figure([plots.Curve("", tuple(enumerate(mean.tolist())))])
    return replace(figure, title=result.protocol.capitalize())


def _bars(report: RevisitedReport, result: ProtocolResult) -> Figure:
    return replace(queries_figure(_aps(report, result.protocol)), title=result.protocol.capitalize())


def _worst_first(report: RevisitedReport) -> list[RevisitedQuery]:
    """Sort the queries by their average precision, of Medium where it was asked for."""
    asked = {result.protocol for result in report.protocols if result.queries}
    protocol = next((name for name in _ORDER if name in asked), None)
    if protocol is None:
        return []
    counted = [(ap, query) for query in report.per_query if (ap := query.ap[protocol]) is not None]
    return [query for _, query in sorted(counted, key=lambda pair: pair[0])]


def _queries(report: RevisitedReport) -> Table:
    names = [result.protocol for result in report.protocols]
    rows = tuple(
        (query.id, *("" if (ap := query.ap[name]) is None else Bar(ap) for name in names))
        for query in _worst_first(report)
    )
    return Table(("query", *(f"AP {name}, %" for name in names)), rows)


def _facts(evaluation: RevisitedEvaluation) -> Facts:
    return Facts((*evaluation.facts().items(), ("cfcd", cfcd.__version__)))


def _remarks(evaluation: RevisitedEvaluation) -> tuple[str, ...]:
    few = any(0 < result.queries < FEW for result in evaluation.report.protocols)
    intervals = " ".join((INTERVALS, FEW_QUERIES) if few else (INTERVALS,))
    return (*(f"Mind: {warning}." for warning in evaluation.warnings), intervals)


def _rows(evaluation: RevisitedEvaluation, queries: Sequence[RevisitedQuery]) -> list[GridRow]:
    """Show queries with their hits; nothing where only descriptors are known."""
    catalog = evaluation.catalog
    if catalog is None:
        return []
    place = {key.removeprefix("query:"): at for at, key in enumerate(catalog.ids)}

    def cell(key: str, score: float | None = None, right: bool | None = None) -> GridCell:
        # A distractor's name is not known.
        if key not in place:
            return GridCell(None, key, score, right)
        item = catalog[place[key]]
        return GridCell(item.path, key, score, right, item.box)

    return [
        GridRow(
            cell(query.id),
            tuple(cell(*hit) for hit in query.top[:_HITS]),
            ", ".join(f"{name} AP {ap:.1f}" for name, ap in query.ap.items() if ap is not None),
        )
        for query in queries
    ]
