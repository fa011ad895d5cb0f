"""A report as parts in order, the same for a page and for plain text; every number is formatted already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from cfcd.evaluation.cells import GridRow


@dataclass(frozen=True)
class Tile:
    """Show one measure in percent, with the ends of its 95 % interval where it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Tiles:
    """Show the measures that matter most, side by side."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Bar:
    """Show a number of percent as a bar; a signed one starts in the middle."""

    value: float
    signed: bool = False

    def __str__(self) -> str:
        return change_words(self.value) if self.signed else f"{self.value:.1f}"


Cell: TypeAlias = str | Bar


@dataclass(frozen=True)
class Table:
    """Show rows of cells.

    Attributes:
        columns: Headings.
        rows: One cell per heading.
        note: A remark below, such as what was left out.
        texts: How many columns at the left hold text; the others hold numbers.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    texts: int = 1


@dataclass(frozen=True)
class Figure:
    """Show a plot.

    Attributes:
        title: Heading.
        svg: The plot, as `cfcd.evaluation.plots` draws it.
        note: How to read it.
        data: What it shows, in figures; plain text has only these.
        shape: Room on a page: one place, the whole width, or two places below each other.
        hint: What to do with a pointer; plain text leaves it out.
    """

    title: str
    svg: str
    note: str
    data: Table
    shape: Literal["plain", "wide", "tall"] = "plain"
    hint: str = ""


@dataclass(frozen=True)
class Figures:
    """Show plots side by side where there is room."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Facts:
    """List names and values: how the numbers came about."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Grid:
    """Show queries and their hits as pictures."""

    rows: tuple[GridRow, ...]


@dataclass(frozen=True)
class Text:
    """Say something in sentences, one paragraph each."""

    paragraphs: tuple[str, ...]


Part: TypeAlias = Tiles | Table | Figures | Facts | Grid | Text


@dataclass(frozen=True)
class Section:
    """Group parts under a heading; the first section needs none."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Document:
    """Hold a whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def printable(text: str) -> str:
    """Replace what no page, file or terminal should be sent, such as NUL and escape sequences."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def change_words(value: float) -> str:
    """Write a change with its sign, except none."""
    text = f"{value:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text
