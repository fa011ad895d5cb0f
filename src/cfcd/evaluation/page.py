"""A report as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from cfcd.evaluation import plots
from cfcd.evaluation.document import (
    Bar,
    Cell,
    Document,
    Facts,
    Figure,
    Figures,
    Grid,
    Part,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
)
from cfcd.evaluation.grid_html import GRID_CSS, legend_html, rows_html, write_html
from cfcd.evaluation.plots import safe

_PAGE_CSS = "page.css"
_TEXT = ' class="text"'


def write_page(document: Document, path: Path) -> None:
    """Write a report for light and dark screens of any width.

    Args:
        document: The report.
        path: The file to write; it appears whole or not at all, and missing folders are made.
    """
    grids = count(1)
    sections = "\n".join(_section(section, grids) for section in document.sections)
    body = f"""<header>
<h1>{safe(document.title)}</h1>
<p class="subtitle">{safe(document.subtitle)}</p>
</header>
<main class="report">
{sections}
</main>"""
    write_html(path, document.title, (GRID_CSS, _PAGE_CSS), body)


def _section(section: Section, grids: count[int]) -> str:
    heading = f"<h2>{safe(section.title)}</h2>\n" if section.title else ""
    # A grid brings cards of its own.
    framed = not any(isinstance(part, Grid | Tiles) for part in section.parts)
    body = "\n".join(_part(part, grids) for part in section.parts)
    return f'<section class="{"card" if framed else "bare"}">\n{heading}{body}\n</section>'


def _part(part: Part, grids: count[int]) -> str:
    if isinstance(part, Grid):
        return legend_html(part.rows) + "\n" + rows_html(part.rows, prefix=f"g{next(grids)}-")
    return _MAKERS[type(part)](part)


def _tiles(part: Tiles) -> str:
    return f'<div class="tiles">{"".join(_tile(tile) for tile in part.tiles)}</div>'


def _tile(tile: Tile) -> str:
    value = f'<span class="value">{tile.value:.1f}<small>%</small></span>'
    body = f'<span class="measure">{safe(tile.name)}</span>{value}'
    if tile.low is None or tile.high is None:
        return f'<div class="summary">{body}</div>'
    ends = f'<span class="ends">95 %: {tile.low:.1f} to {tile.high:.1f}</span>'
    return f'<div class="summary">{body}{plots.interval(tile.value, tile.low, tile.high)}{ends}</div>'


def _table(part: Table) -> str:
    # The scale of signed bars is the largest change, or small changes would not be seen.
    signed = [abs(c.value) for row in part.rows for c in row if isinstance(c, Bar) and c.signed]
    most = max(signed, default=0.0)
    heads = "".join(
        f'<th scope="col"{_TEXT if at < part.texts else ""}>{safe(name)}</th>'
        for at, name in enumerate(part.columns)
    )
    rows = "\n".join(
        f"<tr>{''.join(_cell(cell, most, text=at < part.texts) for at, cell in enumerate(row))}</tr>"
        for row in part.rows
    )
    note = f'<p class="remark">{safe(part.note)}</p>' if part.note else ""
    table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return f'<div class="scroll">{table}</div>{note}'


def _cell(cell: Cell, most: float, *, text: bool) -> str:
    if isinstance(cell, str):
        return f"<td{_TEXT if text else ''}>{safe(cell)}</td>"
    drawn = plots.bar(cell.value, most=most if cell.signed else 100.0, signed=cell.signed)
    return f'<td class="barred">{drawn}<span>{cell}</span></td>'


def _figures(part: Figures) -> str:
    return f'<div class="plots">{"".join(_figure(figure) for figure in part.figures)}</div>'


def _figure(figure: Figure) -> str:
    data = f"<details><summary>in figures</summary>{_table(figure.data)}</details>"
    return f"""<figure class="{figure.shape}">
<h3>{safe(figure.title)}</h3>
<div class="scroll">{figure.svg}</div>
<figcaption>{safe(f"{figure.note} {figure.hint}".rstrip())}{data}</figcaption>
</figure>"""


def _facts(part: Facts) -> str:
    rows = "".join(f"<dt>{safe(name)}</dt><dd>{safe(value)}</dd>" for name, value in part.rows)
    return f"<dl>{rows}</dl>"


def _text(part: Text) -> str:
    return "".join(f"<p>{safe(paragraph)}</p>" for paragraph in part.paragraphs)


_MAKERS: dict[type, Callable[[Any], str]] = {
    Tiles: _tiles,
    Table: _table,
    Figures: _figures,
    Facts: _facts,
    Text: _text,
}
