"""Cells and rows of a result grid, and the thumbnails shown in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from cfcd.errors import CfcdError
from cfcd.pictures import load_picture, rescaled

QUERY, RIGHT, WRONG, UNKNOWN = "query", "right", "wrong", "unknown"


@dataclass(frozen=True)
class GridCell:
    """Describe one picture of a result grid.

    Attributes:
        picture: A file, pixels, or None where there is nothing to show.
        caption: A label or file name; any text.
        score: Similarity to the query.
        correct: Whether the hit shows the query's object; None when nobody knows.
        box: (x1, y1, x2, y2) in pixels of the upright picture; outlined, the rest dimmed.
    """

    picture: Path | Image.Image | None
    caption: str
    score: float | None = None
    correct: bool | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class GridRow:
    """Describe one query with its hits, best first, and a short remark such as "AP 43.1"."""

    query: GridCell
    hits: tuple[GridCell, ...]
    note: str = ""

    @property
    def tally(self) -> str:
        """Say how many hits are right, or nothing when no hit is known to be right or wrong."""
        known = [hit.correct for hit in self.hits if hit.correct is not None]
        return f"{sum(known)} of {len(known)} right" if known else ""


def kind_of(cell: GridCell) -> str:
    """Name the frame a hit gets."""
    if cell.correct is None:
        return UNKNOWN
    return RIGHT if cell.correct else WRONG


def kinds_in(rows: Sequence[GridRow]) -> list[str]:
    """List the frames that occur, for the legend."""
    found = {kind_of(hit) for row in rows for hit in row.hits}
    return [QUERY, *(kind for kind in (RIGHT, WRONG, UNKNOWN) if kind in found)]


def thumbnail(cell: GridCell, side: int) -> Image.Image | str:
    """Make a picture at most `side` pixels wide and high, or say why there is none.

    A grid is made to be looked at: a truncated file shows what it has, and no file can make it fail.

    Returns:
        An RGB picture, or one sentence for a tile in its place.
    """
    if cell.picture is None:
        return "no picture"
    try:
        # A box is in pixels of the whole picture, so only without one may the decoder scale down.
        hint = side if cell.box is None else None
        picture = load_picture(cell.picture, long_side=hint, allow_truncated=True)
        scale = min(1.0, side / max(picture.size))
        small = rescaled(picture, scale, reducing_gap=3.0)
        return small if cell.box is None else _outlined(small, cell.box, scale)
    except CfcdError as error:
        return error.what
    except (OSError, ValueError) as error:
        return f"unreadable: {error}"


def _outlined(picture: Image.Image, box: tuple[float, float, float, float], scale: float) -> Image.Image:
    x1, y1, x2, y2 = (round(v * scale) for v in box)
    left, right = sorted((min(max(x1, 0), picture.width - 1), min(max(x2 - 1, 0), picture.width - 1)))
    upper, lower = sorted((min(max(y1, 0), picture.height - 1), min(max(y2 - 1, 0), picture.height - 1)))
    inside = (left, upper, right + 1, lower + 1)
    dimmed = Image.blend(picture, Image.new("RGB", picture.size), 0.55)
    dimmed.paste(picture.crop(inside), inside)
    ImageDraw.Draw(dimmed).rectangle((left, upper, right, lower), outline="white", width=2)
    return dimmed
