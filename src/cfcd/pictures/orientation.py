"""Exif orientation: how a picture was stored, and what that does to sizes and boxes."""

from __future__ import annotations

import struct

from PIL import Image

_TAG = 0x0112

# What turns a stored picture upright (Exif 2.32, section 4.6.4, tag Orientation).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """Return the orientation 1..8 of an opened image; 1 where it has none or its Exif block is broken."""
    stored = getattr(image, "stored_orientation", None)  # what `cfcd.pictures.tiff` found among the tags
    if stored is not None:
        return int(stored)
    block = image.info.get("exif")
    if block is None and (profile := image.info.get("Raw profile type exif")):  # PNG as ImageMagick writes it
        try:
            block = bytes.fromhex("".join(profile.split("\n")[3:]))
        except (AttributeError, ValueError):
            return 1
    return exif_orientation(block) if isinstance(block, bytes) else 1


def exif_orientation(block: bytes) -> int:
    """Return the orientation 1..8 from an Exif block, 1 where it has none or is broken.

    Read by hand (TIFF 6.0, section 2): Pillow's parser reads every tag, and warns about odd ones.
    """
    while block.startswith(b"Exif\0\0"):  # some writers put the prefix twice
        block = block[6:]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == _TAG:
                layout = {1: "B", 4: "I"}.get(kind, "H")
                value = int(struct.unpack_from(order + layout, block, entry + 8)[0])
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (width, height) after turning a stored picture upright."""
    return size if orientation < 5 else (size[1], size[0])


def stored_box(
    box: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Return where a box of the upright picture lies in the stored one.

    Args:
        box: (x1, y1, x2, y2) in pixels of the upright picture.
        size: (width, height) of the stored picture.
        orientation: 1..8.
    """
    x1, y1, x2, y2 = box
    width, height = size
    if orientation >= 5:
        x1, y1, x2, y2 = y1, x1, y2, x2
    if orientation in {2, 3, 7, 8}:
        x1, x2 = width - x2, width - x1
    if orientation in {3, 4, 6, 7}:
        y1, y2 = height - y2, height - y1
    return (x1, y1, x2, y2)
