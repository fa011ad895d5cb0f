"""Plots as SVG to stand in a page: no script, nothing fetched, colours from the page's style sheet.

Series "a" and "b" are blue and orange (Okabe & Ito's colours, told apart by people with any colour vision).
What the pointer rests on says its value.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from cfcd.evaluation.document import printable

Role = Literal["a", "b"]
Point = tuple[float, float]

_WIDTH, _HEIGHT = 520.0, 320.0  # pixels of the drawing; a page scales it
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 16.0, 42.0
_MOST_BARS = 240
_MARKED_RECALLS = (1, 5, 10)
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Curve:
    """Hold a line to draw: points in percent or counts, left to right."""

    name: str
    points: tuple[Point, ...]
    role: Role = "a"


@dataclass(frozen=True)
class Frame:
    """Place data within axes that end at `right` and `bottom`: `x` and `y` turn values into pixels."""

    x: Callable[[float], float]
    y: Callable[[float], float]
    right: float
    bottom: float

    @classmethod
    def of(
        cls, x: Point, y: Point = (0, 100), *, log: bool = False, size: Point = (_WIDTH, _HEIGHT)
    ) -> Frame:
        """Span the values from the first to the last of `x` and of `y`; the size is in pixels."""
        right, bottom = size[0] - _RIGHT, size[1] - _BOTTOM
        across = math.log if log else float
        start, stop = across(x[0]), across(x[1])
        return cls(
            lambda v: _LEFT + (across(v) - start) / (stop - start) * (right - _LEFT),
            lambda v: bottom - (v - y[0]) / (y[1] - y[0]) * (bottom - _TOP),
            right,
            bottom,
        )

    def axes(
        self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str, y_name: str, *, upright: bool
    ) -> list[str]:
        """Draw grid lines, their values and the names of both axes."""
        parts = []
        for v in y_ticks:
            parts.append(line(_LEFT, self.y(v), self.right, self.y(v), "rule"))
            parts.append(text(_LEFT - 7, self.y(v) + 4, f"{v:g}", "end"))
        for v in x_ticks:
            if upright:
                parts.append(line(self.x(v), _TOP, self.x(v), self.bottom, "rule"))
            parts.append(text(self.x(v), self.bottom + 17, f"{v:,g}", "middle"))
        parts.append(line(_LEFT, self.bottom, self.right, self.bottom, "axis"))
        parts.append(
            text((_LEFT + self.right) / 2, self.bottom + (35 if x_ticks else 20), x_name, "middle", "name")
        )
        middle = (_TOP + self.bottom) / 2
        turned = text(0, 0, y_name, "middle", "name")
        parts.append(f'<g transform="translate(12 {px(middle)}) rotate(-90)">{turned}</g>')
        return parts


def precision_recall_plot(curves: Sequence[Curve]) -> str:
    """Draw mean interpolated precision over recall, both in percent."""
    frame = Frame.of((0, 100))
    ticks = (0, 20, 40, 60, 80, 100)
    parts = frame.axes(ticks, ticks, "recall, %", "precision, %", upright=True)
    for curve in curves:
        parts.append(polyline(frame, curve))
        for recall, precision in curve.points[::10]:
            parts.append(dot(frame, recall, precision, curve, f"recall {recall:g} %: {precision:.1f} %"))
    return svg("Precision over recall", [*parts, *legend(frame, curves)])


def recall_plot(curves: Sequence[Curve]) -> str:
    """Draw the share of queries with a right image among the first k, in percent, over k (logarithmic)."""
    last = max(2.0, *(curve.points[-1][0] for curve in curves))
    least = min(y for curve in curves for _, y in curve.points)
    floor, step = _floor(least)
    frame = Frame.of((1, last), (floor, 100), log=True)
    y_ticks = range(floor, 101, step)
    x_ticks = [k for k in _STEPS if k <= last]
    parts = frame.axes(x_ticks, y_ticks, "first k images", "queries with a right one, %", upright=True)
    for curve in curves:
        parts.append(polyline(frame, curve))
        for k, share in curve.points:
            if k in _MARKED_RECALLS:
                parts.append(dot(frame, k, share, curve, f"R@{k:g}: {share:.1f} %"))
    return svg("Recall at k", [*parts, *legend(frame, curves, right=True)])


def _floor(least: float) -> tuple[int, int]:
    """Choose where an axis up to 100 begins, below the least value, and the step of its ticks."""
    for step, lowest in ((2, 90), (5, 75), (10, 50)):
        if least - 1 >= lowest:
            return min(90, step * math.floor((least - 1) / step)), step
    return 20 * max(0, math.floor((least - 1) / 20)), 20


def sorted_bars_plot(queries: Sequence[tuple[str, float]]) -> str:
    """Draw the average precision of every query as a bar, best first; many queries share bars.

    Args:
        queries: (id, average precision in percent), at least one.
    """
    ordered = sorted(queries, key=lambda query: -query[1])
    n = len(ordered)
    size = (2 * _WIDTH + 24, 260.0)  # two columns of a page
    frame = Frame.of((0, n), size=size)
    mean = math.fsum(ap for _, ap in ordered) / n
    ticks = (0, 20, 40, 60, 80, 100)
    parts = frame.axes((), ticks, _count(n) + ", best first", "AP, %", upright=False)
    bars = min(n, _MOST_BARS)
    gap = min(2.0, 0.2 * (frame.right - _LEFT) / bars) if bars < _MOST_BARS else -0.3  # seamless
    for bar in range(bars):
        start, stop = bar * n // bars, (bar + 1) * n // bars
        members = ordered[start:stop]
        height = math.fsum(ap for _, ap in members) / len(members)
        said = f"{members[0][0]}: AP {height:.1f} %"
        if len(members) > 1:
            said = f"queries {start + 1} to {stop}: AP {members[0][1]:.1f} to {members[-1][1]:.1f} %"
        left, wide = frame.x(start), frame.x(stop) - frame.x(start)
        # The invisible bar behind lets the pointer find a query whose average precision is near zero.
        parts.append(
            f"<g><title>{safe(said)}</title>{rect(left, _TOP, wide, frame.bottom - _TOP, 'ghost')}"
            f"{rect(left, frame.y(height), wide - gap, frame.bottom - frame.y(height), 'bar')}</g>"
        )
    parts.append(line(_LEFT, frame.y(mean), frame.right, frame.y(mean), "mean"))
    above = -6 if mean < 90 else 15
    parts.append(text(frame.right - 4, frame.y(mean) + above, f"mean {mean:.1f}", "end", "strong"))
    return svg("Average precision of every query", parts, size[0], size[1] - 16)  # no ticks below


def scatter_plot(pairs: Sequence[tuple[str, float, float]]) -> str:
    """Draw the average precision of each query in run A (across) and run B (up); equal queries grow.

    Args:
        pairs: (id, percent in A, percent in B).
    """
    size = (_WIDTH, _WIDTH - _LEFT - _RIGHT + _TOP + _BOTTOM)  # so that the axes are a square
    frame = Frame.of((0, 100), size=size)
    ticks = (0, 20, 40, 60, 80, 100)
    parts = frame.axes(ticks, ticks, "AP in A, %", "AP in B, %", upright=True)
    parts.append(line(frame.x(0), frame.y(0), frame.x(100), frame.y(100), "even"))
    places: dict[tuple[float, float, str], list[str]] = defaultdict(list)
    cell = 0.5 if len(pairs) <= 2000 else 2.0  # percent; a page with a dot for each of 100,000 would not open
    for key, a, b in pairs:
        winner = "even" if a == b else ("b" if b > a else "a")
        places[round(a / cell) * cell, round(b / cell) * cell, winner].append(
            f"{key}: {a:.1f} to {b:.1f}, {b - a:+.1f}"
        )
    for (a, b, winner), said in sorted(places.items(), key=lambda place: -len(place[1])):
        radius = min(16.0, 2.2 + 1.3 * math.sqrt(len(said)))
        title = said[0] if len(said) == 1 else f"{_count(len(said))} near {a:g} to {b:g}"
        parts.append(
            f'<circle class="spot {winner}" cx="{px(frame.x(a))}" cy="{px(frame.y(b))}" r="{px(radius)}">'
            f"<title>{safe(title)}</title></circle>"
        )
    wins, losses = sum(b > a for _, a, b in pairs), sum(b < a for _, a, b in pairs)
    parts.append(text(frame.x(2), frame.y(94), f"B better: {wins:,}", "start", "strong b"))
    parts.append(text(frame.x(98), frame.y(3), f"A better: {losses:,}", "end", "strong a"))
    return svg("Average precision of every query in A and B", parts, *size)


def levels_plot(levels: Sequence[tuple[str, float]], name: str) -> str:
    """Draw a measure in percent over graded levels: their words, and the first of them as the line to hold.

    Args:
        levels: (level in words, percent), in order, at least two.
        name: What the levels are.
    """
    size = (_WIDTH, 230.0)
    frame = Frame.of((0, len(levels) - 1 + 0.15), size=size)
    parts = frame.axes((), (0, 25, 50, 75, 100), "", "mAP, %", upright=False)
    first = frame.y(levels[0][1])
    parts.append(line(_LEFT, first, frame.right, first, "even"))
    curve = Curve("", tuple((float(at), percent) for at, (_, percent) in enumerate(levels)))
    parts.append(polyline(frame, curve))
    for at, (words, percent) in enumerate(levels):
        parts.append(dot(frame, at, percent, curve, f"{words}: {percent:.1f} %"))
        parts.append(text(frame.x(at), frame.bottom + 17, words, "middle"))
    parts.append(text((_LEFT + frame.right) / 2, frame.bottom + 35, name, "middle", "name"))
    return svg("mAP at every level", parts, *size)


def bar(value: float, *, most: float = 100.0, signed: bool = False) -> str:
    """Draw a small bar for a cell of a table; a signed one goes left or right from the middle."""
    share = max(-1.0, min(1.0, value / most)) if most else 0.0
    start, wide = (50 + 50 * min(0.0, share), 50 * abs(share)) if signed else (0.0, 100 * max(0.0, share))
    role = "a" if signed and value < 0 else "b" if signed else "bar"
    middle = '<path class="axis" d="M50 0v10"/>' if signed else ""
    return (
        '<svg class="mini" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="10"/>{rect(start, 0, wide, 10, role)}{middle}</svg>'
    )


def interval(value: float, low: float, high: float) -> str:
    """Draw a mean as a bar from 0 to 100 percent whose end fades over its interval."""
    return (
        '<svg class="mini" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" y="2" width="100" height="6"/>{rect(0, 2, low, 6, "bar")}'
        f"{rect(low, 2, high - low, 6, 'band')}{rect(value - 0.4, 0, 0.8, 10, 'tip')}</svg>"
    )


def safe(text: str) -> str:
    """Escape a text for HTML and SVG."""
    return escape(printable(text))


def svg(name: str, parts: Sequence[str], width: float = _WIDTH, height: float = _HEIGHT) -> str:
    """Put the parts of a plot together; sizes in pixels."""
    head = f'<svg class="plot" viewBox="0 0 {px(width)} {px(height)}" role="img" aria-label="{name}">'
    return "\n".join((head, *parts, "</svg>"))


def polyline(frame: Frame, curve: Curve) -> str:
    """Draw a curve within the axes."""
    points = " ".join(f"{px(frame.x(x))},{px(frame.y(y))}" for x, y in curve.points)
    return f'<polyline class="curve {curve.role}" points="{points}"/>'


def legend(frame: Frame, curves: Sequence[Curve], *, right: bool = False) -> list[str]:
    """Name the curves, if they have names, in a lower corner: such curves keep to the top."""
    parts = []
    named = [curve for curve in curves if curve.name]
    for at, curve in enumerate(named):
        y = frame.bottom - 16 - 20 * (len(named) - 1 - at)
        x = frame.right - 64 if right else _LEFT + 14
        sample = f"{px(x)},{px(y)} {px(x + 30)},{px(y)}"
        parts.append(f'<polyline class="curve {curve.role}" points="{sample}"/>')
        parts.append(text(x + 38, y + 4, curve.name, "start", f"strong {curve.role}"))
    return parts


def dot(frame: Frame, x: float, y: float, curve: Curve, said: str) -> str:
    """Mark a value of a curve; the pointer on it reads what is said."""
    title = safe(f"{curve.name}, {said}" if curve.name else said)
    return (
        f'<circle class="dot {curve.role}" cx="{px(frame.x(x))}" cy="{px(frame.y(y))}" r="4">'
        f"<title>{title}</title></circle>"
    )


def rect(x: float, y: float, width: float, height: float, role: str) -> str:
    """Draw a rectangle, in pixels; the role is its class in the style sheet."""
    return f'<rect class="{role}" x="{px(x)}" y="{px(y)}" width="{px(width)}" height="{px(height)}"/>'


def line(x_1: float, y_1: float, x_2: float, y_2: float, role: str) -> str:
    """Draw a straight line, in pixels."""
    return f'<line class="{role}" x1="{px(x_1)}" y1="{px(y_1)}" x2="{px(x_2)}" y2="{px(y_2)}"/>'


def text(x: float, y: float, words: str, anchor: str, role: str = "tick") -> str:
    """Write words at a place in pixels; the anchor is start, middle or end."""
    return f'<text class="{role}" x="{px(x)}" y="{px(y)}" text-anchor="{anchor}">{safe(words)}</text>'


def _count(n: int) -> str:
    return f"{n:,} {'query' if n == 1 else 'queries'}"


def px(value: float) -> str:
    """Write a length to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
