"""Write a result grid as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from PIL import Image

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
from cfcd.files import atomic_write

_TICK = '<path d="M7 12.5l3.4 3.4L17 8.8"/>'
_CROSS = '<path d="M8 8l8 8M16 8l-8 8"/>'
_MARKS = {RIGHT: _TICK, WRONG: _CROSS}
_SAID = {QUERY: "query", RIGHT: "right", WRONG: "wrong", UNKNOWN: "no label to judge by"}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the page may fetch nothing
_BADGE = '<svg class="badge" viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="11"/>{}</svg>'
GRID_CSS = "grid.css"
# File names may hold what no page may, such as NUL.
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), 127), "\N{REPLACEMENT CHARACTER}")
_JPEG_QUALITY = 85
_PIXELS_PER_POINT = 1.5  # between ordinary and high-density screens


def write_grid_html(
    rows: Sequence[GridRow], path: Path, *, title: str, subtitle: str = "", thumb: int = 200
) -> None:
    """Write queries and their hits as a self-contained page for light and dark screens of any width.

    Pictures are embedded as JPEG thumbnails. A picture that cannot be read becomes a tile with the reason.

    Args:
        rows: One row per query.
        path: The file to write; it appears whole or not at all, and missing folders are made.
        title: Heading of the page.
        subtitle: A line below it.
        thumb: Largest side of a thumbnail on the page, in CSS pixels.
    """
    body = f"""<header>
<h1>{escape(title)}</h1>
{f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""}
{legend_html(rows)}
</header>
<main>
{rows_html(rows, thumb) or "<p>No queries to show.</p>"}
</main>"""
    write_html(path, title, (GRID_CSS,), body, thumb)


def legend_html(rows: Sequence[GridRow]) -> str:
    """Explain the frames that occur in rows."""
    legend = "".join(_legend(kind) for kind in kinds_in(rows)) if rows else ""
    return f'<ul class="legend" aria-label="Legend">{legend}</ul>'


def rows_html(rows: Sequence[GridRow], thumb: int = 200, prefix: str = "q") -> str:
    """Turn rows into HTML for a page with the style sheet `GRID_CSS`.

    Args:
        rows: One row per query.
        thumb: Largest side of a thumbnail on the page, in CSS pixels.
        prefix: Start of the headings' ids, another one for each grid of a page.
    """
    page = _Page(thumb, prefix)
    return "\n".join(page.row(i, row) for i, row in enumerate(rows, start=1))


def write_html(path: Path, title: str, style_sheets: Sequence[str], body: str, thumb: int = 200) -> None:
    """Write a page that needs nothing else; it appears whole or not at all.

    Args:
        path: The file to write; missing folders are made.
        title: Name of the page, any text.
        style_sheets: Files of this package, in order.
        body: HTML whose texts are escaped already.
        thumb: Largest side of a thumbnail, in CSS pixels.
    """
    here = files("cfcd.evaluation")
    css = "".join(here.joinpath(name).read_text(encoding="utf-8") for name in style_sheets)
    document = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="cfcd">
<title>{escape(title)}</title>
<style>
:root {{ --thumb: {int(thumb)}px; }}
{css}</style>
</head>
<body>
{body}
</body>
</html>
"""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(document.translate(_CONTROLS).encode("utf-8", errors="replace"))


class _Page:
    """Turn rows into HTML, making each thumbnail once even if its picture occurs in many rows."""

    def __init__(self, thumb: int, prefix: str) -> None:
        self.thumb, self.prefix = thumb, prefix
        self._made: dict[object, bytes | str] = {}  # JPEG bytes, or why there is no picture

    def row(self, number: int, row: GridRow) -> str:
        note = f'<span class="note">{escape(row.note)}</span>' if row.note else ""
        tally = f'<span class="tally">{escape(row.tally)}</span>' if row.tally else ""
        hits = "".join(
            f"<li>{self.figure(hit, kind_of(hit), f'Hit {rank}')}</li>"
            for rank, hit in enumerate(row.hits, start=1)
        )
        return f"""<section class="row" aria-labelledby="{self.prefix}{number}">
<header><h2 id="{self.prefix}{number}">{escape(row.query.caption)}</h2>{note}{tally}</header>
{self.figure(row.query, QUERY, "Query")}
{f'<ol class="hits">{hits}</ol>' if hits else '<p class="tally">no hits</p>'}
</section>"""

    def figure(self, cell: GridCell, kind: str, role: str) -> str:
        caption = escape(cell.caption)
        score = "" if cell.score is None else f"{cell.score:.3f}"
        spoken = f"{role}: {caption}"
        if score:
            spoken += f", score {score}"
        if kind != QUERY:
            spoken += f", {_SAID[kind]}"
        badge = _BADGE.format(_MARKS[kind]) if kind in _MARKS else ""
        shown = "query" if kind == QUERY else caption  # a query's caption is its row's heading
        number = f'<span class="score">{score}</span>' if score else ""
        return (
            f'<figure class="{kind}" title="{caption}">'
            f'<div class="tile">{self._picture(cell, spoken)}</div>{badge}'
            f'<figcaption>{number}<span class="caption">{shown}</span></figcaption></figure>'
        )

    def _picture(self, cell: GridCell, spoken: str) -> str:
        key = (cell.picture if isinstance(cell.picture, Path) else id(cell.picture), cell.box)
        if key not in self._made:
            made = thumbnail(cell, round(self.thumb * _PIXELS_PER_POINT))
            self._made[key] = made if isinstance(made, str) else _jpeg(made)
        found = self._made[key]
        if isinstance(found, str):
            return f'<div class="reason" role="img" aria-label="{spoken}">{escape(found)}</div>'
        source = "data:image/jpeg;base64," + base64.b64encode(found).decode("ascii")
        return f'<img src="{source}" alt="{spoken}" decoding="async">'


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True, progressive=True)
    return buffer.getvalue()


def _legend(kind: str) -> str:
    mark = f'<svg viewBox="0 0 24 24">{_MARKS[kind]}</svg>' if kind in _MARKS else ""
    return f'<li><span class="swatch {kind}" aria-hidden="true">{mark}</span>{_SAID[kind]}</li>'
