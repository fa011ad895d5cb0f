"""`cfcd import-official`: a model folder from a checkpoint of the CFCD authors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import Json


def import_official(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="The authors' file, for inference or from training.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; a model there is replaced.")],
    depth: Annotated[int, typer.Option(help="Of their ResNet: 50 or 101.")],
    keep_head: Annotated[
        bool, typer.Option("--keep-head", help="Keep the class head of a training checkpoint too.")
    ] = False,
    scales: Annotated[str, typer.Option(help="1, 3 or 5 scales, or factors like 0.7071,1,1.4142.")] = "5",
    as_json: Json = False,
) -> None:
    """Make a model from a checkpoint of the CFCD authors.

    The model computes what their code computes, from their preprocessing on: BGR, the original size, bilinear
    without antialiasing, five scales. Use it with --precision fp32 for their very numbers. The file is read
    weights-only, and must hold exactly their network. The weights are the authors': see their repository for
    the terms. Needs the extra "train".

    \b
    cfcd import-official R50_CFCD.pyth --depth 50 --out cfcd-r50
    cfcd encode photos/ --model cfcd-r50 --precision fp32 --out descriptors/
    """
    from cfcd.cli.output import emit_model
    from cfcd.encoding.preprocess import parse_scales
    from cfcd.model.official import import_official as make

    model = make(checkpoint, out, depth=depth, keep_head=keep_head, scales=parse_scales(scales))
    emit_model(model, out, ("weights", "class_head", "left_out", "licence"), as_json)
