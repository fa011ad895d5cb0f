"""`cfcd encode`: pictures to descriptor shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cfcd.cli.options import AllowTruncated, Data, Device, Json, ModelName, Precision, Root, Scales, Size


def encode(
    data: Data,
    out: Annotated[
        Path, typer.Option(help="Folder for the shards; run again to go on or to take in changes.")
    ],
    root: Root = None,
    model: ModelName = None,
    size: Size = None,
    scales: Scales = None,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="Encode on this machine, or on the Ray cluster that RAY_ADDRESS names (extra ray)."
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes of --engine ray.",
            show_default="one per machine or GPU of the cluster",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Encode pictures into descriptors: .npy shards and their catalog rows as Parquet.

    What cannot be read is skipped and named in skipped.csv. The folder can be given to cfcd index and
    cfcd evaluate in place of the pictures.

    \b
    cfcd encode photos/ --out encoded/
    cfcd encode catalog.csv --model runs/mine --scales 3 --out encoded/
    RAY_ADDRESS=head:6379 cfcd encode catalog.csv --engine ray --out encoded/
    """
    from cfcd.catalog import read_catalog
    from cfcd.cli.options import make_encoder
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.encoding import encode_catalog
    from cfcd.encoding.bulk import Engine, encode_items
    from cfcd.errors import UsageError

    engine_of: Engine = encode_items
    if engine == "ray":
        from cfcd.encoding.ray_engine import RayEngine

        engine_of = RayEngine(workers)
    elif workers is not None:
        raise UsageError("--workers is for --engine ray.", "Leave it out.")
    catalog = read_catalog(data, root=root)
    encoder = make_encoder(model, size, scales, device, precision, allow_truncated)
    with progress("encoding") as advance:
        summary = encode_catalog(catalog, encoder, out, engine=engine_of, progress=advance)
    note_skipped([(str(item.path), reason) for item, reason in summary.skipped], catalog.problems)
    emit(summary.to_json(), summary.text(), as_json)
