"""`cfcd compare`: is this run better than that one, and where?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import Json

Report = Annotated[
    Path, typer.Argument(help="A folder that cfcd evaluate --out has written, or its report.json.")
]


def compare(
    a: Report,
    b: Report,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for comparison.html, .md and .json, with plots and the changed queries."),
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare on the queries both have, though the data differ.")
    ] = False,
    changed: Annotated[
        int, typer.Option(min=0, help="Queries shown as pictures that gained, and that lost, most.")
    ] = 8,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder the pictures are in now.", show_default="the one in the reports"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two reports of the same queries: differences with 95 % intervals and a paired test.

    All differences are B - A. mAP, R@1/5/10 and the classes; with --out also a scatter of every query and
    the pictures of those that changed most.

    \b
    cfcd evaluate photos/ --out before/
    cfcd evaluate photos/ --model runs/mine --out after/
    cfcd compare before/ after/ --out comparison/
    """
    from cfcd.cli.output import emit
    from cfcd.evaluation.comparison import compare as compare_reports
    from cfcd.evaluation.comparison_document import comparison_text, write_comparison
    from cfcd.evaluation.saved import read_saved_report

    comparison = compare_reports(read_saved_report(a), read_saved_report(b), common=common)
    text = comparison_text(comparison)
    if out is not None:
        files = write_comparison(comparison, out, changed=changed, root=root)
        text += "\nwrote " + ", ".join(str(file) for file in files)
    emit(comparison.to_json(), text, as_json)
