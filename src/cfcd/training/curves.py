"""Draw what a run has logged as small pictures over a common axis of steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import TrainingError
from cfcd.files import atomic_write
from cfcd.model.extras import need
from cfcd.training.curve_panels import Panel, Row, fine_spans, height_of, panels_of, series_of, training_rows
from cfcd.training.log import METRICS_FILE, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES_FILE = "curves.png"

_INK, _SOFT, _GRID, _AXIS = "#1c2128", "#68727f", "#e3e6ea", "#c3c9d0"
_FINE, _FINE_INK = "#fdf3e4", "#a8682a"
_DOTS_PER_INCH = 144
_COLUMNS = 2
_WIDTH, _PANEL_HEIGHT, _HEAD, _FOOT = 11.0, 1.55, 1.2, 0.75  # inches
_LEFT, _RIGHT, _BETWEEN, _ABOVE = 0.65, 0.3, 0.8, 0.55  # inches
_MOST_EPOCH_LINES = 24
_MOST_DOTS = 4000
_MOST_MARKS = 30


def draw_curves(folder: Path, out: Path | None = None) -> Path:
    """Draw the log of a run as one PNG, whole or not at all, and return its path.

    Args:
        folder: Folder of the run, with `metrics.jsonl`; the run may still be going on.
        out: File to write; by default `curves.png` in the folder.

    Raises:
        MissingExtra: if matplotlib is not installed.
        TrainingError: if there is no log, it is damaged, or it holds nothing to draw.
    """
    need("matplotlib", "Drawing training curves")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    folder = Path(folder)
    rows = read_metrics(folder)
    if not panels_of(rows):
        raise TrainingError(
            f"The log {folder / METRICS_FILE} holds nothing to draw.", "Wait for the first steps of training."
        )
    canvas: Any = FigureCanvasAgg(curves_figure(rows, folder.resolve().name))
    path = folder / CURVES_FILE if out is None else Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        canvas.print_png(file)
    return path


def curves_figure(rows: Sequence[Row], title: str) -> Figure:
    """Arrange the rows of a log as a figure with one panel for each quantity they hold.

    Needs matplotlib, but neither pyplot nor a display, and changes no settings: safe in any thread.

    Args:
        rows: As `read_metrics` gives them, at least one; see `panels_of`.
        title: Heading: the run's name.
    """
    from matplotlib.figure import Figure

    panels, training = panels_of(rows), training_rows(rows)
    lines = math.ceil(len(panels) / _COLUMNS)
    height = _HEAD + lines * (_PANEL_HEIGHT + _ABOVE) - _ABOVE + _FOOT
    wide = (_WIDTH - _LEFT - _RIGHT - (_COLUMNS - 1) * _BETWEEN) / _COLUMNS
    figure = Figure(figsize=(_WIDTH, height), dpi=_DOTS_PER_INCH, facecolor="white")
    ends = _ends(row["step"] for row in rows)
    fine = fine_spans(training, ends)
    for i, panel in enumerate(panels):
        line, column = divmod(i, _COLUMNS)
        left = _LEFT + column * (wide + _BETWEEN)
        bottom = height - _HEAD - (line + 1) * _PANEL_HEIGHT - line * _ABOVE
        box = (left / _WIDTH, bottom / height, wide / _WIDTH, _PANEL_HEIGHT / height)
        axes = figure.add_axes(box, xlim=ends, ylim=height_of(panel), facecolor="none")
        _mark_phases(axes, training, fine, named=i == 0)
        _draw(axes, panel)
        _furnish(axes, panel.title, labelled=i + _COLUMNS >= len(panels))
    note = "Dots: logged steps. Lines: running means. Upright lines: ends of epochs."
    note += " Shaded: fine phase." if fine else ""
    if any((np.diff(series.steps) == 0).any() for panel in panels for series in panel.series):
        note += " Two mAPs of one step: after its epoch, and of the finished model."
    for y, text, size, colour, weight in (
        (height - 0.42, title, 15.0, _INK, "bold"),
        (height - 0.68, _where(rows, training), 9.5, _SOFT, "normal"),
        (0.16, note, 8.0, _SOFT, "normal"),
    ):
        at = (_LEFT / _WIDTH, y / height)
        figure.text(*at, _in_font(text), fontsize=size, color=colour, fontweight=weight, parse_math=False)
    return figure


def _ends(steps: Iterable[int]) -> tuple[float, float]:
    """Leave a little room around the first and the last step."""
    every = list(steps)
    room = max(0.5, 0.015 * (max(every) - min(every)))
    return min(every) - room, max(every) + room


def _mark_phases(
    axes: Axes, training: Sequence[Row], fine: Sequence[tuple[float, float]], *, named: bool
) -> None:
    """Shade the fine phase and draw a line where an epoch ends."""
    epochs = [
        (a["step"] + b["step"]) / 2
        for a, b in pairwise(training)
        if (a.get("phase"), a.get("epoch")) != (b.get("phase"), b.get("epoch"))
    ]
    for x in epochs[:: 1 + len(epochs) // _MOST_EPOCH_LINES]:
        axes.axvline(x, color=_GRID, linewidth=0.8, zorder=0.6)
    for begin, stop in fine:
        axes.axvspan(begin, stop, facecolor=_FINE, linewidth=0, zorder=0.5)
        if named:
            axes.annotate(
                "fine phase",
                (begin, 1),
                xycoords=("data", "axes fraction"),
                xytext=(5, -5),
                textcoords="offset points",
                verticalalignment="top",
                color=_FINE_INK,
                fontsize=8,
            )


def _draw(axes: Axes, panel: Panel) -> None:
    """Draw dots and lines, and write the newest values, in the lines' colours, above them."""
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea
    from matplotlib.transforms import ScaledTranslation

    newest: list[Any] = []
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.4, "markeredgewidth": 0}
    for series in panel.series:
        if panel.look == "noisy":
            some = slice(None, None, 1 + len(series.values) // _MOST_DOTS)
            axes.plot(
                series.steps[some], series.values[some], color=series.colour, alpha=0.25, zorder=2, **dot
            )
        for steps, values in panel.lines(series):
            look: dict[str, Any] = {"color": series.colour, "linewidth": 1.6, "zorder": 3}
            if len(steps) <= (_MOST_MARKS if panel.look == "marked" else 1):
                look |= {"marker": "o", "markersize": 5.5, "markeredgecolor": "white"}
            axes.plot(steps, values, **look)
        number = f"{values[-1]:.1f}" if panel.look == "marked" else _short(values[-1])
        text = _in_font(f"{series.name} {number}".strip())
        newest.append(TextArea(text, textprops={"color": series.colour, "fontsize": 9, "parse_math": False}))
    above = axes.transAxes + ScaledTranslation(0, 5 / 72, axes.figure.dpi_scale_trans)
    row = HPacker(children=newest, sep=12, pad=0, align="baseline")
    corner = AnchoredOffsetbox(
        "lower right",
        child=row,
        pad=0,
        borderpad=0,
        frameon=False,
        bbox_to_anchor=(1, 1),
        bbox_transform=above,
    )
    axes.add_artist(corner)


def _furnish(axes: Axes, title: str, *, labelled: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_title(title, loc="left", fontsize=10.5, color=_INK, pad=7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_AXIS)
    axes.grid(visible=True, axis="y", color=_GRID, linewidth=0.6, zorder=0.7)
    axes.set_axisbelow(True)
    round_steps = [1, 2, 5, 10]
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=round_steps))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=round_steps, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value + 0.0:,g}"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=_SOFT)
    axes.tick_params(axis="x", length=3, color=_AXIS, labelsize=8, labelcolor=_SOFT, labelbottom=labelled)
    if labelled:
        axes.set_xlabel("step", fontsize=8.5, color=_SOFT, labelpad=2)


def _short(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _where(rows: Sequence[Row], training: Sequence[Row]) -> str:
    """Say in words how far the run has come."""
    newest = training[-1] if training else max(rows, key=lambda row: int(row["step"]))
    said = [f"step {newest['step']:,}"]
    if newest.get("phase") and newest.get("epoch") is not None:
        said.append(f"epoch {newest['epoch']} of the {newest['phase']} phase")
    speed = series_of(training, "images_per_s")
    said += [f"{np.median(speed[0].values):,.0f} images/s"] if speed else []
    return " \N{MIDDLE DOT} ".join(said)


def _in_font(text: str) -> str:
    """Put ? where the font has no letter: a box would be drawn, with a warning."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(letter if ord(letter) in known else "?" for letter in text)
