"""`cfcd train`: from labelled pictures to a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import AllowTruncated, Json, Root


def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Labelled pictures: a folder with a sub-folder per object, or a table, list or GLDv2 files.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; the model goes to OUT/model.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="small, paper, or a YAML file.", show_default="small, paper from 50,000 pictures on"
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the recipe, such as coarse.lr=0.001. Repeat."
        ),
    ] = None,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print the recipe with all its knobs, and stop.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUT; start it if there is none.")
    ] = False,
    matches: Annotated[
        int,
        typer.Option(min=0, help="Draw the local matches of this many training tuples, to OUT/matches.png."),
    ] = 0,
    root: Root = None,
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Learn a model from labelled pictures, for objects of their kind.

    With a split "train", those pictures are trained on; with queries and a gallery, the gallery
    without the queries; otherwise all that have a label.
    Stop with Ctrl-C; the same command with --resume goes on. Several GPUs or machines: torchrun
    --nproc-per-node N -m cfcd train ... Needs the extra "train".

    \b
    cfcd train photos/ --out run/
    cfcd evaluate photos/ --model run/
    cfcd train catalog.csv --out run/ --set coarse.epochs=10 --set augment.flip=0
    cfcd train --show-recipe > mine.yaml    and then: cfcd train photos/ --out run/ --recipe mine.yaml
    """
    from cfcd.catalog import read_catalog
    from cfcd.cli.options import make_reading
    from cfcd.cli.output import emit, note, note_skipped, progress
    from cfcd.errors import Interrupted, UsageError
    from cfcd.training.recipe_file import load_recipe

    if show_recipe:
        chosen = load_recipe(recipe, options or (), images=None if data is None else _count(data, root))
        emit(chosen.to_dict(), chosen.to_yaml().rstrip(), as_json)
        return
    if data is None or out is None:
        raise UsageError(
            f"cfcd train needs {'DATA' if data is None else '--out'}.",
            "Write cfcd train DATA --out RUN, or cfcd train --show-recipe.",
        )
    from cfcd.model.extras import need

    for package in ("torch", "accelerate", "yaml"):
        need(package, "Training")
    from cfcd.training.run import train as run_training

    catalog = read_catalog(data, root=root)
    try:
        summary = run_training(
            catalog,
            out,
            recipe,
            options=options or (),
            resume=resume,
            reading=make_reading(allow_truncated),
            progress=progress,
            note=note,
            matches=matches,
        )
    except KeyboardInterrupt:
        from cfcd.training.checkpoints import FILE

        if (out / FILE).exists():
            state, then = "the last checkpoint is kept", "goes on from there"
        else:
            state, then = "there is no checkpoint yet", "begins anew"
        raise Interrupted(
            f"Interrupted; {state} in {out}.", f"The same command with --resume {then}."
        ) from None
    if os.environ.get("RANK", "0") != "0":
        return  # under torchrun the first process speaks for all
    note_skipped(summary.skipped, catalog.problems)
    emit(summary.to_json(), summary.text(), as_json)


def _count(data: Path, root: Path | None) -> int:
    from cfcd.catalog import read_catalog
    from cfcd.training.data import TrainingSet

    return len(TrainingSet.from_catalog(read_catalog(data, root=root)))
