"""Tell a file whose end is missing from a damaged one, and get the pixels that are there."""

from __future__ import annotations

import io
import os
import struct
from typing import BinaryIO

from PIL import Image, ImageFile

from cfcd.errors import PictureError, PictureTooLarge, TruncatedPicture, UnreadablePicture
from cfcd.pictures.formats import sniff

_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}
# How many times the bytes that are there a file may be filled up to: a few bytes that promise a huge file
# shall not take its memory.
_MOST_FILLING = 16
# bytes of one value by TIFF type; one for those not named
_TIFF_WIDTHS = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
# tags of where strips and tiles start: tags of how long they are
_TIFF_PLACES = {273: 279, 324: 325}
_TIFF_TABLES = {*_TIFF_PLACES, *_TIFF_PLACES.values()}


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
            f"Cannot read {name}: its end is missing.",
            "Copy it again, or allow truncated pictures (--allow-truncated) to take the part that is there.",
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
    try:
        size = stream.seek(0, os.SEEK_END)
        kind = sniff(_read_at(stream, 0, 16))
        if kind in _END_MARKS:
            return _END_MARKS[kind] not in _read_at(stream, max(0, size - 1024), 1024)
        return (promised_size(stream) or 0) > size
    except Exception:  # a failing disk, a caller's odd file object: the first error says more
        return False


def promised_size(stream: BinaryIO) -> int | None:
    """Return how many bytes the file's own structure says it has, or None where it does not say."""
    head = _read_at(stream, 0, 16)
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
    """Return where the first page ends: the last byte of its strips, tiles and tags (TIFF 6.0, section 2)."""
    head = _read_at(stream, 0, 8)
    order = "<" if head.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", head, 4)
    raw = _read_at(stream, start, 2)
    if len(raw) < 2:
        return int(start) + 2
    (count,) = struct.unpack(order + "H", raw)
    directory = _read_at(stream, start + 2, 12 * count)
    ends = [start + 2 + 12 * count + 4]
    found: dict[int, tuple[int, ...]] = {}
    for entry in range(0, len(directory) - 11, 12):
        tag, kind, length, where = struct.unpack_from(order + "HHII", directory, entry)
        width = length * _TIFF_WIDTHS.get(kind, 1)
        if width > 4:
            ends.append(where + width)
        if tag in _TIFF_TABLES and kind in {3, 4} and length <= 1 << 20:
            data = _read_at(stream, where, width) if width > 4 else directory[entry + 8 : entry + 8 + width]
            if len(data) == width:
                found[tag] = struct.unpack(f"{order}{length}{'H' if kind == 3 else 'I'}", data)
    for offsets, lengths in _TIFF_PLACES.items():
        ends += [a + b for a, b in zip(found.get(offsets, ()), found.get(lengths, ()), strict=False)]
    return int(max(ends))


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
        return any(low != high for low, high in (band.getextrema() for band in reader.split()))
    except Exception:  # no memory was taken yet
        return False


def pad(stream: BinaryIO, max_bytes: int) -> BinaryIO | None:
    """Return a copy of a cut file filled up to the size it promises, or None if it promises none.

    Decoders that want the whole file (WebP, AVIF, JPEG 2000) then give what the first part holds.
    """
    size = promised_size(stream)
    if size is None or size > max_bytes:
        return None
    data = _read_at(stream, 0, -1)
    if not len(data) < size <= len(data) * _MOST_FILLING:
        return None
    end = b"\xff\xd9" if sniff(data[:16]) == "JPEG2000" else b""  # it looks for its end marker
    size -= len(end)
    return io.BytesIO(data[:size].ljust(size, b"\0") + end)
