"""The two calls everyone uses: a picture's pixels and a picture's size."""

from __future__ import annotations

import math
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageFile

from cfcd.errors import PictureError, TruncatedPicture, UsageError
from cfcd.pictures.formats import JpegReader, open_reader
from cfcd.pictures.orientation import TURNS, orientation_of, stored_box, upright_size
from cfcd.pictures.pixels import array_to_rgb, to_rgb
from cfcd.pictures.sources import (
    ANONYMOUS,
    PictureLimits,
    PictureSource,
    check_pixels,
    open_stream,
    source_name,
)
from cfcd.pictures.truncation import explain, pad, rescue

Box: TypeAlias = tuple[float, float, float, float]
_Region: TypeAlias = tuple[int, int, int, int]

_DEFAULT_LIMITS = PictureLimits()

# How far a JPEG decoded at 1/s and then scaled down (bicubic) is from the full decode scaled down at once:
# mean absolute difference of 0..255 over 60 sharp 384-pixel photos, s = 2 and 4 (in brackets: boxes in them):
#   decoded 1.5 x as long as asked 1.6 (2.1) | 2 x 0.98 (1.23) | 2.5 x 0.63 (0.80) | 3 x 0.47 (0.58)
# Descriptors (GeM EfficientNet-Lite0) at 2 x keep a cosine of 0.998; saving at JPEG quality 95 leaves 0.986.
_DRAFT_MARGIN = 2.0


class _Wanted(NamedTuple):
    box: Box | None
    long_side: int | None
    allow_truncated: bool


class _Plan(NamedTuple):
    orientation: int
    full: _Region  # the whole picture as stored, at full size
    part: _Region  # what is wanted of it
    scale: int  # decoded at 1/scale


def load_picture(
    source: PictureSource,
    *,
    box: Box | None = None,
    long_side: int | None = None,
    allow_truncated: bool = False,
    limits: PictureLimits = _DEFAULT_LIMITS,
) -> Image.Image:
    """Decode a picture to upright 8-bit RGB, of animations and multi-page files the first frame.

    Alpha is composited over white; colour profiles are ignored (sRGB is assumed). Safe to call from threads.

    Args:
        source: A path, the bytes of a file, a seekable binary file, a PIL image or a numpy array
            ((H, W) or (H, W, 1 | 3 | 4); uint8, uint16, or floating in 0..1).
        box: (x1, y1, x2, y2) in pixels of the upright full-size picture: return this part of it,
            rounded to whole pixels and clamped to the picture.
        long_side: The long side in pixels that the caller will scale the result down to. It lets a JPEG be
            decoded at 1/2, 1/4 or 1/8 of its size as long as that is at least twice `long_side`; nothing is
            resized to it here.
        allow_truncated: Whether a file whose end is missing gives what is there (the rest is grey, black or
            noise).
        limits: What a file may cost.

    Raises:
        UnreadablePicture: Missing, empty, damaged, or in no known format.
        TruncatedPicture: The end of the file is missing.
        PictureTooLarge: Over a limit.
        PictureError: Nothing of the picture lies in the box.
        UsageError: `long_side` is below 1.
    """
    if long_side is not None and long_side < 1:
        raise UsageError(f"long_side is {long_side}.", "Pass at least 1 pixel.")
    wanted = _Wanted(box, long_side, allow_truncated)
    if isinstance(source, np.ndarray):
        image = array_to_rgb(source, limits)
        return _finish(image, _plan(image, ANONYMOUS, wanted))
    if isinstance(source, Image.Image):
        return _load_image(source, wanted, limits)
    name = source_name(source)
    with open_stream(source, name, limits) as stream:
        return _load_stream(stream, name, wanted, limits)


def picture_size(source: PictureSource, *, limits: PictureLimits = _DEFAULT_LIMITS) -> tuple[int, int]:
    """Return (width, height) in pixels of the upright picture, from its header: no pixel is decoded.

    Raises:
        UnreadablePicture: Missing, empty, or the header is damaged or of no known format.
        TruncatedPicture: The file ends within its header.
        PictureTooLarge: Over a limit.
    """
    if isinstance(source, np.ndarray):
        return array_to_rgb(source, limits).size
    if isinstance(source, Image.Image):
        check_pixels(source.size, ANONYMOUS, limits)
        return upright_size(source.size, orientation_of(source))
    name = source_name(source)
    with open_stream(source, name, limits) as stream:
        try:
            return _header_size(stream, name, limits)
        except Exception as error:  # decoders raise anything on damaged files
            failure = explain(error, stream, name)
            if not isinstance(failure, TruncatedPicture):
                raise failure from error
        try:
            if padded := pad(stream, limits.max_bytes):  # for decoders that want the whole file
                return _header_size(padded, name, limits)
        except Exception as error:
            raise failure from error
        raise failure


def _header_size(stream: BinaryIO, name: str, limits: PictureLimits) -> tuple[int, int]:
    reader = open_reader(stream, name, limits)
    return upright_size(reader.size, orientation_of(reader))


def _load_stream(stream: BinaryIO, name: str, wanted: _Wanted, limits: PictureLimits) -> Image.Image:
    reader: ImageFile.ImageFile | None = None
    plan: _Plan | None = None
    try:
        reader = open_reader(stream, name, limits)
        plan = _plan(reader, name, wanted)
        return _finish(reader, plan)
    except Exception as error:  # decoders raise anything on damaged files
        failure = explain(error, stream, name)
        if not (wanted.allow_truncated and isinstance(failure, TruncatedPicture)):
            raise failure from error
    try:
        if reader and plan and rescue(reader):
            return _finish(reader, plan)
        if padded := pad(stream, limits.max_bytes):
            reader = open_reader(padded, name, limits)
            return _finish(reader, _plan(reader, name, wanted))
    except Exception as error:
        raise failure from error
    raise failure


def _load_image(source: Image.Image, wanted: _Wanted, limits: PictureLimits) -> Image.Image:
    check_pixels(source.size, ANONYMOUS, limits)
    try:
        copy = source.copy()
        return _finish(copy, _plan(copy, ANONYMOUS, wanted))
    except Exception as error:  # an image opened by the caller decodes only now
        raise explain(error, None, ANONYMOUS) from error


def _plan(image: Image.Image, name: str, wanted: _Wanted) -> _Plan:
    """Choose what to decode of an opened image, and set its decoder to the scale for it."""
    orientation = orientation_of(image)
    stored = image.size
    region = _region(wanted.box, upright_size(stored, orientation), name)
    scale = 1
    if isinstance(image, JpegReader):
        image.tolerant = wanted.allow_truncated
        if wanted.long_side is not None:
            x1, y1, x2, y2 = region
            scale = _draft(image, max(x2 - x1, y2 - y1) / wanted.long_side)
    return _Plan(orientation, (0, 0, *stored), stored_box(region, stored, orientation), scale)


def _finish(image: Image.Image, plan: _Plan) -> Image.Image:
    image.load()
    # A plain image that shares the pixels: no open file, and no Exif block whose orientation is wrong by now.
    rgb = to_rgb(image._new(image.im))
    if plan.part != plan.full or plan.scale > 1:
        rgb = _part(rgb, plan.part, plan.scale)
    if plan.orientation != 1:
        rgb = rgb.transpose(TURNS[plan.orientation])
    rgb.info = {}
    return rgb


def _draft(reader: JpegReader, shrink: float) -> int:
    """Have a JPEG that is to shrink at least twice as much decoded at 1/8, 1/4 or 1/2; return the divisor."""
    width, height = reader.size
    for scale in (8, 4, 2):
        if shrink >= scale * _DRAFT_MARGIN and min(width, height) >= scale:
            reader.draft(None, (width // scale, height // scale))
            return scale
    return 1


def _part(image: Image.Image, region: _Region, scale: int) -> Image.Image:
    """Copy a region out of an image that was decoded at 1/scale; the region is in pixels of the full size."""
    x1, y1, x2, y2 = (edge / scale for edge in region)
    size = (max(round(x2 - x1), 1), max(round(y2 - y1), 1))
    whole = (x1, y1, x2, y2) == (round(x1), round(y1), round(x2), round(y2))
    if not whole:
        # Rounding to the coarse pixels would shift the caller's result by up to 1/4 pixel, three times the
        # error of the coarse decoding itself.
        return image.resize(size, Image.Resampling.BICUBIC, box=(x1, y1, x2, y2))
    if size == image.size:
        return image
    # not `crop`: it applies Pillow's process-wide pixel limit
    part = Image.new("RGB", size)
    part.paste(image, (-round(x1), -round(y1)))
    return part


def _region(box: Box | None, size: tuple[int, int], name: str) -> _Region:
    """Return the box in whole pixels of the upright picture; all of it for None."""
    width, height = size
    if box is None:
        return (0, 0, width, height)
    if any(math.isnan(edge) for edge in box):
        raise PictureError(f"Cannot cut {name}: its box {box} has NaN.", "Give four numbers x1, y1, x2, y2.")
    x1, x2 = (round(min(max(x, 0), width)) for x in (box[0], box[2]))
    y1, y2 = (round(min(max(y, 0), height)) for y in (box[1], box[3]))
    if x1 >= x2 or y1 >= y2:
        raise PictureError(
            f"Cannot cut {name}: nothing of its {width} x {height} pixels lies in the box {box}.",
            "Give x1, y1, x2, y2 in pixels of the upright picture, with x1 < x2 and y1 < y2.",
        )
    return (x1, y1, x2, y2)
