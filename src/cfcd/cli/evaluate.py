"""`cfcd evaluate`: how well labelled pictures find each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import (
    AllowTruncated,
    Data,
    Device,
    Json,
    ModelName,
    Precision,
    Root,
    Scales,
    Size,
)


def evaluate(
    data: Data,
    model: ModelName = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.json, the worst queries as pictures, and the descriptors."),
    ] = None,
    worst: Annotated[int, typer.Option(min=1, help="Queries shown in the pictures of --out.")] = 20,
    root: Root = None,
    size: Size = None,
    scales: Scales = None,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Measure retrieval on labelled pictures: mAP, mAP@R, R@1/5/10 in percent, and per class.

    With splits train and test (or query and gallery) the one searches the other; otherwise every
    picture searches all others. Pictures without a label count as wrong hits. DATA may also be a
    gallery or a folder made by cfcd encode.

    \b
    cfcd evaluate photos/
    cfcd evaluate catalog.csv --model runs/mine --out report/
    cfcd evaluate gallery/ --json
    """
    from cfcd.cli.options import make_encoder
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.evaluation.run import evaluate as run_evaluation
    from cfcd.evaluation.run import holds_descriptors, refuse_inside

    if out is not None:
        refuse_inside(out, data)
    options = (model, size, scales)
    encoder = None
    if not holds_descriptors(data) or any(option is not None for option in options):
        encoder = make_encoder(*options, device, precision, allow_truncated)
    with progress("encoding") as advance:
        evaluation = run_evaluation(data, encoder, root=root, out=out and out / "encoded", progress=advance)
    note_skipped([(str(item.path), reason) for item, reason in evaluation.skipped])
    text = f"{evaluation.report.summary()}\n\nmodel {evaluation.model}"
    if out is not None:
        from cfcd.evaluation.rows import write_evaluation

        files = write_evaluation(evaluation, out, worst)
        text += "\nwrote " + ", ".join(str(file) for file in files)
    emit(evaluation.to_json(), text, as_json)
