"""`cfcd create`: a new model folder from a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import Json


def create(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; a model there is replaced.")],
    backbone: Annotated[
        str,
        typer.Option(
            help="efficientnet_lite0, resnet50, resnet101, or a transformers model by folder or hub name."
        ),
    ] = "efficientnet_lite0",
    weights: Annotated[
        str,
        typer.Option(
            help='"default": ImageNet for efficientnet_lite0, random for ResNets, its own for a transformers'
            ' model. "random". For a ResNet also a transformers folder or hub name.'
        ),
    ] = "default",
    dim: Annotated[
        int | None,
        typer.Option(min=2, help="Add a whitening layer to this many numbers.", show_default="none"),
    ] = None,
    p: Annotated[float, typer.Option(help="Exponent of the generalised mean: 1 average, 3 usual.")] = 3.0,
    size: Annotated[
        int | None,
        typer.Option(
            min=32, help="Limit of the long side in pixels.", show_default="320 for lite0, 512 for others"
        ),
    ] = None,
    scales: Annotated[str, typer.Option(help="1, 3 or 5 scales, or factors like 0.7071,1,1.4142.")] = "1",
    seed: Annotated[int, typer.Option(help="Seeds random weights.")] = 0,
    as_json: Json = False,
) -> None:
    """Make a new model from a backbone, to use as it is or to train.

    Only weights that were published are ready for use; random ones (the ResNets' default, and any new
    whitening layer) mean nothing until trained, and the command says so. Needs the extra "train".

    \b
    cfcd create my-model                                    ImageNet weights, usable at once
    cfcd create start --backbone resnet50 --dim 512         a network to train
    cfcd create dino --backbone facebook/dinov2-small       from the hub, or from a folder
    """
    from cfcd.cli.output import emit_model
    from cfcd.encoding.preprocess import parse_scales
    from cfcd.model import create_model

    made = create_model(
        backbone,
        weights=None if weights == "random" else weights,
        p=p,
        dim=dim,
        long_side="default" if size is None else size,
        scales=parse_scales(scales),
        seed=seed,
    )
    emit_model(made.save(out), out, ("weights", "whitening"), as_json)
