"""Draw an explanation: where a score comes from, and which places are alike, with Pillow alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from cfcd.explaining.heat import coloured, outline, ramp
from cfcd.explaining.lines import THIN, Line, Point, draw_lines
from cfcd.files import write_png
from cfcd.lettering import font, write
from cfcd.pictures import load_picture, rescaled

if TYPE_CHECKING:
    from cfcd.explaining.explanation import Explanation, Regions
    from cfcd.pictures import PictureSource

SIDE = 480
"""Longer side of a drawn picture, in pixels."""
PART = 0.5
"""Which part of the score the outlined region holds."""
MOST_LINES = 30

_PAGE, _INK, _SOFT = "#ffffff", "#1c2128", "#5b6572"
_MARGIN, _GAP, _BAR = 28, 28, 180  # pixels
_DIMMED = 0.3  # of its light is left to what lies outside a box


@dataclass(frozen=True)
class _Panel:
    """Hold one picture, drawn small, and what was found in it."""

    name: str
    picture: Image.Image
    regions: Regions
    left: int

    @property
    def scale(self) -> tuple[float, float]:
        """Give drawn pixels per pixel of the upright picture, across and down."""
        width, height = self.regions.size
        return self.picture.width / width, self.picture.height / height

    @property
    def area(self) -> tuple[int, int, int, int]:
        """Give what the shares cover, in drawn pixels."""
        x1, y1, x2, y2 = self.regions.area
        across, down = self.scale
        left, upper = int(x1 * across), int(y1 * down)
        return left, upper, max(left + 1, round(x2 * across)), max(upper + 1, round(y2 * down))

    def at(self, point: Point, top: int) -> Point:
        """Give the place on the page of a point (x, y) of the upright picture."""
        across, down = self.scale
        return self.left + point[0] * across, top + point[1] * down

    def dimmed(self) -> Image.Image:
        """Darken what lies outside the box."""
        out = self.picture.point(lambda value: int(value * _DIMMED))
        out.paste(self.picture.crop(self.area), self.area)
        return out

    def hot(self, score: float, most: float) -> Image.Image:
        """Colour the shares, the greatest of them as the score is, and outline the strongest."""
        out, inside = self.dimmed(), self.picture.crop(self.area)
        values = np.clip(self.regions.shares / most, 0, 1) * score
        out.paste(outline(coloured(inside, values), self.regions.strongest(PART)), self.area)
        return out


def draw_explanation(
    explanation: Explanation,
    query: PictureSource,
    hit: PictureSource,
    path: Path,
    *,
    names: tuple[str, str] = ("query", "hit"),
) -> Path:
    """Draw both pictures side by side: with the shares of their regions, and with lines between matches.

    Where the greatest share lies, the colour is that of the score on a scale from 0 to 1, so that pictures
    that do not match stay dark.

    Args:
        explanation: Of these two pictures.
        query: As it was explained.
        hit: Likewise.
        path: PNG to write, whole or not at all; missing folders are made.
        names: Of query and hit.

    Returns:
        The path.
    """
    panels = [
        _Panel(name, _fitted(source), regions, _MARGIN + i * (SIDE + _GAP))
        for i, (name, source, regions) in enumerate(
            zip(names, (query, hit), (explanation.query, explanation.hit), strict=True)
        )
    ]
    height = max(panel.picture.height for panel in panels)
    width = 2 * _MARGIN + 2 * SIDE + _GAP
    upper, lower = 132, 132 + height + 84
    page = Image.new("RGB", (width, lower + height + _MARGIN), _PAGE)
    pen = ImageDraw.Draw(page)
    score, room = explanation.score, width - 2 * _MARGIN
    write(pen, (_MARGIN, 22), f"Score {score:.3f}", font(26), _INK, SIDE)
    _draw_scale(page, (width - _MARGIN - _BAR - 14, 28), score)
    write(pen, (_MARGIN, 74), "Where the score comes from", font(18), _INK, room)
    most = max(1e-12, *(float(panel.regions.shares.max()) for panel in panels))
    for panel in panels:
        write(pen, (panel.left, upper - 26), panel.name, font(15), _SOFT, SIDE)
        page.paste(panel.hot(max(0.0, min(1.0, score)), most), (panel.left, upper))
        said = say_regions(panel.regions)
        write(pen, (panel.left, upper + panel.picture.height + 8), said, font(15), _INK, SIDE)
        page.paste(panel.dimmed(), (panel.left, lower))
    write(pen, (_MARGIN, lower - 34), say_matches(explanation), font(18), _INK, room)
    lines = [
        Line(
            panels[0].at(match.query, lower),
            panels[1].at(match.hit, lower),
            1.0 if match.distinct else THIN,
        )
        for match in explanation.matches[:MOST_LINES]
    ]
    draw_lines(page, lines)
    return write_png(page, path)


def say_regions(regions: Regions) -> str:
    """Say how little of a picture makes up half of the score."""
    if not regions.decided:
        fors, against = regions.shares.sum() - regions.against, regions.against
        return f"Regions for (+{fors:.2f}) and against ({against:.2f}) a match nearly cancel out."
    whole = "box" if regions.boxed else "picture"
    marked = 100 * regions.strongest(PART).mean()
    return f"Half of the score comes from the outlined {marked:.0f} % of the {whole}."


def say_matches(explanation: Explanation) -> str:
    """Say how many places were found alike."""
    count = len(explanation.matches)
    if count == 0:
        return "No place in one picture is most like a place in the other"
    said = "1 pair of places is" if count == 1 else f"{count} pairs of places are"
    said += " each other's most alike"
    if distinct := sum(match.distinct for match in explanation.matches):
        said += f", {distinct} of them distinctly (bold)"
    else:
        said += ", none distinctly"
    return f"{said}; {MOST_LINES} are drawn" if count > MOST_LINES else said


def _fitted(source: PictureSource) -> Image.Image:
    picture = load_picture(source, long_side=SIDE, allow_truncated=True)
    return rescaled(picture, SIDE / max(picture.size), reducing_gap=3)


def _draw_scale(page: Image.Image, at: tuple[int, int], score: float) -> None:
    """Draw the scale of colours from 0 to 1 with the score marked."""
    x, y = at
    bar = np.broadcast_to(ramp(np.linspace(0, 1, _BAR)), (14, _BAR, 3))
    page.paste(Image.fromarray(np.rint(bar).astype(np.uint8)), at)
    pen = ImageDraw.Draw(page)
    place = x + max(0.0, min(1.0, score)) * (_BAR - 1)
    pen.polygon([(place, y + 16), (place - 6, y + 25), (place + 6, y + 25)], fill=_INK)
    write(pen, (x - 16, y - 2), "0", font(14), _SOFT, 20)
    write(pen, (x + _BAR + 6, y - 2), "1", font(14), _SOFT, 20)
    said = "brightest place = the score"
    write(pen, (x + (_BAR - int(font(12).getlength(said))) // 2, y + 28), said, font(12), _SOFT, _BAR + 40)
