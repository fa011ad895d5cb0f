"""`cfcd serve`: a gallery over HTTP, with a page."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import AllowTruncated, Device, Precision

_MEGA = 1_000_000
_PATIENCE = 2.0  # seconds


def serve(
    gallery: Annotated[
        str, typer.Argument(metavar="GALLERY", help="A gallery made by cfcd index, or milvus://...")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Answer to this name too (repeatable)."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="Allow changes to those who send the token in this file.",
            show_default="CFCD_TOKEN, else no changes",
        ),
    ] = None,
    uploads: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the pictures of added items.", show_default="GALLERY-uploads beside the gallery"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model folder, also one with model.onnx alone, or a built-in name.",
            show_default="the gallery's",
        ),
    ] = None,
    max_upload_mb: Annotated[float, typer.Option(min=0.01, help="Most megabytes of a request.")] = 20,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Most megapixels of a picture.")] = 100,
    max_k: Annotated[int, typer.Option(min=1, max=1_000_000, help="Most hits of a search.")] = 1000,
    upload_seconds: Annotated[float, typer.Option(min=1, help="Time a request has to arrive.")] = 30,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, help="Requests in work at a time; 7 times as many may wait.")
    ] = 32,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
) -> None:
    """Serve a gallery: a page to search it by picture, and the same as an HTTP API.

    Changes by other processes, such as cfcd index, are seen at the next request. Ctrl-C ends it.

    \b
    cfcd serve gallery/
    cfcd serve gallery/ --port 9000 --token-file token.txt
    cfcd serve gallery/ --host 0.0.0.0 --allow-host photos.example.org
    """
    from cfcd.cli.output import note
    from cfcd.encoding import Reading
    from cfcd.pictures import PictureLimits
    from cfcd.serving.app import make_app
    from cfcd.serving.origins import is_loopback
    from cfcd.serving.running import listen, run, url_of
    from cfcd.serving.service import Service
    from cfcd.serving.settings import Settings
    from cfcd.serving.tokens import read_token

    settings = Settings(
        host=host,
        allow_hosts=tuple(allow_host or ()),
        token=read_token(token_file, os.environ),
        max_body_bytes=int(max_upload_mb * _MEGA),
        max_k=max_k,
        upload_seconds=upload_seconds,
        concurrency=concurrency,
        waiting=7 * concurrency,
    )
    limits = PictureLimits(max_pixels=int(max_megapixels * _MEGA))
    with listen(host, port) as opened:  # first: loading a model for a port that is taken is waiting in vain
        with _patiently(f"loading {gallery} and its model ..."):
            service = Service.open(
                gallery,
                model=model,
                device=device,
                precision=precision,
                reading=Reading(allow_truncated=allow_truncated, limits=limits),
                uploads=uploads,
            )
        try:
            if not is_loopback(host):
                note(f"warning: everyone who reaches port {opened.getsockname()[1]} can search the gallery")
            _log()
            said = f"serving {gallery} at {url_of(opened, host)}"
            run(make_app(service, settings), opened, settings, lambda: print(said, flush=True))  # noqa: T201
            note("stopped")
        finally:
            service.close()


@contextmanager
def _patiently(text: str) -> Iterator[None]:
    """Say on stderr what takes so long, once it does."""
    from cfcd.cli.output import note

    timer = threading.Timer(_PATIENCE, note, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _log() -> None:
    """Send the service's log to stderr: changes, and what went wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("cfcd.serving")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
