"""`cfcd explain`: why two pictures match."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfcd.cli.options import AllowTruncated, Json, ModelName, Scales, Size
from cfcd.errors import GalleryError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfcd.catalog import Box
    from cfcd.encoding import Encoder
    from cfcd.explaining import Regions
    from cfcd.gallery import Gallery

# A stored descriptor is rounded to fp16 and may come from bf16; below this it is of another picture.
_SAME_PICTURE = 0.98


@dataclass(frozen=True)
class _Picture:
    """Name a picture, the part of it that counts, and what a gallery holds of it."""

    name: str
    path: Path
    box: Box | None = None
    stored: NDArray[np.float32] | None = None


def explain(
    gallery: Annotated[
        str, typer.Argument(metavar="GALLERY", help="A gallery; leave it out to give two pictures alone.")
    ],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A picture, or the id of an item.")],
    hit: Annotated[
        str | None, typer.Argument(metavar="HIT", help="The id of an item, or a picture.", show_default=False)
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(help="A part of the query: x1,y1,x2,y2 in pixels of the upright picture."),
    ] = None,
    hit_box: Annotated[
        str | None, typer.Option(help="A part of the hit, likewise.", show_default="the item's")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Draw it to this .png file.", show_default="explain.png, none with --json"),
    ] = None,
    model: ModelName = None,
    size: Size = None,
    scales: Scales = None,
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Show which regions of two pictures make up their score, and which places are alike.

    \b
    cfcd explain gallery/ query.jpg church/0042.jpg
    cfcd explain gallery/ query.jpg church/0042.jpg --box 120,40,360,400 --out why.png
    cfcd explain query.jpg other.jpg --model imagenet-lite0 --json
    """
    from cfcd.cli.options import make_encoder, parse_box
    from cfcd.cli.output import emit
    from cfcd.explaining import Explainer
    from cfcd.explaining.drawing import draw_explanation, say_matches, say_regions

    if out is not None and out.suffix.lower() != ".png":
        raise UsageError(f"--out {out} is no .png file.", "Drawings are PNG; --json prints the numbers.")
    boxes = parse_box(box), parse_box(hit_box)
    if hit is not None:
        encoder, looked_up = _from_gallery(gallery, (query, hit), model, size, scales, allow_truncated)
    elif Path(gallery).is_dir():
        raise UsageError(
            f"An explanation of {query} needs a hit too.",
            "Try cfcd explain gallery/ query.jpg church/0042.jpg.",
        )
    else:
        encoder = make_encoder(model, size, scales, "cpu", "fp32", allow_truncated)
        looked_up = [_Picture(name, Path(name)) for name in (gallery, query)]
    pictures = [
        # Another part of an item has another descriptor than the gallery holds.
        one if part is None else replace(one, box=part, stored=None)
        for one, part in zip(looked_up, boxes, strict=True)
    ]
    paths = [one.path for one in pictures]
    found = Explainer(encoder).explain(paths[0], paths[1], boxes=(pictures[0].box, pictures[1].box))
    for one, side in zip(pictures, (found.query, found.hit), strict=True):
        _warn_of_change(one, side)
    if out is None and not as_json:
        out = Path("explain.png")
    lines = [
        f"score  {found.score:.3f}",
        f"query  {say_regions(found.query)}",
        f"hit    {say_regions(found.hit)}",
        f"both   {say_matches(found)}.",
    ]
    if out is not None:
        draw_explanation(found, paths[0], paths[1], out, names=(pictures[0].name, pictures[1].name))
        lines.append(f"wrote {out}")
    value = found.to_json()
    for role, one in zip(("query", "hit"), pictures, strict=True):
        value[role] = {"name": one.name, "path": str(one.path), **value[role]}
    emit(value, "\n".join(lines), as_json)


def _from_gallery(
    folder: str,
    names: tuple[str, str],
    model: str | None,
    size: int | None,
    scales: str | None,
    allow_truncated: bool,
) -> tuple[Encoder, list[_Picture]]:
    """Load a gallery's model and look two pictures up: the query is a file first, the hit an item first."""
    from cfcd.cli.options import make_reading, warn_of_random_weights
    from cfcd.encoding.preprocess import parse_scales
    from cfcd.gallery import open_gallery

    with open_gallery(
        folder,
        model,
        long_side=size,
        scales=None if scales is None else parse_scales(scales),
        device="cpu",
        precision="fp32",
        reading=make_reading(allow_truncated),
    ) as gallery:
        encoder = gallery.encoder
        warn_of_random_weights(encoder.model)
        query, hit = names
        file = _Picture(query, Path(query))
        return encoder, [file if file.path.is_file() else _item(gallery, query), _item(gallery, hit)]


def _item(gallery: Gallery, name: str) -> _Picture:
    """Find an item by id, or else a picture by path."""
    try:
        item = gallery.find(name)
    except GalleryError:
        if Path(name).is_file():
            return _Picture(name, Path(name))
        raise
    return _Picture(name, item.path, item.box, gallery.descriptor(name))


def _warn_of_change(picture: _Picture, regions: Regions) -> None:
    """Say on stderr that a picture is not the one that the gallery's search has seen."""
    from cfcd.cli.output import note, one_line

    if picture.stored is not None and float(picture.stored @ regions.descriptor) < _SAME_PICTURE:
        note(f"warning: {one_line(picture.name)} has changed since it was indexed: its score was another")
