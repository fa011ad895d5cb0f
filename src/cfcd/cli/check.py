"""`cfcd check`: what is wrong with my pictures?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import Data, Json


def check(
    data: Data,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that relative paths in a table start from.  [default: the table's own]"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read the headers of the pictures only.")] = False,
    as_json: Json = False,
) -> None:
    """List everything that is wrong with a collection of pictures, with file and row.

    Missing, unreadable, truncated and oversized files, bad rows, duplicates, labels with one picture,
    boxes outside of their picture, absurd sizes. The exit code is 1 when a run would have to skip something.

    \b
    cfcd check photos/
    cfcd check catalog.csv --quick
    cfcd check train_clean.csv --root /data/gldv2 --json
    """
    from cfcd.catalog import read_catalog
    from cfcd.check import check_catalog
    from cfcd.cli.output import emit, progress

    catalog = read_catalog(data, root=root)
    with progress("checking") as advance:
        report = check_catalog(catalog, decode=not quick, progress=advance)
    emit(report.to_json(), report.summary(), as_json)
    if not report.ok:
        raise typer.Exit(1)
