"""Shares as colours over a photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Ever lighter, from black over violet and orange to pale yellow: the order shows without telling hues apart.
# Sampled from matplotlib's "inferno" (CC0), which is perceptually even.
_STOPS = (
    (0, 0, 4),
    (31, 12, 72),
    (85, 15, 109),
    (136, 34, 106),
    (186, 54, 85),
    (227, 89, 51),
    (249, 140, 10),
    (249, 201, 50),
    (252, 255, 164),
)
_GREY = 0.75  # of the photo's light is left under the colours
_OPAQUE = 0.72  # of the colour, where a share is greatest
_FINER = 3  # outlines are drawn this much larger, then shrunk, for smooth edges


def ramp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn values from 0 to 1 (...) into colours (..., 3) of 0..255; values outside take the end's colour."""
    at = np.linspace(0, 1, len(_STOPS))
    return np.stack([np.interp(values, at, channel) for channel in np.array(_STOPS, float).T], -1)


def coloured(picture: Image.Image, values: NDArray[np.float64]) -> Image.Image:
    """Lay colours over a grey copy of a picture, the more opaque the greater the value.

    Args:
        picture: RGB.
        values: (h, w), 0 to 1, over the whole picture; between the cells' centres they are interpolated.
    """
    fine = Image.fromarray(values.astype(np.float32)).resize(picture.size, Image.Resampling.BICUBIC)
    smooth = np.clip(np.asarray(fine, np.float64), 0, 1)
    grey = np.asarray(picture.convert("L"), np.float64)[..., None] * _GREY
    opaque = _OPAQUE * np.sqrt(smooth)[..., None]
    return Image.fromarray(np.rint(grey * (1 - opaque) + ramp(smooth) * opaque).astype(np.uint8))


def outline(picture: Image.Image, marked: NDArray[np.bool_]) -> Image.Image:
    """Draw the edge of the marked cells (h, w) over the whole picture."""
    height, width = marked.shape
    across, down = picture.width * _FINER / width, picture.height * _FINER / height
    lines = Image.new("RGBA", (picture.width * _FINER, picture.height * _FINER))
    pen = ImageDraw.Draw(lines)
    edges = [
        (column * across, row * down, column * across, (row + 1) * down)
        for row, column in zip(*np.nonzero(np.diff(marked, axis=1, prepend=False, append=False)), strict=True)
    ] + [
        (column * across, row * down, (column + 1) * across, row * down)
        for row, column in zip(*np.nonzero(np.diff(marked, axis=0, prepend=False, append=False)), strict=True)
    ]
    # Black around white shows on any photo.
    for colour, thick in (((0, 0, 0, 150), 4.5), ((255, 255, 255, 255), 2)):
        half = thick * _FINER / 2
        for x1, y1, x2, y2 in edges:
            pen.rectangle((x1 - half, y1 - half, x2 + half, y2 + half), fill=colour)
    lines = lines.resize(picture.size, Image.Resampling.BOX)
    out = picture.copy()
    out.paste(lines, (0, 0), lines)
    return out
