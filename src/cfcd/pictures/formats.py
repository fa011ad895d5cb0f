"""Which decoder reads which bytes, and the corners of Pillow's decoders that need another behaviour."""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import BinaryIO

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from cfcd.errors import UnreadablePicture
from cfcd.pictures.sources import PictureLimits, check_pixels

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


class JpegReader(JpegImageFile):
    """Read a JPEG, past a missing end if asked; its Exif block is not searched for a resolution."""

    tolerant = False

    def _read_dpi_from_exif(self) -> None:
        pass

    def load_read(self, read_bytes: int) -> bytes:
        """Give an end marker once the file is over, so that libjpeg fills the missing rows with grey."""
        data = super().load_read(read_bytes)
        if data or not self.tolerant:
            return data
        # Pillow's own way is LOAD_TRUNCATED_IMAGES, one switch for all threads at once.
        self.tolerant = False
        return b"\xff\xd9"


_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    *((b"P" + digit, "PPM") for digit in (b"1", b"2", b"3", b"4", b"5", b"6", b"f")),
)


def sniff(head: bytes) -> str | None:
    """Name the format of a file from its first bytes (16 or, to tell AVIF from HEIF, more), or None."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        if head[8:12] in _AVIF_BRANDS or (head[8:12] == b"mif1" and b"avif" in head[16:]):
            return "AVIF"
        return "HEIF" if head[8:12] in _HEIF_BRANDS else None
    return None


# Imported when the first such file comes: most runs see JPEG only.
_READERS = {
    "PNG": ("cfcd.pictures.png", "PngReader"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "TIFF": ("cfcd.pictures.tiff", "TiffReader"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "JPEG2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "PPM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "HEIF": ("pillow_heif", "HeifImageFile"),
}


def _reader_class(kind: str, name: str) -> type[ImageFile.ImageFile]:
    module, attribute = _READERS[kind]
    try:
        reader: type[ImageFile.ImageFile] = getattr(import_module(module), attribute)
    except ImportError as error:
        raise UnreadablePicture(
            f"Cannot read {name}: {kind} pictures need a package that is not installed.",
            "Run `pip install pillow-heif`.",
        ) from error
    return reader


_WARNINGS_LOCK = threading.Lock()


@contextmanager
def _quiet_header() -> Iterator[None]:
    """Drop Pillow's warnings about odd metadata and many pixels while a header is read.

    The list of filters belongs to the whole process: the lock keeps our own threads from mixing theirs up,
    and the filters are so narrow that whatever another thread sees of them does no harm.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.(Tiff|Png)ImagePlugin")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def open_reader(stream: BinaryIO, name: str, limits: PictureLimits) -> ImageFile.ImageFile:
    """Read the header of a picture: a Pillow image whose pixels are not decoded yet.

    The decoder is called directly: `Image.open` would try every format Pillow has (some run other programs)
    and applies its own process-wide pixel limit.

    Raises:
        UnreadablePicture: The bytes start like no known format, or need a package that is not installed.
        PictureTooLarge: The header tells more pixels than `limits.max_pixels`.
        Exception: Anything a decoder raises on a damaged header.
    """
    head = stream.read(64)
    stream.seek(0)
    kind = sniff(head)
    # No file name: Pillow would map the file, and a file that is cut while mapped kills the process.
    if kind == "JPEG":
        reader: ImageFile.ImageFile = JpegReader(stream, "")
    elif kind is None:
        raise _unknown_format(head, name)
    else:
        if kind in {"WEBP", "AVIF", "HEIF"}:
            # their decoders take memory, or fail without saying why, before they tell the size
            check_pixels(_told_size(kind, stream.read(4096)), name, limits)
            stream.seek(0)
        reader_class = _reader_class(kind, name)
        noisy = kind in {"TIFF", "AVIF", "GIF"} or b"acTL" in head
        with _quiet_header() if noisy else nullcontext():
            reader = reader_class(stream, "")
    check_pixels(reader.size, name, limits)
    return reader


def _unknown_format(head: bytes, name: str) -> UnreadablePicture:
    text = head.isascii() and not head.strip(b"\t\n\r").translate(None, bytes(range(32, 127)))
    what = "it holds text" if text else "its first bytes are those of no known picture format"
    return UnreadablePicture(f"Cannot read {name}: {what}.", "Save it as JPEG or PNG, or leave it out.")


def _told_size(kind: str, head: bytes) -> tuple[int, int]:
    """Read (width, height) from the start of a WebP (RFC 9649), AVIF or HEIF file (ISO/IEC 23008-12, ispe).

    (0, 0) where it is not told there.
    """
    if kind != "WEBP":
        boxes = (found.end() + 4 for found in re.finditer(b"ispe", head) if found.end() + 12 <= len(head))
        sizes = [struct.unpack_from(">II", head, at) for at in boxes]
        return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    if len(head) < 30:
        return (0, 0)
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF
