"""`cfcd index` and `cfcd remove`: make and change galleries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import (
    AllowTruncated,
    Data,
    Device,
    GalleryFolder,
    Json,
    ModelName,
    Precision,
    Root,
    Scales,
    Size,
)


def index(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(metavar="GALLERY", help="The gallery; made when absent.", show_default=False),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=(
                "In place of --out: a gallery on a Milvus server, milvus://[user:password@]host[:port]/NAME; "
                "the other commands take the URL as GALLERY. Credentials may stand in MILVUS_TOKEN."
            ),
            show_default=False,
        ),
    ] = None,
    root: Root = None,
    model: ModelName = None,
    size: Size = None,
    scales: Scales = None,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
    keep_missing: Annotated[
        bool, typer.Option("--keep-missing", help="Keep items whose pictures are gone from DATA.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make pictures searchable; a second call updates: new, changed, renamed and deleted files.

    DATA may also be a folder made by cfcd encode. Several collections can share a gallery: each call
    only touches what came from its own DATA.

    \b
    cfcd index photos/ --out gallery/
    cfcd index more-photos/ --out gallery/
    cfcd index photos/ --store milvus://localhost:19530/photos
    """
    from cfcd.catalog import read_catalog
    from cfcd.cli.options import make_reading, warn_of_random_weights
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.encoding.preprocess import parse_scales
    from cfcd.encoding.shards import Encoded, is_encoded, read_encoded
    from cfcd.errors import UsageError
    from cfcd.gallery import open_or_create
    from cfcd.gallery.milvus_address import MilvusAddress

    if store is not None:
        MilvusAddress.parse(store)
    place = out or store
    if place is None or (out and store):
        raise UsageError(
            "cfcd index needs one of --out and --store.", "Name the gallery's folder with --out GALLERY."
        )
    source = read_encoded(data) if is_encoded(data) else read_catalog(data, root=root)
    with open_or_create(
        place,
        model=model,
        encoded=source if isinstance(source, Encoded) else None,
        long_side=size,
        scales=None if scales is None else parse_scales(scales),
        device=device,
        precision=precision,
        reading=make_reading(allow_truncated),
    ) as gallery:
        if not isinstance(source, Encoded):  # descriptors at hand need no model, which may be gone
            warn_of_random_weights(gallery.encoder.model)
        with progress("indexing") as advance:
            summary = gallery.update(source, remove_missing=not keep_missing, progress=advance)
        skipped = [(row.path, row.reason) for row in summary.skipped.values()]
        note_skipped(skipped, () if isinstance(source, Encoded) else source.problems)
        result = {
            **summary.to_json(),
            "items": len(gallery),
            "gallery": gallery.name,
            "model": gallery.model_label,
        }
        text = f"{summary.text()}\n{len(gallery)} items in {gallery.name} ({summary.seconds:.1f} s)"
        emit(result, text, as_json)


def remove(
    gallery: GalleryFolder,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Items to remove.")],
    as_json: Json = False,
) -> None:
    """Remove items from a gallery by id; the pictures themselves stay where they are.

    The next cfcd index brings back what its DATA still holds.

    \b
    cfcd remove gallery/ church/0042.jpg church/0043.jpg
    """
    from cfcd.cli.output import emit, note
    from cfcd.gallery import open_gallery

    with open_gallery(gallery) as opened:
        unknown = opened.remove(ids)
        removed = len(set(ids)) - len(unknown)
        for item_id in unknown:
            note(f"not in the gallery: {item_id}")
        emit(
            {"removed": removed, "unknown": unknown, "items": len(opened)},
            f"removed {removed}, {len(opened)} left in {opened.name}",
            as_json,
        )
    if unknown:
        raise typer.Exit(1)
