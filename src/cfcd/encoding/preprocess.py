"""RGB picture -> the pixel arrays a network wants: sizes, scales and the resize filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cfcd.errors import UsageError
from cfcd.model.config import FIVE_SCALES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.model.config import Preprocessing

_FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
_ROWS = 32  # resized at a time: their floats stay in the cache, which halves the time


# The paper's five, and the three that give most of their gain (METHOD section 6).
SCALE_SETS = {
    "1": (1.0,),
    "3": (0.7071, 1.0, 1.4142),
    "5": FIVE_SCALES,
}


def parse_scales(text: str) -> tuple[float, ...]:
    """Read "1", "3", "5" (named sets) or factors such as "0.7071,1,1.4142".

    Raises:
        UsageError: A factor is no number between 0.05 and 8.
    """
    if text in SCALE_SETS:
        return SCALE_SETS[text]
    try:
        # A whole number alone is meant as a count, and only 1, 3 and 5 have a meaning.
        scales = () if text.isdigit() else tuple(float(factor) for factor in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0.05 <= scale <= 8 for scale in scales):
        raise UsageError(
            f"The scales {text!r} are not factors between 0.05 and 8.", "Write 1, 3, 5 or 0.7071,1,1.4142."
        )
    return scales


def target_size(width: int, height: int, preprocessing: Preprocessing, scale: float) -> tuple[int, int]:
    """Compute the size a picture is resized to before the network.

    The long side limit only shrinks; both sides are then rounded to the nearest multiple that the
    network was trained for, at least one multiple.

    Args:
        width: Pixels.
        height: Pixels.
        preprocessing: The model's preprocessing.
        scale: Factor on the size after the long side limit.

    Returns:
        (width, height) in pixels.
    """
    limit = preprocessing.long_side
    ratio = scale * (min(1.0, limit / max(width, height)) if limit else 1.0)
    step = preprocessing.side_multiple

    def fit(side: int) -> int:
        return max(1, round(side * ratio / step)) * step

    return fit(width), fit(height)


def wanted_long_side(preprocessing: Preprocessing) -> int | None:
    """Compute the longest side (pixels) any scale needs, None for the original size."""
    limit = preprocessing.long_side
    return None if limit is None else round(limit * max(preprocessing.scales))


def to_pixels(picture: Image.Image, preprocessing: Preprocessing, scale: float) -> NDArray[np.uint8]:
    """Resize an RGB picture for one scale.

    Args:
        picture: RGB; a JPEG decoded at a reduced size keeps its shape, so the target stays the same.
        preprocessing: The model's preprocessing.
        scale: Factor on the size after the long side limit.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    target = target_size(*picture.size, preprocessing, scale)
    if target == picture.size:
        return np.asarray(picture)
    if preprocessing.resize == "bilinear_plain":
        return _plain_bilinear(np.asarray(picture), *target)
    return np.asarray(picture.resize(target, _FILTERS[preprocessing.resize]))


def _plain_bilinear(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) by bilinear interpolation between the nearest pixels, without antialiasing.

    As OpenCV's INTER_LINEAR on floats, then rounded: Pillow's filters all average when they shrink.
    """
    above, below, down = _neighbours(pixels.shape[0], height)
    left, right, across = _neighbours(pixels.shape[1], width)
    out = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, _ROWS):
        part = slice(start, start + _ROWS)
        rows = pixels[above[part]].astype(np.float32)
        rows += down[part, None, None] * (pixels[below[part]] - rows)
        mixed = np.take(rows, left, axis=1)
        mixed += across[:, None] * (np.take(rows, right, axis=1) - mixed)
        out[part] = np.rint(mixed, out=mixed)
    return out


def _neighbours(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Find for `new` positions the two of `old` they lie between, and how far along (0..1)."""
    place = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0.0)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, old - 1), (place - first).astype(np.float32)
