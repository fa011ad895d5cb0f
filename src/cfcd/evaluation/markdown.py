"""A report as Markdown, for a repository, an issue or a terminal; plots become tables of their figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from cfcd.evaluation.document import (
    Document,
    Facts,
    Figures,
    Grid,
    Part,
    Table,
    Tiles,
    printable,
)
from cfcd.files import atomic_write

# What Markdown would take for markup; an underscore within a word is none.
_MARKUP = re.compile(r"[\\`*\[\]|~#!$]|(?<!\w)_|_(?!\w)")


def markdown_of(document: Document) -> str:
    """Write a report as Markdown with tables in the style of GitHub; texts are escaped."""
    blocks = [f"# {plain(document.title)}", plain(document.subtitle)]
    for section in document.sections:
        blocks += [f"## {plain(section.title)}"] if section.title else []
        for part in section.parts:
            blocks += _blocks(part)
    return "\n\n".join(blocks) + "\n"


def write_markdown(document: Document, path: Path) -> None:
    """Write a report as a Markdown file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(markdown_of(document).encode("utf-8", errors="replace"))


def plain(text: str) -> str:
    """Make any text stand for itself in a line of Markdown."""
    shown = escape(printable(text), quote=False).replace("&lt; ", "< ")  # before a space it opens no tag
    return _MARKUP.sub(r"\\\g<0>", shown)


def _blocks(part: Part) -> list[str]:
    if isinstance(part, Tiles):
        rows = [
            (
                t.name,
                f"{t.value:.1f}",
                "" if t.low is None or t.high is None else f"{t.low:.1f} to {t.high:.1f}",
            )
            for t in part.tiles
        ]
        return [_table(("measure, %", "value", "95 % interval"), rows)]
    if isinstance(part, Table):
        table = _table(part.columns, [tuple(map(str, row)) for row in part.rows], part.texts)
        return [table, plain(part.note)] if part.note else [table]
    if isinstance(part, Figures):
        return [
            block
            for figure in part.figures
            for block in (f"### {plain(figure.title)}", plain(figure.note), *_blocks(figure.data))
        ]
    if isinstance(part, Facts):
        return ["\n".join(f"- {plain(name)}: {plain(value)}" for name, value in part.rows)]
    if isinstance(part, Grid):
        rows = [(row.query.caption, row.note, row.tally) for row in part.rows]
        return [_table(("query", "result", "hits shown"), rows, texts=3)]
    return [plain(paragraph) for paragraph in part.paragraphs]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Align the columns in the text too: people read Markdown as it is."""
    lines = [[plain(cell) or " " for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(columns))]
    rule = ["-" * w if at < texts else "-" * (w - 1) + ":" for at, w in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            c.ljust(w) if at < texts else c.rjust(w)
            for at, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(lines[0]), f"| {' | '.join(rule)} |", *map(line, lines[1:])])
