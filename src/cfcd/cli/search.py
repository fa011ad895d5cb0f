"""`cfcd search`: a picture's nearest items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfcd.cli.options import AllowTruncated, Device, GalleryFolder, Json, ModelName, Precision
from cfcd.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def search(
    gallery: GalleryFolder,
    picture: Annotated[Path | None, typer.Argument(help="The picture to search with.")] = None,
    k: Annotated[int, typer.Option(min=1, help="How many hits.")] = 10,
    box: Annotated[
        str | None, typer.Option(help="Search with a part: x1,y1,x2,y2 in pixels of the upright picture.")
    ] = None,
    item: Annotated[str | None, typer.Option("--id", help="Search with an item of the gallery.")] = None,
    vector: Annotated[Path | None, typer.Option(help="Search with a descriptor in a .npy file.")] = None,
    grid: Annotated[
        Path | None, typer.Option(help="Write the hits as pictures to this .html or .png file.")
    ] = None,
    model: ModelName = None,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Find the items most like a picture, a part of it, an item or a descriptor.

    \b
    cfcd search gallery/ query.jpg
    cfcd search gallery/ query.jpg --box 120,40,360,400 --grid results.html
    cfcd search gallery/ --id church/0042.jpg --k 50 --json
    """
    from cfcd.cli.options import make_reading, parse_box, warn_of_random_weights
    from cfcd.cli.output import emit, one_line
    from cfcd.gallery import open_gallery

    area = parse_box(box)
    if sum(given is not None for given in (picture, item, vector)) != 1:
        raise UsageError(
            "A search needs exactly one of PICTURE, --id and --vector.", "Try cfcd search gallery/ query.jpg."
        )
    if box is not None and picture is None:
        raise UsageError("--box needs a PICTURE.", "Give the picture the box lies in.")
    with open_gallery(
        gallery, model, device=device, precision=precision, reading=make_reading(allow_truncated)
    ) as opened:
        if picture is not None:
            warn_of_random_weights(opened.encoder.model)
        label = None
        if vector is not None:
            hits = opened.search_vector(_load_vector(vector), k)
        elif item is not None:
            found = opened.find(item)
            picture, label, area = found.path, found.label, found.box
            hits = opened.search_id(item, k)
        elif picture is not None:
            hits = opened.search(picture, k, box=area)
        if grid is not None:
            from cfcd.evaluation.rows import row_of_hits, write_grid

            title = f"{len(hits)} nearest of {len(opened)}"
            write_grid([row_of_hits(picture, hits, label=label, box=area)], grid, title=title)
    width = max((len(hit.item.label or "") for hit in hits), default=0)
    lines = [
        f"{hit.rank:>3}  {hit.score:6.3f}  {one_line(hit.item.label or ''):<{width}}  {one_line(hit.id)}"
        for hit in hits
    ]
    if grid is not None:
        lines.append(f"wrote {grid}")
    query = str(item or picture or vector)
    emit({"query": query, "hits": [hit.to_json() for hit in hits]}, "\n".join(lines), as_json)


def _load_vector(path: Path) -> NDArray[np.float32]:
    import numpy as np

    try:
        vector: NDArray[np.float32] = np.load(path, allow_pickle=False).reshape(-1).astype(np.float32)
    except (OSError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is no .npy file of one descriptor: {error}.", "Save it with numpy.save."
        ) from error
    return vector
