"""`cfcd calibrate`: from which score on a hit is a match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfcd.cli.options import AllowTruncated, Device, GalleryFolder, Json, ModelName, Root
from cfcd.errors import UsageError

if TYPE_CHECKING:
    from cfcd.catalog import Catalog, Problem
    from cfcd.encoding.shards import Encoded
    from cfcd.gallery.calibration.thresholds import Threshold


def calibrate(
    gallery: GalleryFolder,
    labelled: Annotated[
        Path | None,
        typer.Argument(
            metavar="[LABELLED]",
            help="Pictures with labels that the gallery has too: a folder, a table, or made by cfcd encode.",
        ),
    ] = None,
    precision: Annotated[float, typer.Option(help="Share of right hits that makes a match.")] = 0.95,
    maybe: Annotated[float, typer.Option(help="Share of right hits that makes a maybe.")] = 0.5,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Search with the gallery's own labelled items.")
    ] = False,
    k: Annotated[int, typer.Option(min=1, help="Hits per query that count.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder for a report with the reliability curve.")] = None,
    root: Root = None,
    model: ModelName = None,
    device: Device = "auto",
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Find the scores from which on hits are a match, or may be one; cfcd search then says so.

    Pictures whose objects are not in the gallery belong into LABELLED too, about as often as people will
    search with such: they teach what a wrong hit scores. Thresholds belong to one model and one
    gallery; calibrate again when it has grown much.

    \b
    cfcd calibrate gallery/ labelled/ --precision 0.95
    cfcd calibrate gallery/ --leave-one-out --out report/
    """
    from cfcd.catalog import read_catalog
    from cfcd.cli.options import make_reading, warn_of_random_weights
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.encoding.shards import is_encoded, read_encoded
    from cfcd.gallery import open_gallery
    from cfcd.gallery.calibration.measuring import calibrate as measure

    own = labelled is not None and labelled.resolve() == gallery.resolve()
    if (labelled is None or own) != (leave_one_out or own) or (leave_one_out and labelled and not own):
        raise UsageError(
            "A calibration needs either LABELLED pictures or --leave-one-out.",
            "Try cfcd calibrate gallery/ labelled/.",
        )
    with open_gallery(gallery, model, device=device, reading=make_reading(allow_truncated)) as opened:
        data: Catalog | Encoded | None = None
        problems: Sequence[Problem] = ()
        if labelled is None or own:
            pass
        elif is_encoded(labelled):
            data = read_encoded(labelled)
        else:
            data = read_catalog(labelled, root=root)
            problems = data.problems
            warn_of_random_weights(opened.encoder.model)
        with progress("searching") as advance:
            done = measure(opened, data, precision=precision, maybe=maybe, k=k, progress=advance)
        name = opened.name
    note_skipped(done.skipped, problems)
    found = done.calibration
    made = found.made
    lines = [
        f"{made['queries']:,} queries of {made['objects']:,} objects, {made['hits']:,} hits, "
        f"{made['right']:,} of them right",
        *_threshold_lines("match", found.match),
        *_threshold_lines("maybe", found.maybe),
        f"kept in {name}",
    ]
    if out is not None:
        from cfcd.evaluation.calibration_document import write_calibration

        lines.append("wrote " + ", ".join(str(file) for file in write_calibration(done, out)))
    emit(found.to_json(), "\n".join(lines), as_json)


def _threshold_lines(name: str, found: Threshold) -> list[str]:
    held = found.held_out
    lines = [
        f"{name} from {found.score:.3f} on: {100 * found.above.precision:.1f} % of {found.above.hits:,} hits "
        f"are right (shown: {100 * found.shown:.1f} %), {100 * found.kept:.1f} % of all right hits"
    ]
    if held is not None and held.above.hits:
        share = held.above
        lines.append(
            f"  on objects left out of that choice: {100 * share.precision:.1f} % right "
            f"(95 %: {100 * share.low:.1f} to {100 * share.high:.1f}), "
            f"{100 * held.kept:.1f} % of all right hits"
        )
    return lines
