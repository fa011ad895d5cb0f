"""Lines between points of two pictures on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

Point = tuple[float, float]

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's colours, told apart by colour-blind people too; their black is lost on photos."""

THIN = 0.65
"""Size of a line that others stand out from."""

_FINER = 3  # drawn this much larger, then shrunk, for smooth edges
_SEGMENTS = 32  # of a line
_BOW = 22  # pixels; straight lines between pictures side by side would hide each other
_END = 8  # pixels around a point that its line and dot stay within


class Line(NamedTuple):
    """Join two points, (x, y) pixels of the page.

    Attributes:
        start: One end.
        stop: The other.
        size: Of stroke and ends.
        bow: Pixels it bends down half-way; None: otherwise than its neighbours.
    """

    start: Point
    stop: Point
    size: float = 1.0
    bow: float | None = None


def draw_lines(page: Image.Image, wanted: Sequence[Line]) -> None:
    """Draw lines with a dot at both ends, large ones over the others; neighbouring ones differ in colour."""
    if not wanted:
        return
    curves = []
    for number, line in enumerate(sorted(wanted, key=lambda line: (line.start[1], line.start[0]))):
        bow = _BOW * ((number % 5) - 2) / 2 if line.bow is None else line.bow
        curves.append((_curve(line, bow), COLOURS[number % len(COLOURS)], line.size * _FINER))
    curves.sort(key=lambda curve: curve[2])
    # Only the part of the page that lines cross is drawn finer.
    points = [point for curve, _, _ in curves for point in curve]
    left, upper = (int(max(0, min(point[i] for point in points) - _END)) for i in (0, 1))
    right, lower = (int(max(point[i] for point in points) + _END) for i in (0, 1))
    lines = Image.new("RGBA", ((right - left) * _FINER, (lower - upper) * _FINER))
    pen = ImageDraw.Draw(lines)
    finer = [
        ([((x - left) * _FINER, (y - upper) * _FINER) for x, y in curve], colour, size)
        for curve, colour, size in curves
    ]
    for curve, colour, size in finer:
        # The translucent rim keeps a line apart from the photo and from lines it crosses.
        pen.line(curve, (255, 255, 255, 150), width=round(4.4 * size), joint="curve")
        pen.line(curve, colour, width=round(2.2 * size), joint="curve")
    for curve, colour, size in finer:
        for x, y in (curve[0], curve[-1]):
            for radius, fill in ((6.5 * size, "#ffffff"), (4.8 * size, colour)):
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill)
    lines = lines.resize((right - left, lower - upper), Image.Resampling.BOX)
    page.paste(lines, (left, upper), lines)


def _curve(line: Line, bow: float) -> list[Point]:
    (x0, y0), (x1, y1) = line.start, line.stop
    parts = [i / _SEGMENTS for i in range(_SEGMENTS + 1)]
    return [(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t + 4 * bow * t * (1 - t)) for t in parts]
