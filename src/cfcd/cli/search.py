"""`cfcd search`: a picture's nearest items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfcd.cli.options import AllowTruncated, Device, GalleryFolder, Json, ModelName, Precision
from cfcd.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfcd.catalog import Box
    from cfcd.gallery import Gallery, Hit
    from cfcd.gallery.selection import Selection


def search(
    gallery: GalleryFolder,
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PICTURE]...", help="Pictures to search with, each on its own."),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many hits.")] = 10,
    box: Annotated[
        str | None, typer.Option(help="Search with a part: x1,y1,x2,y2 in pixels of the upright picture.")
    ] = None,
    items: Annotated[
        list[str] | None, typer.Option("--id", help="Search with an item of the gallery (repeatable).")
    ] = None,
    vector: Annotated[Path | None, typer.Option(help="Search with a descriptor in a .npy file.")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="All pictures and items show one object: one query of them.")
    ] = False,
    minus: Annotated[
        list[Path] | None, typer.Option(help="A picture of what is not wanted (repeatable).")
    ] = None,
    expand: Annotated[
        int, typer.Option(min=0, metavar="N", help="Move the query towards its N best hits, then search.")
    ] = 0,
    where: Annotated[
        str | None, typer.Option(help='Find only items that meet this, such as "year >= 1990".')
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", help="Find only items with this label (repeatable).")
    ] = None,
    ids: Annotated[
        Path | None, typer.Option("--ids", help="Find only the items whose ids are the lines of this file.")
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(help="Write the hits as pictures to this .html or .png file.")
    ] = None,
    descriptors: Annotated[
        bool, typer.Option("--descriptors", help="With --json: give every hit its descriptor.")
    ] = False,
    model: ModelName = None,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Find the items most like a picture, a part of it, an item or a descriptor.

    Once the gallery is calibrated (cfcd calibrate), every hit is a match, maybe or none, and "no match"
    is a result. --where compares catalog columns: = != < <= > >=, in (...), like, is null, and, or, not.

    \b
    cfcd search gallery/ query.jpg
    cfcd search gallery/ query.jpg --box 120,40,360,400 --grid results.html
    cfcd search gallery/ --id church/0042.jpg --k 50 --json
    cfcd search gallery/ query.jpg --where "city = 'Nice' and year >= 1990"
    cfcd search gallery/ front.jpg side.jpg --together --minus poster.jpg
    """
    from cfcd.cli.options import make_reading, parse_box, warn_of_random_weights
    from cfcd.cli.output import emit
    from cfcd.gallery import open_gallery

    asked = _asked(pictures or [], items or [], vector, parse_box(box))
    if together and len(asked) < 2:
        raise UsageError("--together needs several pictures or items.", "Name all that show the object.")
    if descriptors and not as_json:
        raise UsageError("--descriptors needs --json.", "Add --json, or leave --descriptors out.")
    with open_gallery(
        gallery, model, device=device, precision=precision, reading=make_reading(allow_truncated)
    ) as opened:
        if pictures or minus:
            warn_of_random_weights(opened.encoder.model)
        selection = _select(opened, where, labels, ids)
        queries = _queries(opened, asked, together, minus or [])
        found = [
            opened.search_vector(
                query.vector,
                k,
                where=selection,
                expand=expand,
                descriptors=descriptors,
                verdicts=not query.is_mixed,
                without=query.items,
            )
            for query in queries
        ]
        _warn(opened, any(query.is_mixed for query in queries))
        if grid is not None:
            _write_grid(opened, queries, found, grid)
        judged = opened.calibration is not None
    results, lines = [], []
    for query, hits in zip(queries, found, strict=True):
        verdict = _best(hits) if judged and not query.is_mixed else None
        results.append({"query": query.name, "verdict": verdict, "hits": [hit.to_json() for hit in hits]})
        lines += [f"{query.name}:"] if len(queries) > 1 else []
        lines += _lines(hits, verdict)
    lines += [] if grid is None else [f"wrote {grid}"]
    emit(results[0] if len(results) == 1 else {"queries": results}, "\n".join(lines), as_json)


@dataclass(frozen=True)
class _Query:
    """What to search with: a picture, an item or a descriptor, or one descriptor made of several."""

    name: str
    vector: NDArray[np.float32]
    picture: Path | None = None
    box: Box | None = None
    items: tuple[str, ...] = ()
    is_mixed: bool = False


@dataclass(frozen=True)
class _Asked:
    """One thing named on the command line."""

    picture: Path | None = None
    item: str | None = None
    vector: Path | None = None
    box: Box | None = None


def _asked(pictures: list[Path], items: list[str], vector: Path | None, box: Box | None) -> list[_Asked]:
    asked = [_Asked(picture=picture, box=box) for picture in pictures]
    asked += [_Asked(item=item) for item in items]
    asked += [] if vector is None else [_Asked(vector=vector)]
    if not asked or (vector is not None and len(asked) > 1):
        raise UsageError(
            "A search needs pictures, items by --id, or a --vector alone.",
            "Try cfcd search gallery/ query.jpg.",
        )
    if box is not None and (len(pictures) != 1 or items):
        raise UsageError("--box needs exactly one PICTURE.", "Give the picture the box lies in.")
    return asked


def _queries(opened: Gallery, asked: list[_Asked], together: bool, minus: list[Path]) -> list[_Query]:
    from cfcd.gallery.query import combine

    queries = [_query(opened, one) for one in asked]
    unwanted = [opened.encoder.encode(picture)[0] for picture in minus]
    if together:
        vector = combine([query.vector for query in queries], unwanted)
        name = " + ".join(query.name for query in queries)
        items = tuple(item for query in queries for item in query.items)
        return [_Query(name, vector, queries[0].picture, queries[0].box, items, is_mixed=True)]
    if not unwanted:
        return queries
    return [
        _Query(
            query.name, combine(query.vector, unwanted), query.picture, query.box, query.items, is_mixed=True
        )
        for query in queries
    ]


def _query(opened: Gallery, asked: _Asked) -> _Query:
    if asked.picture is not None:
        vector = opened.encoder.encode(asked.picture, box=asked.box)[0]
        return _Query(str(asked.picture), vector, asked.picture, asked.box)
    if asked.item is not None:
        found = opened.find(asked.item)
        return _Query(asked.item, opened.descriptor(asked.item), found.path, found.box, (asked.item,))
    assert asked.vector is not None
    return _Query(str(asked.vector), _load_vector(asked.vector))


def _select(
    opened: Gallery, where: str | None, labels: list[str] | None, ids: Path | None
) -> Selection | None:
    """Choose what may be found; says on stderr which ids and labels are not there."""
    from cfcd.cli.output import note, one_line

    listed = None if ids is None else _read_lines(ids)
    if where is None and not labels and listed is None:
        return None
    selection, chosen = opened.select(where, labels=labels or None, ids=listed)
    if chosen.unknown:
        more = f" and {len(chosen.unknown) - 5:,} more" if len(chosen.unknown) > 5 else ""
        note(f"not in the gallery: {', '.join(map(one_line, chosen.unknown[:5]))}{more}")
    note(f"searching {len(chosen.numbers):,} of {len(opened):,} items")
    return selection


def _warn(opened: Gallery, mixed: bool) -> None:
    """Say on stderr when verdicts are missing or stale."""
    from cfcd.cli.output import note

    calibration = opened.calibration
    if calibration is None:
        return
    if mixed:
        note("no verdicts: they were calibrated for single pictures, not for queries made of several")
    elif calibration.is_outgrown(len(opened)):
        note(
            f"warning: verdicts were calibrated on {calibration.items:,} items, and there are "
            f"{len(opened):,} now: run cfcd calibrate again"
        )


def _write_grid(opened: Gallery, queries: Sequence[_Query], found: Sequence[list[Hit]], grid: Path) -> None:
    from cfcd.evaluation.rows import row_of_hits, write_grid

    rows = []
    for query, hits in zip(queries, found, strict=True):
        label = opened.find(query.items[0]).label if query.items else None
        rows.append(row_of_hits(query.picture, hits, label=label, box=query.box))
    title = f"{max(map(len, found))} nearest of {len(opened)}"
    write_grid(rows, grid, title=title)


def _best(hits: list[Hit]) -> str:
    """Give the verdict on a query: that of its best hit."""
    verdicts = {hit.verdict for hit in hits}
    return next((verdict for verdict in ("match", "maybe") if verdict in verdicts), "none")


def _lines(hits: list[Hit], verdict: str | None) -> list[str]:
    from cfcd.cli.output import one_line

    lines = ["no match"] if verdict == "none" else []
    if not hits:
        return lines or ["no hits"]
    width = max(len(hit.item.label or "") for hit in hits)
    for hit in hits:
        judged = "" if hit.verdict is None else f"{hit.verdict:<5}  "
        label = f"{one_line(hit.item.label or ''):<{width}}"
        lines.append(f"{hit.rank:>3}  {hit.score:6.3f}  {judged}{label}  {one_line(hit.id)}")
    return lines


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"{path} cannot be read: {reason}.", "Give a text file with one id per line."
        ) from error
    return [line for line in lines if line]


def _load_vector(path: Path) -> NDArray[np.float32]:
    import numpy as np

    try:
        vector: NDArray[np.float32] = np.load(path, allow_pickle=False).reshape(-1).astype(np.float32)
    except (OSError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is no .npy file of one descriptor: {error}.", "Save it with numpy.save."
        ) from error
    return vector
