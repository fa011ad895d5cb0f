"""Tell a file whose end is missing from a damaged one, and get the pixels that are there."""

from __future__ import annotations

import io
import os
import struct
from typing import Any, BinaryIO

from PIL import Image, ImageFile

from cfcd.errors import PictureError, PictureTooLarge, TruncatedPicture, UnreadablePicture
from cfcd.pictures.formats import sniff


def explain(error: Exception, stream: BinaryIO | None, name: str) -> PictureError:
    """Turn whatever a decoder raised into the typed error that says what is wrong with the file.

    Args:
        error: What the decoder raised.
        stream: The picture's bytes, still open; None for an image that the caller opened.
        name: How to name the picture.
    """
    if isinstance(error, PictureError):
        return error
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return PictureTooLarge(
            f"Cannot read {name}: it unpacks to more pixels than Pillow allows.", "Scale it down."
        )
    reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    if "MAX_TEXT" in reason:
        return PictureTooLarge(
            f"Cannot read {name}: a text or colour profile in it unpacks to too many bytes.",
            "Save it again without metadata.",
        )
    if is_cut(error, stream):
        return TruncatedPicture(
            f"Cannot read {name}: its end is missing ({reason}).",
            "Copy it again, or allow truncated pictures to take the part that is there.",
        )
    return UnreadablePicture(
        f"Cannot read {name}: it cannot be decoded ({reason}).", "Save it again, or leave it out."
    )


def is_cut(error: Exception, stream: BinaryIO | None) -> bool:
    """Tell whether a file that failed to decode lacks its end: by its decoder's word or its own structure."""
    words = str(error).lower()
    if "truncated" in words or "not enough image data" in words:
        return True
    if stream is None:
        return False
    stream.seek(0)
    kind = sniff(stream.read(16))
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 1024))
    tail = stream.read(1024)
    if kind in {"JPEG", "PNG", "GIF"}:
        return {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}[kind] not in tail
    return (promised_size(stream) or 0) > size


def promised_size(stream: BinaryIO) -> int | None:
    """Return how many bytes the file's own structure says it has, or None where it does not say."""
    stream.seek(0)
    head = stream.read(16)
    kind = sniff(head)
    try:
        if kind == "WEBP":
            return int(struct.unpack_from("<I", head, 4)[0]) + 8
        if kind == "BMP":
            return int(struct.unpack_from("<I", head, 2)[0])
        if kind in {"AVIF", "HEIF", "JPEG2000"}:
            return _boxes_size(stream)
        if kind == "TIFF":
            return _tiff_size(stream)
    except (struct.error, OSError, ValueError):
        pass
    return None


def _boxes_size(stream: BinaryIO) -> int:
    """Walk the boxes of an ISO base media file (ISO/IEC 14496-12 section 4.2) to the end of the last one."""
    at = 0
    while len(head := _read_at(stream, at, 16)) >= 8:
        (size,) = struct.unpack_from(">I", head)
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
        if size < 8:
            break
        at += size
    return at


def _tiff_size(stream: BinaryIO) -> int:
    """Return the end of the last strip, tile or directory of the first page (TIFF 6.0)."""
    head = _read_at(stream, 0, 8)
    order = "<" if head.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", head, 4)
    raw = _read_at(stream, start, 2)
    if len(raw) < 2:
        return int(start) + 2
    (count,) = struct.unpack(order + "H", raw)
    end = start + 2 + 12 * count + 4
    found: dict[int, tuple[int, ...]] = {}
    directory = _read_at(stream, start + 2, 12 * count)
    for entry in range(0, len(directory) - 11, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", directory, entry)
        if tag in {273, 279, 324, 325} and kind in {3, 4} and length <= 1 << 20:
            layout = f"{order}{length}{'H' if kind == 3 else 'I'}"
            width = struct.calcsize(layout)
            (where,) = struct.unpack_from(order + "I", directory, entry + 8)
            data = directory[entry + 8 : entry + 12][:width] if width <= 4 else _read_at(stream, where, width)
            if len(data) < width:
                return int(where + width)
            found[tag] = struct.unpack(layout, data)
    for offsets, lengths in ((273, 279), (324, 325)):
        ends = zip(found.get(offsets, ()), found.get(lengths, ()), strict=False)
        end = max([end, *(a + b for a, b in ends)])
    return int(end)


def _read_at(stream: BinaryIO, at: int, count: int) -> bytes:
    stream.seek(at)
    return stream.read(count)


def rescue(reader: ImageFile.ImageFile) -> bool:
    """Keep the rows that were decoded before the end of the file; tell whether there are any."""
    # With no tile left to decode, load() hands out the image memory as the failed decoding left it.
    # Pillow's own way, LOAD_TRUNCATED_IMAGES, is one switch for all threads.
    reader.tile = []
    try:
        reader.load()
    except Exception:  # nothing was decoded
        return False
    return True


def pad(stream: BinaryIO, max_bytes: int) -> BinaryIO | None:
    """Return a copy of a cut file filled with zeros to the size it promises, or None if it promises none."""
    size = promised_size(stream)
    if size is None or size > max_bytes:
        return None
    stream.seek(0)
    data: Any = stream.read()
    return io.BytesIO(data.ljust(size, b"\0")) if len(data) < size else None
