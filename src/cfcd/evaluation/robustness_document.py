"""What a report of robustness says, and its files."""

from __future__ import annotations

from pathlib import Path

import cfcd
from cfcd.catalog import Item
from cfcd.evaluation import plots
from cfcd.evaluation.cells import GridCell, GridRow
from cfcd.evaluation.disturbances import disturb
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
    change_words,
)
from cfcd.evaluation.evaluation_document import AP_RULES, FEW_QUERIES, INTERVALS, settings_words
from cfcd.evaluation.intervals import FEW, bootstrap_mean
from cfcd.evaluation.report import LEAVE_ONE_OUT
from cfcd.evaluation.report_files import write_report
from cfcd.evaluation.robustness_report import Result, RobustnessReport

_CLEAN = "clean"


def write_robustness(report: RobustnessReport, out: Path) -> list[Path]:
    """Write a report as robustness.json, robustness.md and robustness.html.

    Args:
        report: What was found.
        out: Folder for the files, made if need be.

    Returns:
        The files written.

    Raises:
        PictureError: The query shown as an example can no longer be read.
    """
    return write_report(out, "robustness", report.to_json(), robustness_document(report))


def robustness_document(report: RobustnessReport) -> Document:
    """Arrange a measured robustness as a report; opens the picture of one query.

    Raises:
        PictureError: That picture can no longer be read.
    """
    example = example_query(report)
    name = report.queries[example]
    sections = (
        Section("", (_tiles(report),)),
        Section("mAP at every level, %", (_table(report),)),
        Section("mAP by disturbance", (Figures(tuple(_figure(report, r) for r in report.results)),)),
        Section("How this was measured", (_facts(report), Text(_remarks(report)))),
        Section(
            f"What the levels mean: {name}; right and wrong tell the first image found",
            (Grid(_strips(report, example)),),
        ),
    )
    subtitle = (
        f"{report.evaluation.model} on {report.evaluation.catalog.source.name}: "
        f"{report.sampled()}, disturbed, against clean images"
    )
    return Document("Robustness", subtitle, sections)


def example_query(report: RobustnessReport) -> int:
    """Choose a query that is typical: found when clean, if any is, and then as hard as the mean."""
    aps = report.aps
    return min(range(len(aps)), key=lambda at: (not report.clean.first_right[at], abs(aps[at] - report.mean)))


def _tiles(report: RobustnessReport) -> Tiles:
    clean, disturbed = bootstrap_mean(report.clean.aps), bootstrap_mean(report.aps)
    return Tiles(
        (
            Tile("mAP, clean", clean.mean, clean.low, clean.high),
            Tile("mAP, mean of all disturbances", disturbed.mean, disturbed.low, disturbed.high),
        )
    )


def _table(report: RobustnessReport) -> Table:
    most = max(len(result.levels) for result in report.results)
    rows: list[tuple[Cell, ...]] = []
    for result in report.results:
        cells = [_with_change(level.mean, report.clean.mean) for level in result.levels]
        cells += [""] * (most - len(cells))
        change = Bar(result.mean - report.clean.mean, signed=True)
        strengths = f"{result.disturbance.measure}: {', '.join(result.disturbance.labels)}"
        rows.append((result.disturbance.name, strengths, *cells, f"{result.mean:.1f}", change))
    change = Bar(report.mean - report.clean.mean, signed=True)
    rows.append(("all", "", *[""] * most, f"{report.mean:.1f}", change))
    levels = (f"level {n}" for n in range(1, most + 1))
    return Table(
        ("disturbance", "its levels", *levels, "mean", "change"),
        tuple(rows),
        f"In brackets the change from clean pictures, {report.clean.mean:.1f}.",
        texts=2,
    )


def _figure(report: RobustnessReport, result: Result) -> Figure:
    means = [report.clean.mean, *(level.mean for level in result.levels)]
    levels = list(zip((_CLEAN, *result.disturbance.labels), means, strict=True))
    data = Table(
        (result.disturbance.measure, "mAP, %", "change"),
        tuple((words, f"{mean:.1f}", change_words(mean - means[0])) for words, mean in levels),
    )
    return Figure(
        result.disturbance.name.capitalize()
        if result.disturbance.name.islower()
        else result.disturbance.name,
        plots.levels_plot(levels, result.disturbance.measure),
        "Dashed: clean pictures.",
        data,
    )


def _facts(report: RobustnessReport) -> Facts:
    evaluation = report.evaluation
    whole = evaluation.report
    against = "all other images" if whole.protocol == LEAVE_ONE_OUT else "the gallery"
    side = report.view.long_side
    rows = {
        "model": evaluation.model,
        **settings_words(evaluation.settings),
        "data": str(evaluation.catalog.source),
        "protocol": f"{whole.protocol}: each disturbed query searches {against}, undisturbed",
        "queries": report.sampled(),
        "mAP of all queries, clean": f"{whole.mAP:.1f}",
        "images searched": f"{whole.gallery:,}",
        "pictures left out": f"{len(evaluation.skipped):,}",
        "size when disturbed": "as the file" if side is None else f"long side at most {side:,} pixels",
        "average precision": AP_RULES[whole.ap_rule],
        "cfcd": cfcd.__version__,
    }
    return Facts(tuple(rows.items()))


def _remarks(report: RobustnessReport) -> tuple[str, ...]:
    few = (FEW_QUERIES,) if len(report.queries) < FEW else ()
    return (
        "Each level disturbs every query once; what is left to chance, such as the side it turns to, follows "
        "from the query's id and is the same for every model and level. The query's own clean picture is "
        "left out of its ranking. What a turn uncovers is filled with the picture's own reflection.",
        "The mean of all disturbances is the mean of their means. Strengths of different disturbances cannot "
        "be compared: compare models under one disturbance, or disturbances by the pictures shown here.",
        " ".join((INTERVALS, *few)),
    )


def _strips(report: RobustnessReport, at: int) -> tuple[GridRow, ...]:
    """Show one query under every disturbance at every level."""
    item = _item(report, report.queries[at])
    picture = report.view.load(item)
    rows = []
    for result in report.results:
        disturbance = result.disturbance
        cells = tuple(
            GridCell(
                disturb(picture, disturbance, number, item.id),
                f"{words}: AP {level.aps[at]:.1f}",
                correct=level.first_right[at],
            )
            for number, (words, level) in enumerate(
                zip(disturbance.labels, result.levels, strict=True), start=1
            )
        )
        name = f"{disturbance.name} ({disturbance.measure})"
        rows.append(GridRow(GridCell(picture, name), cells, f"clean AP {report.clean.aps[at]:.1f}"))
    return tuple(rows)


def _item(report: RobustnessReport, key: str) -> Item:
    catalog = report.evaluation.catalog
    return catalog[list(catalog.ids).index(key)]


def _with_change(value: float, clean: float) -> str:
    return f"{value:.1f} ({change_words(value - clean)})"
