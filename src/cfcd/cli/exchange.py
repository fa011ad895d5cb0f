"""`cfcd export-descriptors` and `cfcd import-descriptors`: galleries from and for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import GalleryFolder, Json, Root


def export_descriptors(
    gallery: GalleryFolder,
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="NAME.parquet, NAME.npy, or a new folder in autofaiss's layout."),
    ],
    dtype: Annotated[str, typer.Option(help="float16, as a gallery holds them, or float32.")] = "float16",
    as_json: Json = False,
) -> None:
    """Write a gallery's descriptors and rows for other programs, with the identity of their model.

    NAME.parquet is one table: id, path, label, split, box, further columns, and descriptor. NAME.npy comes
    with NAME.ids.txt. A folder gets img_emb/ and metadata/ as clip-retrieval writes and autofaiss reads them.

    \b
    cfcd export-descriptors gallery/ gallery.parquet
    cfcd export-descriptors gallery/ embeddings/ --dtype float32
    autofaiss build_index --embeddings embeddings/img_emb --index_path knn.index --metric_type ip
    """
    from cfcd.cli.output import emit, progress
    from cfcd.gallery import open_gallery
    from cfcd.gallery.exchange.exporting import export_gallery

    with open_gallery(gallery) as opened, progress("exporting") as advance:
        name, summary = opened.name, export_gallery(opened, out, dtype=dtype, progress=advance)
    emit({"gallery": name, **summary.to_json()}, summary.text(), as_json)


def import_descriptors(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="NAME.parquet, NAME.npy with NAME.ids.txt, or a folder with img_emb/ and metadata/.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="GALLERY", help="The gallery; made when absent.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The cfcd model that made the descriptors; needed where DATA does not say.",
            show_default="what DATA says",
        ),
    ] = None,
    foreign: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Instead: the name of a model that cfcd cannot load."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of a Parquet file that holds the descriptors.")
    ] = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Take descriptors of another gallery or program into a gallery; no picture is read.

    DATA is checked whole before anything is written. What export-descriptors has written knows its model, and
    its rows are recognised by a later cfcd index of the same pictures.

    \b
    cfcd import-descriptors gallery.parquet --out copy/
    cfcd import-descriptors embeddings/ --out clip-gallery/ --foreign ViT-B-32
    """
    from cfcd.cli.output import emit, note, progress
    from cfcd.gallery.exchange.importing import import_descriptors as bring_in

    with progress("importing") as advance:
        summary = bring_in(
            data, out, model=model, foreign=foreign, column=column, root=root, progress=advance
        )
    for row, reason in summary.skipped:
        note(f"skipped row {row}: {reason}")
    text = f"{summary.text()}\n{summary.items:,} items of {summary.model} in {out} ({summary.seconds:.1f} s)"
    emit({"gallery": str(out), **summary.to_json()}, text, as_json)
