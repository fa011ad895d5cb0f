"""Duplicates as a table for programs and as a page to look at; nothing is deleted."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from cfcd.evaluation.cells import GridCell, thumbnail
from cfcd.evaluation.document import printable
from cfcd.evaluation.grid_html import GRID_CSS, write_html
from cfcd.files import atomic_write
from cfcd.gallery.duplicates.groups import Duplicate, Duplicates

COLUMNS = ("group", "rank", "id", "path", "kind", "similarity", "likeness", "width", "height", "bytes")
_THUMB = 160
_SHOWN_OF_A_GROUP = 12
_JPEG_QUALITY = 80
_SAID = {"kept": "the one to keep", "exact": "the same bytes as one before it", "near": "the same photograph"}
# The page reuses the frames of result grids.
_FRAMES = {"kept": "right", "exact": "query", "near": "unknown"}


def write_duplicates(found: Duplicates, out: Path, *, title: str, shown: int = 200) -> list[Path]:
    """Write duplicates.csv with every picture and duplicates.html with pictures of the first groups.

    Args:
        found: What was found.
        out: Folder for the files, made if need be.
        title: Heading of the page.
        shown: Groups on the page, those that would free most.

    Returns:
        The files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "duplicates.csv", out / "duplicates.html"]
    _write_csv(found.groups, files[0])
    _write_page(found, files[1], title, shown)
    return files


def summary_words(found: Duplicates) -> str:
    """Say in one line what was found."""
    spare = found.count("exact") + found.count("near")
    text = (
        f"{_number(len(found.groups), 'group')}: {spare} of {_number(found.items, 'picture')} could go "
        f"({found.count('exact')} exact, {found.count('near')} near; {size_words(found.bytes)})"
    )
    if found.unreadable:
        text += f"; {len(found.unreadable)} left out: no longer readable, or changed since indexed"
    return text


def size_words(count: int) -> str:
    """Write a number of bytes as people say it."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _write_csv(groups: Sequence[Sequence[Duplicate]], path: Path) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for number, group in enumerate(groups, start=1):
        for rank, one in enumerate(group, start=1):
            row = {"group": number, "rank": rank, **one.to_json()}
            table.writerow(["" if row[name] is None else row[name] for name in COLUMNS])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8", errors="surrogateescape"))


def _write_page(found: Duplicates, path: Path, title: str, shown: int) -> None:
    kinds = [kind for kind in _SAID if found.count(kind)]
    legend = "".join(
        f'<li><span class="swatch {_FRAMES[kind]}" aria-hidden="true"></span>{_SAID[kind]}</li>'
        for kind in kinds
    )
    rows = "\n".join(_row(number, group) for number, group in enumerate(found.groups[:shown], start=1))
    left = len(found.groups) - shown
    more = f'<p class="tally">{_number(left, "more group")} in duplicates.csv.</p>' if left > 0 else ""
    words = [
        summary_words(found),
        "Nothing was deleted. Every picture of a group is a duplicate of the first: most pixels, then most "
        "bytes, then oldest.",
        _how(found),
    ]
    body = f"""<header>
<h1>{escape(printable(title))}</h1>
{"".join(f'<p class="subtitle">{escape(line)}</p>' for line in words)}
<ul class="legend" aria-label="Legend">{legend}</ul>
</header>
<main>
{rows or "<p>No duplicates were found.</p>"}
{more}
</main>"""
    write_html(path, title, (GRID_CSS,), body, _THUMB)


def _how(found: Duplicates) -> str:
    compared = "every pair" if found.all_pairs else "each with its nearest neighbours by the index"
    words = f"Near: descriptors with a cosine similarity of at least {found.threshold:g} ({compared})"
    if found.likeness is not None:
        words += f", and pixels with a correlation of at least {found.likeness:g} once aligned"
    return words + "."


def _row(number: int, group: Sequence[Duplicate]) -> str:
    spare = sum(one.bytes for one in group[1:])
    note = f"{len(group)} pictures, {size_words(spare)} to spare"
    figures = "".join(f"<li>{_figure(one)}</li>" for one in group[1:_SHOWN_OF_A_GROUP])
    more = len(group) - _SHOWN_OF_A_GROUP
    further = f'<p class="tally">and {more:,} more</p>' if more > 0 else ""
    name = escape(printable(group[0].item.id))
    return f"""<section class="row" aria-labelledby="g{number}">
<header><h2 id="g{number}">{number}. {name}</h2><span class="note">{note}</span></header>
{_figure(group[0])}
<ol class="hits">{figures}</ol>{further}
</section>"""


def _figure(one: Duplicate) -> str:
    path = escape(printable(str(one.item.path)))
    facts = [] if one.width is None else [f"{one.width} × {one.height}"]
    facts.append(size_words(one.bytes))
    if one.kind == "near":
        facts.append(f"{one.similarity:.3f}")
    spoken = f"{_SAID[one.kind]}: {path}"
    return (
        f'<figure class="{_FRAMES[one.kind]}" title="{path}">'
        f'<div class="tile">{_picture(one, spoken)}</div>'
        f'<figcaption><span class="score">{", ".join(facts)}</span>'
        f'<span class="caption">{escape(printable(one.item.id))}</span></figcaption></figure>'
    )


def _picture(one: Duplicate, spoken: str) -> str:
    made = thumbnail(GridCell(one.item.path, one.item.id, box=one.item.box), _THUMB)
    if isinstance(made, str):
        return f'<div class="reason" role="img" aria-label="{spoken}">{escape(printable(made))}</div>'
    buffer = io.BytesIO()
    made.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="{source}" alt="{spoken}" decoding="async" loading="lazy">'
