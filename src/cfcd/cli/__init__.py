"""The command line: one file per noun, each parses, calls the library and prints."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

import cfcd
from cfcd.cli.output import guarded, interruptible

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    # Plain help: rich markup costs half of the start-up time and breaks the example blocks.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cfcd {cfcd.__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; works after a command too.")
    ] = False,
) -> None:
    """Find this very building, product or artwork in a large image collection.

    \b
    cfcd check photos/                                  what is wrong with my pictures?
    cfcd index photos/ --out gallery/                   make them searchable; run again to update
    cfcd search gallery/ query.jpg --grid results.html  look at the matches
    cfcd serve gallery/                                 search it in a browser, or over HTTP
    cfcd evaluate photos/                               how good is it on my labels?
    cfcd train photos/ --out run/                       make it better on my labels
    """


def _register() -> None:
    from cfcd.cli.calibrate import calibrate
    from cfcd.cli.check import check
    from cfcd.cli.compact import compact
    from cfcd.cli.compare import compare
    from cfcd.cli.create import create
    from cfcd.cli.demo import demo
    from cfcd.cli.duplicates import duplicates
    from cfcd.cli.encode import encode
    from cfcd.cli.evaluate import evaluate
    from cfcd.cli.exchange import export_descriptors, import_descriptors
    from cfcd.cli.explain import explain
    from cfcd.cli.import_official import import_official
    from cfcd.cli.index import index, remove
    from cfcd.cli.info import info
    from cfcd.cli.landmarks import evaluate_landmarks
    from cfcd.cli.search import search
    from cfcd.cli.serve import serve
    from cfcd.cli.train import train

    searching = (check, encode, index, search, serve, explain, remove, info)
    keeping = (calibrate, duplicates, compact, export_descriptors, import_descriptors)
    measuring = (evaluate, compare, evaluate_landmarks)
    making = (train, create, import_official, demo)
    for command in (*searching, *keeping, *measuring, *making):
        app.command()(interruptible(command))


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A file name must not be able to stop a command on a terminal that lacks its letters.
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    _register()
    run_arguments = [argument for argument in arguments if argument != "--debug"]
    sys.exit(guarded(lambda: app(args=run_arguments, prog_name="cfcd"), debug))
