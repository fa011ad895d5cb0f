"""Options that several commands share, and the encoder they describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfcd.errors import UsageError

if TYPE_CHECKING:
    from cfcd.catalog import Box
    from cfcd.encoding import Encoder, Reading
    from cfcd.model import ModelFolder

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help=(
            "Pictures: a folder (one sub-folder per object, or flat), a CSV or Parquet table, a text list, "
            "Google Landmarks v2 files, a revisitop ground truth."
        ),
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder that relative paths in a table start from.", show_default="the table's own"),
]
GalleryFolder = Annotated[
    Path,
    typer.Argument(
        metavar="GALLERY", help="A gallery made by cfcd index: a folder, or milvus://host:port/NAME."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="A model folder or a built-in name.", show_default="imagenet-lite0"),
]
Size = Annotated[
    int | None, typer.Option(min=32, help="Limit of the long side in pixels.", show_default="the model's")
]
Scales = Annotated[
    str | None,
    typer.Option(
        help="Average descriptors over sizes: 1, 3 or 5 scales, or factors like 0.7071,1,1.4142.",
        show_default="the model's",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu (OpenVINO), torch-cpu, cuda or cuda:N.")]
Precision = Annotated[str, typer.Option(help="auto (bf16 where the device has it), bf16 or fp32.")]
AllowTruncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Decode cut-off files as far as they go.")
]


def make_reading(allow_truncated: bool) -> Reading:
    """Say how pictures are read."""
    from cfcd.encoding import Reading

    return Reading(allow_truncated=allow_truncated)


def make_encoder(
    model: str | None,
    size: int | None,
    scales: str | None,
    device: str,
    precision: str,
    allow_truncated: bool,
) -> Encoder:
    """Load the model the options ask for."""
    from cfcd.encoding import load_model
    from cfcd.encoding.preprocess import parse_scales

    encoder = load_model(
        model or "imagenet-lite0",
        device=device,
        precision=precision,
        long_side=size,
        scales=None if scales is None else parse_scales(scales),
        reading=make_reading(allow_truncated),
    )
    warn_of_random_weights(encoder.model)
    return encoder


def warn_of_random_weights(model: ModelFolder) -> None:
    """Say on stderr that a model's descriptors mean nothing yet."""
    from cfcd.cli.output import note

    if str(model.config.training.get("weights", "")).startswith("random"):
        note(f"warning: {model.label} has random weights: its matches mean nothing until it is trained")


def parse_box(text: str | None) -> Box | None:
    """Read "x1,y1,x2,y2" in pixels.

    Raises:
        UsageError: It is not four numbers.
    """
    if text is None:
        return None
    try:
        x_1, y_1, x_2, y_2 = (float(number) for number in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--box {text!r} is not four numbers.", "Write it as --box x1,y1,x2,y2 in pixels of the picture."
        ) from error
    if not (x_1 < x_2 and y_1 < y_2):
        raise UsageError(
            f"--box {text!r} has no inside.", "Write the upper left corner first, then the lower right."
        )
    if max(x_2, y_2) <= 1:
        raise UsageError(f"--box {text!r} looks like fractions.", "Write pixels of the upright picture.")
    return x_1, y_1, x_2, y_2
