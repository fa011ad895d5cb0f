"""`cfcd encode`: pictures to descriptor shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    as_json: Json = False,
) -> None:
    """Encode pictures into descriptors: .npy shards and their catalog rows as Parquet.

    What cannot be read is skipped and named in skipped.csv. The folder can be given to cfcd index and
    cfcd evaluate in place of the pictures.

    \b
    cfcd encode photos/ --out encoded/
    cfcd encode catalog.csv --model runs/mine --scales 3 --out encoded/
    """
    from cfcd.catalog import read_catalog
    from cfcd.cli.options import make_encoder
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.encoding import encode_catalog

    catalog = read_catalog(data, root=root)
    encoder = make_encoder(model, size, scales, device, precision, allow_truncated)
    with progress("encoding") as advance:
        summary = encode_catalog(catalog, encoder, out, progress=advance)
    note_skipped([(str(item.path), reason) for item, reason in summary.skipped], catalog.problems)
    emit(summary.to_json(), summary.text(), as_json)
