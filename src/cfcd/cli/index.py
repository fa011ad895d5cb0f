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
    kind: Annotated[
        str | None,
        typer.Option(
            "--index",
            metavar="KIND",
            help="How to search: auto, exact, pq, codes, turbovec, ivf or hnsw.",
            show_default="by the budgets, or by size: exact below 100,000 items, then pq",
        ),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory the index may take, like 2GB.", show_default=False)
    ] = None,
    recall: Annotated[
        str | None, typer.Option(help="Least recall@10 against exact search, like 0.99.", show_default=False)
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="Time one search may take here, like 20ms.", show_default=False)
    ] = None,
    reduce: Annotated[
        int | None,
        typer.Option(
            metavar="DIMENSIONS", help="Reduce dimensions in the index by PCA, like 256.", show_default=False
        ),
    ] = None,
    whiten: Annotated[bool, typer.Option("--whiten", help="With --reduce: equal variances.")] = False,
    as_json: Json = False,
) -> None:
    """Make pictures searchable; a second call updates: new, changed, renamed and deleted files.

    DATA may also be a folder made by cfcd encode. Several collections can share a gallery: each call
    only touches what came from its own DATA. What was chosen of --index, --memory, --recall, --latency
    and --reduce holds for later calls too; hits always have the scores of the full descriptors.

    \b
    cfcd index photos/ --out gallery/
    cfcd index photos/ --out gallery/ --memory 2GB --recall 0.99 --latency 20ms
    cfcd index more-photos/ --out gallery/
    cfcd index photos/ --store milvus://localhost:19530/photos
    """
    from cfcd.catalog import read_catalog
    from cfcd.cli.options import make_reading, warn_of_random_weights
    from cfcd.cli.output import emit, note, note_skipped, progress
    from cfcd.encoding.preprocess import parse_scales
    from cfcd.encoding.shards import Encoded, is_encoded, read_encoded
    from cfcd.errors import UsageError
    from cfcd.gallery import open_or_create
    from cfcd.gallery.indexes.choice import ask
    from cfcd.gallery.milvus.address import MilvusAddress

    if store is not None:
        MilvusAddress.parse(store)
    place = out or store
    if place is None or (out and store):
        raise UsageError(
            "cfcd index needs one of --out and --store.", "Name the gallery's folder with --out GALLERY."
        )
    choice = ask(kind, memory, recall, latency, reduce, whiten)
    if choice is not None and store is not None:
        raise UsageError(
            "The server of --store has an index of its own.", "Leave out the options that choose one."
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
        if choice is not None:
            gallery.choose_index(choice)
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
        if choice is not None:
            result["index"] = gallery.info()["index"]
            for budget in result["index"].get("unmet", ()):
                note(f"warning: no index keeps every budget; the nearest misses {budget}")
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
