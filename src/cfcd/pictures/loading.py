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
_DRAFT_MARGIN = 2.0


class _Wanted(NamedTuple):
    box: Box | None
    long_side: int | None
    allow_truncated: bool


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
        allow_truncated: Whether a file whose end is missing gives what is there (the rest grey or black).
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
    if isinstance(source, np.ndarray):
        return _cut(array_to_rgb(source, limits), box)
    wanted = _Wanted(box, long_side, allow_truncated)
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
            reader = open_reader(stream, name, limits)
            return upright_size(reader.size, orientation_of(reader))
        except Exception as error:  # decoders raise anything on damaged files
            raise explain(error, stream, name) from error


def _load_stream(stream: BinaryIO, name: str, wanted: _Wanted, limits: PictureLimits) -> Image.Image:
    reader: ImageFile.ImageFile | None = None
    try:
        reader = open_reader(stream, name, limits)
        return _decode(reader, name, wanted)
    except Exception as error:  # decoders raise anything on damaged files
        failure = explain(error, stream, name)
        if not (wanted.allow_truncated and isinstance(failure, TruncatedPicture)):
            raise failure from error
    if reader is not None and rescue(reader):
        return _decode(reader, name, wanted)
    padded = pad(stream, limits.max_bytes)
    if padded is None:
        raise failure
    try:
        return _decode(open_reader(padded, name, limits), name, wanted)
    except Exception as error:
        raise failure from error


def _load_image(source: Image.Image, wanted: _Wanted, limits: PictureLimits) -> Image.Image:
    check_pixels(source.size, ANONYMOUS, limits)
    try:
        copy = source.copy()
        return _decode(copy, ANONYMOUS, wanted)
    except Exception as error:  # an image opened by the caller decodes only now
        raise explain(error, None, ANONYMOUS) from error


def _decode(image: Image.Image, name: str, wanted: _Wanted) -> Image.Image:
    orientation = orientation_of(image)
    full = image.size
    region = _region(wanted.box, upright_size(full, orientation), name)
    if isinstance(image, JpegReader):
        image.tolerant = wanted.allow_truncated
        if wanted.long_side is not None:
            _draft(image, region, wanted.long_side)
    image.load()
    # A plain image that shares the pixels: no open file, and no Exif block whose orientation is wrong by now.
    rgb = to_rgb(image._new(image.im))
    if region is not None or rgb.size != full:
        x1, y1, x2, y2 = stored_box(region or (0, 0, *upright_size(full, orientation)), full, orientation)
        across, down = rgb.width / full[0], rgb.height / full[1]
        rgb = _crop(rgb, (round(x1 * across), round(y1 * down), round(x2 * across), round(y2 * down)))
    if orientation != 1:
        rgb = rgb.transpose(TURNS[orientation])
    rgb.info = {}
    return rgb


def _draft(reader: JpegReader, region: _Region | None, long_side: int) -> None:
    """Have a JPEG decoded at the smallest of 1/2, 1/4, 1/8 that leaves its region twice as long as asked."""
    width, height = reader.size
    longest = max(region[2] - region[0], region[3] - region[1]) if region else max(width, height)
    for scale in (8, 4, 2):
        if longest >= scale * _DRAFT_MARGIN * long_side and min(width, height) >= scale:
            reader.draft(None, (width // scale, height // scale))
            return


def _region(box: Box | None, size: tuple[int, int], name: str) -> _Region | None:
    """Return the box in whole pixels of the upright picture, None for all of it."""
    if box is None:
        return None
    width, height = size
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


def _cut(image: Image.Image, box: Box | None) -> Image.Image:
    region = _region(box, image.size, ANONYMOUS)
    return image if region is None else _crop(image, region)


def _crop(image: Image.Image, region: _Region) -> Image.Image:
    """Copy a region; `Image.crop` would apply Pillow's process-wide pixel limit."""
    x1, y1, x2, y2 = region
    part = Image.new("RGB", (max(x2 - x1, 1), max(y2 - y1, 1)))
    part.paste(image, (-min(x1, image.width - 1), -min(y1, image.height - 1)))
    return part
