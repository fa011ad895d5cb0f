"""Lines between points of two pictures on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

Point = tuple[float, float]

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's colours, told apart by colour-blind people too; their black is lost on photos."""

_FINER = 3  # drawn this much larger, then shrunk, for smooth edges
_SEGMENTS = 32  # of a line
_BOW = 22  # pixels; straight lines between pictures side by side would hide each other


class Line(NamedTuple):
    """Join two points, (x, y) pixels of the page; a bold line is thicker and has larger ends."""

    start: Point
    stop: Point
    bold: bool = True


def draw_lines(page: Image.Image, wanted: Sequence[Line]) -> None:
    """Draw lines with a dot at both ends, bold ones over the others.

    Neighbouring lines differ in colour, and bend differently.
    """
    if not wanted:
        return
    points = [point for line in wanted for point in (line.start, line.stop)]
    # Only the part of the page that lines cross is drawn finer.
    left, upper = (int(max(0, min(point[i] for point in points) - _BOW - 8)) for i in (0, 1))
    right, lower = (int(max(point[i] for point in points) + _BOW + 8) for i in (0, 1))
    lines = Image.new("RGBA", ((right - left) * _FINER, (lower - upper) * _FINER))
    pen = ImageDraw.Draw(lines)
    curves = []
    for number, line in enumerate(sorted(wanted, key=lambda line: (line.start[1], line.start[0]))):
        start, stop = ((x - left, y - upper) for x, y in (line.start, line.stop))
        curve = _curve(start, stop, _BOW * ((number % 5) - 2) / 2)
        curves.append((curve, COLOURS[number % len(COLOURS)], 1.0 if line.bold else 0.65))
    curves.sort(key=lambda curve: curve[2])
    for curve, colour, size in curves:
        # The translucent rim keeps a line apart from the photo and from lines it crosses.
        pen.line(curve, (255, 255, 255, 150), width=round(4.4 * size * _FINER), joint="curve")
        pen.line(curve, colour, width=round(2.2 * size * _FINER), joint="curve")
    for curve, colour, size in curves:
        for x, y in (curve[0], curve[-1]):
            for radius, fill in ((6.5, "#ffffff"), (4.8, colour)):
                r = radius * size * _FINER
                pen.ellipse((x - r, y - r, x + r, y + r), fill)
    lines = lines.resize((right - left, lower - upper), Image.Resampling.BOX)
    page.paste(lines, (left, upper), lines)


def _curve(start: Point, stop: Point, bow: float) -> list[Point]:
    """Bend a line down by `bow` pixels half-way."""
    (x0, y0), (x1, y1) = start, stop
    parts = [i / _SEGMENTS for i in range(_SEGMENTS + 1)]
    return [
        ((x0 + (x1 - x0) * t) * _FINER, (y0 + (y1 - y0) * t + 4 * bow * t * (1 - t)) * _FINER) for t in parts
    ]
