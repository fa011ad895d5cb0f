"""`cfcd duplicates`: pictures that a gallery holds more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import GalleryFolder, Json


def duplicates(
    gallery: GalleryFolder,
    out: Annotated[
        Path | None, typer.Option(help="Folder for duplicates.csv and duplicates.html, with pictures.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Least similarity of near duplicates' descriptors.", show_default="0.85; 0.95 without pixels"
        ),
    ] = None,
    pixels: Annotated[
        bool,
        typer.Option(
            "--pixels/--no-pixels",
            help="Compare pixels too, so that two photographs of one object stay apart; needs the files.",
        ),
    ] = True,
    where: Annotated[
        str | None, typer.Option(help="Look only among items that meet a condition on catalog columns.")
    ] = None,
    shown: Annotated[int, typer.Option(min=0, help="Groups shown as pictures, the largest first.")] = 200,
    as_json: Json = False,
) -> None:
    """Find pictures that are there more than once, exactly or nearly; deletes nothing.

    Exact: the same bytes. Near: the same photograph again, resized, re-encoded, a little cropped, turned or
    brightened. The first of each group is the one to keep: most pixels, then most bytes, then oldest. Up to
    100,000 items every pair is compared, above each item with its nearest neighbours.

    \b
    cfcd duplicates gallery/ --out duplicates/
    cfcd duplicates gallery/ --where "year >= 1990"
    cfcd duplicates gallery/ --no-pixels --threshold 0.97 --json
    """
    from cfcd.cli.output import emit, note_skipped, one_line, progress
    from cfcd.evaluation.duplicates_report import size_words, summary_words, write_duplicates
    from cfcd.gallery import open_gallery
    from cfcd.gallery.duplicates.groups import find_duplicates

    with open_gallery(gallery) as opened, progress("comparing") as advance:
        name = opened.name
        found = find_duplicates(opened, threshold=threshold, pixels=pixels, where=where, progress=advance)
    note_skipped([(path, reason) for _, path, reason in found.unreadable])
    lines = []
    for group in found.groups[:10]:
        spare = sum(one.bytes for one in group[1:])
        lines.append(f"{len(group):>3}  {size_words(spare):>10}  keep {one_line(group[0].item.id)}")
    if len(found.groups) > len(lines):
        lines.append(f"and {len(found.groups) - len(lines):,} more groups")
    lines.append(summary_words(found))
    if out is not None:
        files = write_duplicates(found, out, title=f"Duplicates in {name}", shown=shown)
        lines.append("wrote " + ", ".join(str(file) for file in files))
    emit({"gallery": name, **found.to_json()}, "\n".join(lines), as_json)
