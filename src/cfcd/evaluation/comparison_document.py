"""What a report of a comparison says, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

import cfcd
from cfcd.evaluation import plots
from cfcd.evaluation.cells import GridCell, GridRow
from cfcd.evaluation.comparison import Comparison, Measure, Protocol, p_words
from cfcd.evaluation.comparison_settings import differing, run_words
from cfcd.evaluation.curves import RECALL_LEVELS, interpolated_precision
from cfcd.evaluation.document import (
    Bar,
    Cell,
    Document,
    Figure,
    Figures,
    Grid,
    Part,
    Section,
    Table,
    Text,
    change_words,
    printable,
)
from cfcd.evaluation.evaluation_document import (
    FEW_QUERIES,
    INTERVALS,
    precision_figure,
    recall_figure,
    recall_points,
)
from cfcd.evaluation.intervals import FEW, Interval
from cfcd.evaluation.report_files import write_report
from cfcd.evaluation.saved import Pictures, SavedQuery, SavedReport

_HITS = 8
_LISTED = 10  # queries in the tables of a protocol
_MOST_CLASSES = 200
_DEEPEST = 100  # where the curves of R@k end
_ROLES: tuple[plots.Role, plots.Role] = ("a", "b")
_TEST = (
    "Differences are B - A on the same queries. p: two-sided sign-flip permutation test (Smucker, Allan and "
    "Carterette, 2007), not corrected for the number of measures looked at."
)


def write_comparison(
    comparison: Comparison, out: Path, *, changed: int = 8, root: Path | None = None
) -> list[Path]:
    """Write a comparison as comparison.json, comparison.md and comparison.html; give the files.

    Args:
        comparison: What was found.
        out: Folder for the files, made if need be.
        changed: Queries shown with their hits, of those that gained most and of those that lost most.
        root: Folder the pictures are in now, instead of the one the reports name.
    """
    document = comparison_document(comparison, changed=changed, root=root)
    return write_report(out, "comparison", comparison.to_json(), document)


def comparison_document(comparison: Comparison, *, changed: int = 8, root: Path | None = None) -> Document:
    """Arrange a comparison as a report; see `write_comparison`."""
    a, b = comparison.a, comparison.b
    sections = []
    for protocol in comparison.protocols:
        parts: list[Part] = [Text((comparison.verdict(protocol),)), measures_table(protocol.measures)]
        sections.append(Section(_heading("Difference", protocol), tuple(parts)))
    if comparison.notes:
        sections.insert(0, Section("Not the same data", (Text(comparison.notes),)))
    for protocol in comparison.protocols:
        figures = (_scatter(protocol), *_curves(comparison, protocol))
        sections.append(Section(_heading("Query by query", protocol), (Figures(figures),)))
        if protocol.classes:
            sections.append(Section(_heading("Classes, gains first", protocol), (_classes(protocol),)))
    sections.append(Section("The two runs", (*_runs(comparison), Text(_remarks(comparison)))))
    finder = _Finder(comparison, root)
    for protocol in comparison.protocols:
        for better, words in ((True, "Gained most from A to B"), (False, "Lost most from A to B")):
            if rows := finder.rows(protocol.changed(changed, better=better)):
                sections.append(Section(_heading(words, protocol), (Grid(tuple(rows)),)))
    subtitle = f"A: {a.model} \N{RIGHTWARDS ARROW} B: {b.model}"
    return Document("Comparison of two runs", subtitle, tuple(sections))


def measures_table(measures: Sequence[Measure]) -> Table:
    """List measures with intervals, difference, p and the queries that went up and down."""
    rows = tuple(
        (
            measure.name,
            _with_ends(measure.a),
            _with_ends(measure.b),
            Bar(measure.difference.mean, signed=True),
            f"{change_words(measure.difference.low)} to {change_words(measure.difference.high)}",
            p_words(measure.difference.p).removeprefix("= "),
            f"{measure.difference.wins:,} / {measure.difference.losses:,} / {measure.difference.ties:,}",
        )
        for measure in measures
    )
    heads = ("measure, %", "A", "B", "B - A", "95 % interval", "p", "up / down / same")
    return Table(heads, rows)


def comparison_text(comparison: Comparison) -> str:
    """Give a comparison as aligned text for a terminal."""
    lines = [
        f"{name}  {printable(r.model)}  ({r.path})" for name, r in (("A", comparison.a), ("B", comparison.b))
    ]
    for protocol in comparison.protocols:
        table = measures_table(protocol.measures)
        cells = [list(table.columns), *([str(cell) for cell in row] for row in table.rows)]
        widths = [max(len(row[at]) for row in cells) for at in range(len(table.columns))]
        lines.append("")
        for row in cells:
            numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join((row[0].ljust(widths[0]), *numbers)))
        lines += ["", comparison.verdict(protocol)]
    differences = differing(comparison.a, comparison.b)
    lines += ["", "A and B differ in" if differences else "A and B differ in nothing that both reports tell"]
    lines += [printable(f"  {name}: A {a}; B {b}") for name, (a, b) in differences.items()]
    lines += [f"note: {printable(note)}" for note in comparison.notes]
    return "\n".join(lines)


def _with_ends(mean: Interval) -> str:
    return f"{mean.mean:.1f} ({mean.low:.1f} to {mean.high:.1f})"


def _heading(words: str, protocol: Protocol) -> str:
    return f"{words}: {protocol.name}" if protocol.name else words


def _runs(comparison: Comparison) -> tuple[Part, ...]:
    of_a, of_b = (run_words(report) for report in (comparison.a, comparison.b))
    rows = tuple((name, of_a.get(name, ""), of_b.get(name, "")) for name in {**of_a, **of_b})
    said = ", ".join(differing(comparison.a, comparison.b)) or "nothing that both reports tell"
    return Text((f"They differ in: {said}.",)), Table(("", "A", "B"), rows, texts=3)


def _remarks(comparison: Comparison) -> tuple[str, ...]:
    few = min(protocol.measures[0].queries for protocol in comparison.protocols) < FEW
    return (" ".join((INTERVALS, FEW_QUERIES) if few else (INTERVALS,)), _TEST, f"cfcd {cfcd.__version__}")


def _scatter(protocol: Protocol) -> Figure:
    rows: list[tuple[Cell, ...]] = [
        (key, f"{a:.1f}", f"{b:.1f}", change_words(b - a))
        for better in (True, False)
        for key, a, b in protocol.changed(_LISTED, better=better)
    ]
    return Figure(
        "Average precision of every query",
        plots.scatter_plot(protocol.pairs),
        "Above the diagonal B is better. Larger dots are several queries.",
        Table(("query", "A", "B", "B - A"), tuple(rows), f"The {_LISTED} that gained and lost most."),
        shape="tall",
        hint="Point at a dot for its query.",
    )


def _curves(comparison: Comparison, protocol: Protocol) -> tuple[Figure, ...]:
    """Show both curves of each kind that both reports have values for."""
    shared = {key for key, _, _ in protocol.pairs}
    precisions, recalls = [], []
    for name, role, report in (("A", _ROLES[0], comparison.a), ("B", _ROLES[1], comparison.b)):
        queries = [query for query in report.queries if query.id in shared]
        if curve := _precision_curve(report, queries, protocol.name):
            precisions.append(plots.Curve(name, tuple(enumerate(curve)), role))
        if all(protocol.name in query.rank_of_first for query in queries):
            ranks = [query.rank_of_first[protocol.name] for query in queries]
            recalls.append(plots.Curve(name, recall_points(ranks, _DEEPEST), role))
    return (
        *((precision_figure(precisions),) if len(precisions) == len(_ROLES) else ()),
        *((recall_figure(recalls),) if len(recalls) == len(_ROLES) else ()),
    )


def _precision_curve(report: SavedReport, queries: Sequence[SavedQuery], name: str) -> list[float]:
    """Compute the mean curve from ranks, or take the report's if it is over these queries."""
    if all(query.ranks.get(name) for query in queries):
        places = [np.array(query.ranks[name]) for query in queries]
        curve = np.mean([interpolated_precision(p, len(p)) for p in places], axis=0)
        return [100 * float(value) for value in curve]
    given = report.facts.get("precision_at_recall")
    return given if not name and len(queries) == len(report.queries) and _is_curve(given) else []


def _is_curve(values: Any) -> TypeGuard[list[float]]:
    return (
        isinstance(values, list)
        and len(values) == RECALL_LEVELS
        and all(isinstance(value, int | float) and 0 <= value <= 100 for value in values)
    )


def _classes(protocol: Protocol) -> Table:
    shown = protocol.classes
    if len(shown) > _MOST_CLASSES:
        shown = (*shown[: _MOST_CLASSES // 2], *shown[-_MOST_CLASSES // 2 :])
    rows = tuple(
        (c.label, f"{c.queries:,}", f"{c.a:.1f}", f"{c.b:.1f}", Bar(c.change, signed=True)) for c in shown
    )
    hidden = len(protocol.classes) - len(shown)
    note = f"{hidden:,} classes with smaller changes are in comparison.json." if hidden else ""
    return Table(("class", "queries", "mAP in A, %", "mAP in B, %", "B - A"), rows, note)


class _Finder:
    """Turn queries of both reports into rows of pictures."""

    def __init__(self, comparison: Comparison, root: Path | None) -> None:
        self.reports = {
            name: ({query.id: query for query in report.queries}, _moved(report.pictures, root))
            for name, report in (("A", comparison.a), ("B", comparison.b))
        }
        # Most hits are queries too, whose labels are known.
        self.labels = {query.id: query.label for query in comparison.a.queries}

    def rows(self, pairs: Sequence[tuple[str, float, float]]) -> list[GridRow]:
        """Show each query twice, with its hits in A and in B; nothing where no report kept hits."""
        rows = []
        for key, *aps in pairs:
            for (name, (queries, pictures)), ap in zip(self.reports.items(), aps, strict=True):
                query = queries[key]
                if query.top:
                    note = f"{name}: AP {ap:.1f}"
                    hits = (
                        _cell(pictures, hit, self.labels.get(hit) or hit, score, correct)
                        for hit, score, correct in query.top[:_HITS]
                    )
                    rows.append(GridRow(_cell(pictures, key, key), tuple(hits), note))
        return rows


def _cell(
    pictures: Pictures | None, key: str, caption: str, score: float | None = None, correct: bool | None = None
) -> GridCell:
    file = None if pictures is None else pictures.file(key)
    box = None if pictures is None else pictures.boxes.get(key)
    return GridCell(file, caption, score, correct, box)


def _moved(pictures: Pictures | None, root: Path | None) -> Pictures | None:
    if root is None:
        return pictures
    return Pictures(root, pictures.paths, pictures.boxes) if pictures else Pictures(root)
