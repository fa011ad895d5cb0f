"""What a log holds to be drawn: lines of values over steps, gathered in panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Row = dict[str, Any]

_BLUE, _ORANGE, _GREEN = _COLOURS = "#1f6feb", "#d9730d", "#1a7f5a"


@dataclass(frozen=True)
class Series:
    """Hold one line: values at rising steps, and the slice of them that each phase covers."""

    name: str
    colour: str
    steps: Floats
    values: Floats
    parts: tuple[slice, ...]


@dataclass(frozen=True)
class Panel:
    """Hold one small picture: its values are noisy, exact, or few, so that each of them is marked."""

    title: str
    series: tuple[Series, ...]
    look: Literal["noisy", "exact", "marked"] = "noisy"

    def lines(self, series: Series) -> list[tuple[Floats, Floats]]:
        """Give the steps and values of each unbroken line."""
        if self.look != "noisy":
            return [(series.steps, series.values)]
        return [(series.steps[part], _running_mean(series.values[part])) for part in series.parts]


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """Gather the panels that a log has values for; of several rows with one step, the last counts.

    Only mAPs all count: the last step has two, after its epoch and of the finished model.
    """
    training = training_rows(rows)
    fine = [row for row in training if row.get("phase") == "fine"]
    triplets = series_of(fine, "triplets")
    teacher = series_of(training, "distillation", "distillation", _GREEN)
    teacher = [part for part in teacher if part.values.any()]
    loss = series_of(training, "loss")
    if teacher or triplets:  # otherwise the classification loss is the whole
        parts = series_of(training, "classification", "classification", _ORANGE) + teacher
        loss = series_of(training, "loss", "total") + parts
    monitored: dict[str, list[Row]] = {}
    for row in rows:
        if "mAP" in row:
            monitored.setdefault(str(row.get("of") or "test"), []).append(row)
    kinds = sorted(monitored, key=lambda kind: (kind != "test", kind))
    maps = [
        one
        for kind, colour in zip(kinds, _COLOURS, strict=False)
        for one in series_of(monitored[kind], "mAP", kind, colour, repeated=True)
    ]
    every = [
        Panel("Loss", tuple(loss)),
        Panel("mAP, %", tuple(maps), "marked"),
        Panel("Median cosine to the own class", tuple(series_of(training, "median"))),
        Panel("Learning rate", tuple(series_of(training, "lr")), "exact"),
        Panel("Scale of the cosines", tuple(series_of(training, "scale"))),
        Panel("Margin, in cosine", tuple(series_of(training, "margin"))),
        Panel("Triplet loss", tuple(triplets)),
        Panel("Accepted local pairs per step", tuple(series_of(fine, "accepted"))),
    ]
    return [panel for panel in every if panel.series]


def training_rows(rows: Sequence[Row]) -> list[Row]:
    """Take the rows of training itself, by step, without those of the monitor."""
    return sorted((row for row in rows if "mAP" not in row), key=lambda row: int(row["step"]))


def series_of(
    rows: Sequence[Row], key: str, name: str = "", colour: str = _BLUE, *, repeated: bool = False
) -> list[Series]:
    """Take the finite numbers under a key: one series, or none if there are none.

    Of several rows with one step the last counts, or all that are `repeated`.
    """
    found = [row for row in rows if isinstance(row.get(key), int | float) and math.isfinite(row[key])]
    if not found:
        return []
    if not repeated:
        found = list({int(row["step"]): row for row in found}.values())
    found.sort(key=lambda row: int(row["step"]))
    steps, values, phases = ([row.get(one) for row in found] for one in ("step", key, "phase"))
    cuts = [0, *(i for i in range(1, len(steps)) if phases[i] != phases[i - 1]), len(steps)]
    parts = tuple(slice(start, stop) for start, stop in pairwise(cuts))
    return [Series(name, colour, np.array(steps, np.float64), np.array(values, np.float64), parts)]


def _running_mean(values: Floats) -> Floats:
    """Average each value with its neighbours on both sides, twice, over a twentieth of all in the end.

    At the ends there are fewer neighbours. Not an exponential mean, which lags behind.
    """
    count = len(values)
    reach = count // 40
    low = np.maximum(np.arange(count) - reach, 0)
    high = np.minimum(np.arange(count) + reach + 1, count)
    for _ in range(2):
        sums = np.concatenate([[0.0], np.cumsum(values)])
        values = (sums[high] - sums[low]) / (high - low)
    return values


def height_of(panel: Panel) -> tuple[float, float]:
    """Fit the lines and all but the wildest dots, which would flatten everything else."""
    shown = [values for series in panel.series for _, values in panel.lines(series)]
    shown += [np.quantile(series.values, (0.01, 0.99)) for series in panel.series]
    low, high = (float(end(np.concatenate(shown))) for end in (np.min, np.max))
    room = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return low - room, high + room


def fine_spans(training: Sequence[Row], ends: tuple[float, float]) -> list[tuple[float, float]]:
    """Find where, along the axis of steps, the fine phase begins and stops."""
    cuts = [ends[0], *((a["step"] + b["step"]) / 2 for a, b in pairwise(training)), ends[1]]
    spans: list[tuple[float, float]] = []
    for row, (begin, stop) in zip(training, pairwise(cuts), strict=False):
        if row.get("phase") == "fine":
            goes_on = bool(spans) and spans[-1][1] == begin
            spans.append((spans.pop()[0] if goes_on else begin, stop))
    return spans
