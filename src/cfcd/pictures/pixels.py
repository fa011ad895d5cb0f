"""Pixels of every Pillow mode, and of numpy arrays, as 8-bit RGB; sRGB is assumed, profiles are ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cfcd.errors import UnreadablePicture
from cfcd.pictures.sources import ANONYMOUS, PictureLimits, check_pixels

_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def rescaled(
    picture: Image.Image,
    factor: float,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
    reducing_gap: float | None = None,
) -> Image.Image:
    """Multiply both sides of a picture by a factor; no side gets less than a pixel."""
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, resample, reducing_gap=reducing_gap)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image as mode "RGB"; the image itself when it already is.

    Alpha and transparent colours are composited over white. 16-bit grey is divided by 257 and rounded.
    Mode "I" is taken as 16-bit grey unless a value lies outside 0..65535. Mode "F" is taken as 0..1 (a little
    overshoot is clipped) or as 0..255, by its range. Any other range is stretched linearly to 0..255.
    """
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I;16"):
        return _grey16(np.asarray(image), image.info.get("transparency"))
    if mode in {"I", "F"}:
        return _wide_grey(np.asarray(image))
    if mode in _ALPHA or "transparency" in image.info:
        return _over_white(image)
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode in {"La", "PA"}:  # Pillow has no direct way from these to RGBA
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    colours = image.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return colours
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(colours, mask=alpha)
    return white


def _grey16(values: npt.NDArray[Any], clear: object = None) -> Image.Image:
    grey = _eight_bit(values)
    if isinstance(clear, int):  # the one value that a PNG may declare transparent
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _eight_bit(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    # value / 257 rounded to nearest: 257 * 255 = 65535
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _wide_grey(values: npt.NDArray[Any]) -> Image.Image:
    finite = np.isfinite(values)
    if not finite.all():
        values = np.where(finite, values, values[finite].min() if finite.any() else 0)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind != "f" and low >= 0 and high <= 65535:
        return _grey16(values)
    if values.dtype.kind == "f" and low >= -0.5 and high <= 1.5:
        low, high = 0.0, 1.0
    elif values.dtype.kind == "f" and low >= 0 and 16 <= high <= 255:
        low, high = 0.0, 255.0
    # float64: the difference of two 32-bit extremes does not fit their own type
    scaled = (
        (values.astype(np.float64) - low) * (255 / (high - low)) if high > low else np.zeros(values.shape)
    )
    return Image.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)).convert("RGB")


def array_to_rgb(array: npt.NDArray[Any], limits: PictureLimits) -> Image.Image:
    """Return an array as an RGB image; alpha is composited over white.

    Args:
        array: (H, W) or (H, W, 1 | 3 | 4); uint8, uint16 (0..65535) or floating (0..1).
        limits: How many pixels it may have.

    Raises:
        UnreadablePicture: Another shape or type, an empty side, NaN, or a float outside 0..1.
        PictureTooLarge: More pixels than `limits.max_pixels`.
    """
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3, 4}) or 0 in array.shape:
        raise UnreadablePicture(
            f"Cannot read the picture: an array of shape {array.shape} holds no picture.",
            "Pass (height, width) or (height, width, 1, 3 or 4).",
        )
    check_pixels((array.shape[1], array.shape[0]), ANONYMOUS, limits)
    if array.dtype == np.uint16:
        array = _eight_bit(array)
    elif array.dtype.kind == "f":
        # written so that NaN fails it too
        if not (array.min() >= 0 and array.max() <= 1):
            raise UnreadablePicture(
                "Cannot read the picture: a floating array has NaN or values outside 0..1.",
                "Scale it to 0..1, or pass uint8.",
            )
        array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UnreadablePicture(
            f"Cannot read the picture: arrays of {array.dtype} are not pixels.",
            "Pass uint8, uint16, or floating values in 0..1.",
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))
