"""Searches and evaluations as rows of a result grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cfcd.catalog import Box, Item
from cfcd.errors import UsageError
from cfcd.evaluation.cells import GridCell, GridRow
from cfcd.evaluation.evaluation_document import evaluation_document
from cfcd.evaluation.evaluation_json import report_json
from cfcd.evaluation.grid_html import write_grid_html
from cfcd.evaluation.grid_png import write_grid_png
from cfcd.evaluation.report import QueryResult
from cfcd.evaluation.report_files import write_report
from cfcd.evaluation.run import Evaluation
from cfcd.gallery import Hit


def row_of_hits(
    query: Path | None, hits: Sequence[Hit], *, label: str | None = None, box: Box | None = None
) -> GridRow:
    """Show a query and its hits; right or wrong are known only with the query's label."""
    cells = tuple(
        GridCell(
            hit.item.path,
            _caption(hit.item),
            hit.score,
            None if label is None or hit.item.label is None else hit.item.label == label,
            hit.item.box,
        )
        for hit in hits
    )
    name = query.name if query is not None else "a descriptor"
    return GridRow(GridCell(query, label or name, box=box), cells)


def rows_of_queries(evaluation: Evaluation, queries: Sequence[QueryResult], hits: int = 8) -> list[GridRow]:
    """Show queries of an evaluation with their best hits and average precision."""
    place = {key: at for at, key in enumerate(evaluation.catalog.ids)}
    rows = []
    for query in queries:
        item = evaluation.catalog[place[query.id]]
        cells = []
        for key, score, correct in query.top[:hits]:
            hit = evaluation.catalog[place[key]]
            cells.append(GridCell(hit.path, _caption(hit), score, correct if hit.label else None, hit.box))
        cell = GridCell(item.path, item.id, box=item.box)
        rows.append(GridRow(cell, tuple(cells), f"AP {query.ap:.1f}"))
    return rows


def write_grid(rows: Sequence[GridRow], path: Path, *, title: str, subtitle: str = "") -> None:
    """Write a grid as a page or a picture, by the ending of the file.

    Raises:
        UsageError: The ending is neither .html nor .png.
    """
    if path.suffix.lower() in {".html", ".htm"}:
        write_grid_html(rows, path, title=title, subtitle=subtitle)
    elif path.suffix.lower() == ".png":
        write_grid_png(rows, path, title=title, subtitle=subtitle)
    else:
        raise UsageError(f"A grid cannot be written to {path}.", "Name a file that ends in .html or .png.")


def write_evaluation(evaluation: Evaluation, out: Path, worst: int) -> list[Path]:
    """Write an evaluation as report.json, report.md and report.html, and its worst queries as pictures.

    Args:
        evaluation: What was found.
        out: Folder for the files, made if need be.
        worst: Queries shown with their hits, in the page as well as in worst.html and worst.png.

    Returns:
        The files written.
    """
    rows = rows_of_queries(evaluation, evaluation.report.worst(worst))
    saved = report_json(evaluation)
    document = evaluation_document(evaluation, rows, saved["intervals"])
    files = write_report(out, "report", saved, document)
    title = f"The {len(rows)} worst of {evaluation.report.queries} queries"
    subtitle = f"{evaluation.model}: mAP {evaluation.report.mAP:.1f}"
    pictures = [out / "worst.html", out / "worst.png"]
    for file in pictures:
        write_grid(rows, file, title=title, subtitle=subtitle)
    return files + pictures


def _caption(item: Item) -> str:
    return item.label or item.id
