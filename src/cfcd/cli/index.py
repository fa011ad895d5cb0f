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
        doubled, sources = gallery.shared_pictures() if summary.added else (0, [])
        if doubled:
            note(
                f"warning: {doubled:,} pictures are in the gallery several times, indexed from "
                f"{', '.join(sources)}; cfcd remove {gallery.name} --source NAME takes one of these out"
            )
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
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Items to remove.")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Remove all that was indexed from this folder or table; cfcd info names them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove items from a gallery, by id or by where they came from; the pictures themselves stay.

    The next cfcd index brings back what its DATA still holds.

    \b
    cfcd remove gallery/ church/0042.jpg church/0043.jpg
    cfcd remove gallery/ --source old-photos
    """
    from cfcd.cli.output import emit, note
    from cfcd.errors import UsageError
    from cfcd.gallery import open_gallery

    if bool(ids) == (source is not None):
        raise UsageError("cfcd remove needs either ids or --source.", "Name what is to go.")
    with open_gallery(gallery) as opened:
        unknown: list[str] = []
        if source is not None:
            known = opened.info()["sources"]
            named = next((one for one in known if Path(one) == Path(source).absolute()), source)
            if named not in known:
                raise UsageError(
                    f"Nothing in {opened.name} was indexed from {source}.",
                    f"It was indexed from {', '.join(known) or 'nothing'}.",
                )
            removed = opened.remove_source(named)
        else:
            unknown = opened.remove(ids or [])
            removed = len(set(ids or [])) - len(unknown)
        for item_id in unknown:
            note(f"not in the gallery: {item_id}")
        emit(
            {"removed": removed, "unknown": unknown, "items": len(opened)},
            f"removed {removed}, {len(opened)} left in {opened.name}",
            as_json,
        )
    if unknown:
        raise typer.Exit(1)
