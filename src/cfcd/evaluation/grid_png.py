"""Write a result grid as one PNG, with Pillow and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from cfcd.evaluation.cells import (
    QUERY,
    RIGHT,
    UNKNOWN,
    WRONG,
    GridCell,
    GridRow,
    kind_of,
    kinds_in,
    thumbnail,
)
from cfcd.files import write_png
from cfcd.lettering import font, one_line, wrapped, write

_COLOURS = {QUERY: "#1f6feb", RIGHT: "#1a7f37", WRONG: "#cf222e", UNKNOWN: "#8c959f"}
_SAID = {QUERY: "query", RIGHT: "right", WRONG: "wrong", UNKNOWN: "no label to judge by"}
_MARKS = {RIGHT: (((7, 12.5), (10.4, 15.9), (17, 8.8)),), WRONG: (((8, 8), (16, 16)), ((16, 8), (8, 16)))}
_PAGE, _TILE, _INK, _SOFT, _LINE = "#ffffff", "#eceef1", "#1c2128", "#5b6572", "#dfe3e8"
_HITS_A_LINE = 10
_FINER = 4  # marks are drawn this much larger, then shrunk, for smooth edges


def write_grid_png(
    rows: Sequence[GridRow], path: Path, *, title: str, subtitle: str = "", thumb: int = 160
) -> None:
    """Write queries at the left and their hits beside them, framed by right and wrong, as one picture.

    Captions are shortened to fit. A picture that cannot be read becomes a grey tile with the reason.

    Args:
        rows: One row per query.
        path: The file to write; it appears whole or not at all, and missing folders are made.
        title: Heading of the picture.
        subtitle: A line below it.
        thumb: Side of the square each picture is fitted into, in pixels.
    """
    write_png(_Sheet(rows, thumb).draw(title, subtitle), path)


@dataclass(frozen=True)
class _Sizes:
    """Hold every length in pixels, all in proportion to the thumbnails."""

    thumb: int

    def __call__(self, at_160: float) -> int:
        return max(1, round(at_160 * self.thumb / 160))


class _Sheet:
    def __init__(self, rows: Sequence[GridRow], thumb: int) -> None:
        self.rows, self.thumb = rows, thumb
        self.px = _Sizes(thumb)
        self.frame, self.gap, self.margin, self.apart = self.px(4), self.px(14), self.px(28), self.px(44)
        self.cell = thumb + 2 * self.frame
        self.small, self.text = font(self.px(13)), font(self.px(15))
        most = max((len(row.hits) for row in rows), default=0)
        # Wide enough for title and legend when there are few hits.
        hits = min(max(most, 3), _HITS_A_LINE) * (self.cell + self.gap) - self.gap
        self.width = 2 * self.margin + self.cell + self.apart + hits
        self.line = self.cell + self.px(48) + self.px(18)

    def draw(self, title: str, subtitle: str) -> Image.Image:
        top = self.margin + self.px(40) + (self.px(24) if subtitle else 0) + self.px(44)
        heights = [max(1, math.ceil(len(row.hits) / _HITS_A_LINE)) * self.line for row in self.rows]
        height = top + (sum(heights) or self.line) + self.margin
        self.image = Image.new("RGB", (self.width, height), _PAGE)
        self.pen = ImageDraw.Draw(self.image)
        self._head(title, subtitle)
        if not self.rows:
            write(self.pen, (self.margin, top), "No queries to show.", self.text, _SOFT, self.width)
        for row, its_height in zip(self.rows, heights, strict=True):
            self._row(row, top, its_height)
            top += its_height
        return self.image

    def _head(self, title: str, subtitle: str) -> None:
        room = self.width - 2 * self.margin
        y = self.margin
        write(self.pen, (self.margin, y), title, font(self.px(28)), _INK, room)
        y += self.px(40)
        if subtitle:
            write(self.pen, (self.margin, y), subtitle, self.text, _SOFT, room)
            y += self.px(24)
        x, side = self.margin, self.px(20)
        for kind in kinds_in(self.rows) if self.rows else []:
            corner = (x, y + self.px(2), x + side - 1, y + self.px(2) + side - 1)
            self.pen.rectangle(corner, _TILE, _COLOURS[kind], width=max(2, self.px(3)))
            self._badge(kind, x + side // 2, y + self.px(2) + side // 2, self.px(18))
            x += side + self.px(8)
            write(self.pen, (x, y + self.px(4)), _SAID[kind], self.text, _SOFT, room)
            x += round(self.text.getlength(_SAID[kind])) + self.px(24)

    def _row(self, row: GridRow, y: int, height: int) -> None:
        x = self.margin
        first = " \N{MIDDLE DOT} ".join(filter(None, (row.note, row.tally))) or "query"
        self._cell(row.query, QUERY, x, y, first=first, second=row.query.caption)
        rule = x + self.cell + self.apart // 2
        self.pen.line((rule, y, rule, y + height - self.px(18) - 1), fill=_LINE, width=max(1, self.px(1)))
        x += self.cell + self.apart
        if not row.hits:
            write(self.pen, (x, y), "no hits", self.text, _SOFT, self.cell)
        for i, hit in enumerate(row.hits):
            line, column = divmod(i, _HITS_A_LINE)
            at = (x + column * (self.cell + self.gap), y + line * self.line)
            score = "" if hit.score is None else f"{hit.score:.3f}"
            self._cell(hit, kind_of(hit), *at, first=score, second=hit.caption)

    def _cell(self, cell: GridCell, kind: str, x: int, y: int, *, first: str, second: str) -> None:
        edge = self.cell - 1
        width = self.px(2) if kind == UNKNOWN else self.frame
        self.pen.rectangle((x, y, x + edge, y + edge), _TILE, _COLOURS[kind], width=width)
        made = thumbnail(cell, self.thumb)
        if isinstance(made, str):
            self._reason(made, x + self.frame, y + self.frame)
        else:
            left = x + (self.cell - made.width) // 2
            self.image.paste(made, (left, y + (self.cell - made.height) // 2))
        self._badge(kind, x + self.px(8), y + self.px(8), self.px(26))
        below = y + self.cell + self.px(5)
        if first:
            write(self.pen, (x, below), first, self.text, _INK, self.cell)
            below += self.px(20)
        write(self.pen, (x, below), second, self.small, _SOFT, self.cell)

    def _reason(self, reason: str, x: int, y: int) -> None:
        inset, line = self.px(10), self.px(17)
        room = self.thumb - 2 * inset
        lines = wrapped(one_line(reason), self.small, room)[: max(1, (self.thumb - 2 * inset) // line)]
        top = y + (self.thumb - len(lines) * line) // 2
        for i, words in enumerate(lines):
            write(self.pen, (x + inset, top + i * line), words, self.small, _SOFT, room)

    def _badge(self, kind: str, x: int, y: int, side: int) -> None:
        """Draw a tick or a cross in a disc centred on (x, y)."""
        if kind not in _MARKS:
            return
        unit = side * _FINER / 24
        disc = Image.new("RGBA", (side * _FINER, side * _FINER), (255, 255, 255, 0))
        pen = ImageDraw.Draw(disc)
        pen.ellipse((0, 0, 24 * unit - 1, 24 * unit - 1), "white")
        pen.ellipse((1.6 * unit, 1.6 * unit, 22.4 * unit - 1, 22.4 * unit - 1), _COLOURS[kind])
        for stroke in _MARKS[kind]:
            points = [(a * unit, b * unit) for a, b in stroke]
            pen.line(points, "white", width=round(2.6 * unit), joint="curve")
            for a, b in points:
                r = 1.3 * unit
                pen.ellipse((a - r, b - r, a + r, b + r), "white")
        disc = disc.resize((side, side), Image.Resampling.LANCZOS)
        self.image.paste(disc, (x - side // 2, y - side // 2), disc)
