"""`cfcd info`: what a path is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cfcd.cli.options import Json


def info(
    path: Annotated[str, typer.Argument(help="A model, gallery, encoded folder, photo folder or catalog.")],
    as_json: Json = False,
) -> None:
    """Say what a path holds: a model, a gallery, an encoded folder, or pictures.

    \b
    cfcd info gallery/
    cfcd info imagenet-lite0 --json
    """
    from cfcd.cli.output import emit
    from cfcd.info import describe, to_text

    found = describe(path)
    calibration = found.get("calibration")
    shown = found if calibration is None else {**found, "calibration": _in_words(calibration)}
    emit(found, to_text(shown), as_json)


def _in_words(calibration: dict[str, Any]) -> str:
    found = (
        f"match from {calibration['match']:.3f} on (precision {calibration['precision']:g}), "
        f"maybe from {calibration['maybe']:.3f} on ({calibration['precision_of_maybe']:g}), "
        f"measured on {calibration['items']:,} items"
    )
    return f"{found}; outgrown: run cfcd calibrate again" if calibration["outgrown"] else found
