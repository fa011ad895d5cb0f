"""`cfcd demo`: the whole way once, on your pictures or on made-up views of real ones."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import AllowTruncated, Device, Json, ModelName, Precision, Scales, Size


def demo(
    photos: Annotated[
        Path | None,
        typer.Argument(
            help="Your pictures; without them a collection is made from photographs that packages ship."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for everything the demo writes.",
            show_default="cfcd-demo, with the name of PHOTOS behind it where given",
        ),
    ] = None,
    model: ModelName = None,
    size: Size = None,
    scales: Scales = None,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Check, encode, index, evaluate and search a folder, and write the matches as pictures.

    \b
    cfcd demo photos/
    cfcd demo
    """
    from cfcd.cli.options import make_encoder
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.demo.tour import default_out, run_tour

    encoder = make_encoder(model, size, scales, device, precision, allow_truncated)
    result = run_tour(photos, out or default_out(photos), encoder, progress)
    fatal = [problem for problem in result.checked.problems if problem.fatal]
    note_skipped([], fatal)
    # Called by scripts/demo the command is not on the path: show it as it can be called again.
    command = "cfcd" if shutil.which("cfcd") else os.path.relpath(sys.argv[0])
    emit(result.to_json(), result.text(command), as_json)
