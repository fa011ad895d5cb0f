"""`cfcd info`: what a path is."""

from __future__ import annotations

from typing import Annotated

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
    emit(found, to_text(found), as_json)
