"""Draw which positions of an anchor and its positive were accepted as pairs, with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from cfcd.errors import UsageError
from cfcd.explaining.lines import Line, Point, draw_lines
from cfcd.files import write_png
from cfcd.lettering import font, write
from cfcd.pictures import rescaled

Cell = tuple[int, int]

SIDE = 400
"""Longer side of a drawn picture, in pixels."""

_PAGE, _INK, _SOFT = "#ffffff", "#1c2128", "#5b6572"
_MARGIN, _GAP, _HEAD, _CAPTION, _APART = 28, 24, 100, 30, 24  # pixels
_BOW = 64  # pixels by which lines from the first and the last column of the anchor are apart half-way
_ROOM = 20  # pixels above and below the pictures, into which the lines of the outermost cells bend
_MANY = 40  # pairs from which lines get thinner
_LEGEND = (
    "Left: anchor. Right: positive. Lines join the positions whose local descriptors were accepted as pairs."
)


@dataclass(frozen=True)
class MatchedPair:
    """Hold an anchor, its positive, and the pairs of positions accepted between them.

    Attributes:
        anchor: Picture as the network saw it, or its original if uncropped.
        positive: Likewise.
        pairs: ((row, column) in the anchor's map, (row, column) in the positive's map), each counted from 0.
        grid: (h, w) of both maps.
        label: Class of the two.
        note: Anything to say of them.

    Raises:
        UsageError: if a pair is not in the grid.
    """

    anchor: Image.Image
    positive: Image.Image
    pairs: Sequence[tuple[Cell, Cell]]
    grid: tuple[int, int]
    label: str
    note: str = ""

    def __post_init__(self) -> None:
        height, width = self.grid
        for row, column in (cell for pair in self.pairs for cell in pair):
            if not (0 <= row < height and 0 <= column < width):
                raise UsageError(
                    f"Position ({row}, {column}) of {self.label!r} is not in its map of {height} x {width}.",
                    "Give pairs of (row, column), counted from 0, and the map's height and width.",
                )


def draw_matches(tuples: Sequence[MatchedPair], path: Path, *, title: str) -> Path:
    """Draw each anchor beside its positive, with a line for each accepted pair, and return the path.

    Args:
        tuples: One row each, from top to bottom.
        path: PNG to write, whole or not at all; missing folders are made.
        title: Heading.
    """
    width = 2 * _MARGIN + 2 * SIDE + _GAP
    rows = [_row(pair) for pair in tuples]
    heights = [_CAPTION + row.height - 2 * _ROOM + _APART for row in rows]
    height = _HEAD + (sum(heights) or _CAPTION) + _APART
    page = Image.new("RGB", (width, height), _PAGE)
    pen, room = ImageDraw.Draw(page), width - 2 * _MARGIN
    write(pen, (_MARGIN, 24), title, font(24), _INK, room)
    write(pen, (_MARGIN, 60), _LEGEND, font(14), _SOFT, room)
    if not rows:
        write(pen, (_MARGIN, _HEAD), "No tuples to show.", font(15), _SOFT, room)
    top = _HEAD
    for pair, row, its_height in zip(tuples, rows, heights, strict=True):
        page.paste(row, (_MARGIN, top + _CAPTION - _ROOM))
        _caption(pen, pair, top)
        top += its_height
    return write_png(page, path)


def _caption(pen: ImageDraw.ImageDraw, pair: MatchedPair, top: int) -> None:
    count = len(pair.pairs)
    said = {0: "no pair accepted", 1: "1 pair"}.get(count, f"{count} pairs")
    if pair.note:
        said = f"{said} \N{MIDDLE DOT} {pair.note}"
    write(pen, (_MARGIN, top), pair.label, font(16), _INK, SIDE)
    write(pen, (_MARGIN + SIDE + _GAP, top + 1), said, font(15), _SOFT, SIDE)


def _row(pair: MatchedPair) -> Image.Image:
    """Draw both pictures and the lines between them."""
    pictures = [_fitted(pair.anchor), _fitted(pair.positive)]
    height = max(picture.height for picture in pictures)
    row = Image.new("RGB", (2 * SIDE + _GAP, height + 2 * _ROOM), _PAGE)
    corners = []
    for i, picture in enumerate(pictures):
        corner = (i * (SIDE + _GAP) + (SIDE - picture.width) // 2, _ROOM + (height - picture.height) // 2)
        row.paste(picture, corner)
        corners.append(corner)
    size = 0.6 if len(pair.pairs) > _MANY else 0.85
    lines = []
    for cells in sorted(pair.pairs):
        start, stop = (_centre(cells[i], pair.grid, pictures[i], corners[i]) for i in (0, 1))
        # Bent by its column: straight lines within a row of the map would hide each other.
        lines.append(Line(start, stop, size, _BOW * ((cells[0][1] + 0.5) / pair.grid[1] - 0.5)))
    draw_lines(row, lines)
    return row


def _centre(cell: Cell, grid: tuple[int, int], picture: Image.Image, corner: Cell) -> Point:
    """Give the centre (x, y), in pixels of the row, of a cell of the map over a picture."""
    x = corner[0] + (cell[1] + 0.5) / grid[1] * picture.width
    y = corner[1] + (cell[0] + 0.5) / grid[0] * picture.height
    return x, y


def _fitted(picture: Image.Image) -> Image.Image:
    return rescaled(picture.convert("RGB"), SIDE / max(picture.size), reducing_gap=3)
