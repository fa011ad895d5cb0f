"""Picture files of every kind people have, whole and broken, made on the spot: no binary file is kept."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cfcd.errors import PictureError

RED, GREEN, BLUE, YELLOW = (220, 40, 30), (40, 180, 60), (30, 60, 210), (230, 210, 40)
WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (128, 128, 128)
SIZE = (48, 32)
# centres of the four quarters of the scene
TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT = (12, 8), (36, 8), (12, 24), (36, 24)
Points = dict[tuple[int, int], tuple[int, int, int]]
QUARTERS: Points = {TOP_LEFT: RED, TOP_RIGHT: GREEN, BOTTOM_LEFT: BLUE, BOTTOM_RIGHT: YELLOW}
TOP: Points = {TOP_LEFT: RED, TOP_RIGHT: GREEN}
BIG = (256, 256)
BIG_TOP: Points = {(64, 64): RED, (192, 64): GREEN}
BIG_ALL: Points = {**BIG_TOP, (64, 192): BLUE, (192, 250): YELLOW}


@dataclass(frozen=True)
class Case:
    """One file: what it holds, and what must come of it.

    `size` and `points` are of the upright picture; with `error`, they are what `allow_truncated` must give,
    and an empty `points` says that it must fail as well.
    """

    name: str
    make: Callable[[], bytes]
    size: tuple[int, int] = SIZE
    points: Points = field(default_factory=lambda: QUARTERS)
    tolerance: int = 0
    error: type[PictureError] | None = None


def differences(image: Image.Image, points: Points) -> dict[tuple[int, int], int]:
    """Return how far each point's colour is from what it should be."""
    colours = {at: zip(image.getpixel(at), colour, strict=True) for at, colour in points.items()}
    return {at: max(abs(is_ - should) for is_, should in pairs) for at, pairs in colours.items()}


def scene(size: tuple[int, int] = SIZE) -> Image.Image:
    """Return the test picture: red, green over blue, yellow."""
    width, height = size
    image = Image.new("RGB", size, YELLOW)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def noise() -> Image.Image:
    """Return a picture that does not compress: the scene with noise, large enough to be cut in its pixels."""
    pixels = np.asarray(scene(BIG)).astype(np.int16)
    pixels = pixels + np.random.default_rng(0).integers(-12, 13, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as the bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int, order: str = ">") -> bytes:
    """Return an Exif block (without its prefix) that holds an orientation and nothing else."""
    mark = b"MM" if order == ">" else b"II"
    head = mark + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def stored_as(image: Image.Image, orientation: int) -> Image.Image:
    """Return what a camera held this way stores, so that `orientation` turns it upright."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def png(
    size: tuple[int, int],
    depth: int,
    colour: int,
    rows: bytes,
    *,
    before: bytes = b"",
    after: bytes = b"",
    interlace: int = 0,
) -> bytes:
    """Return a PNG from its raw rows (each with its filter byte), with further chunks around the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlace))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(colour: int, *samples: int) -> bytes:
    """Return a PNG of one pixel from its 16-bit samples."""
    return png((1, 1), 16, colour, b"\0" + struct.pack(f">{len(samples)}H", *samples))


def interlaced() -> bytes:
    """Return the scene as an Adam7 PNG (PNG 3, section 8.1)."""
    values = np.asarray(scene())
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    rows = (row for x, y, across, down in passes for row in values[y::down, x::across])
    return png(SIZE, 8, 2, b"".join(b"\0" + row.tobytes() for row in rows), interlace=1)


def tiff(tags: dict[int, tuple[int, tuple[int, ...]]], pixels: bytes, order: str = "<") -> bytes:
    """Return a TIFF of one strip; a tag is (3 short | 4 long | 7 bytes, values), the strip's are added."""
    tags = {**tags, 273: (4, (8,)), 279: (4, (len(pixels),))}
    start = 8 + len(pixels) + len(pixels) % 2
    spill = start + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(order + f"{len(values)}" + {3: "H", 4: "I", 7: "B"}[kind], *values)
        if len(data) > 4:
            entries += struct.pack(order + "HHII", tag, kind, len(values), spill + len(extra))
            extra += data
        else:
            entries += struct.pack(order + "HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    directory = struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0"
    return head + pixels + b"\0" * (len(pixels) % 2) + directory + extra


def grey_tags(size: tuple[int, int], depth: int, *, photometric: int = 1, sample: int = 1) -> dict[int, Any]:
    """Return the tags of a grey TIFF."""
    short = {
        256: size[0],
        257: size[1],
        258: depth,
        259: 1,
        262: photometric,
        277: 1,
        278: size[1],
        339: sample,
    }
    return {tag: (3, (value,)) for tag, value in short.items()}


def halves(left: float, right: float, kind: str) -> np.ndarray:
    """Return (H, W) samples of the type `kind`: one value in the left half, another in the right."""
    values = np.full((SIZE[1], SIZE[0]), right, dtype=kind)
    values[:, : SIZE[0] // 2] = left
    return values


def grey(left: float, right: float, samples: str, kind: str, **options: Any) -> bytes:
    """Return `halves` as the bytes of a file."""
    return saved(Image.fromarray(halves(left, right, samples)), kind, **options)


def bits(kind: str, **options: Any) -> bytes:
    """Return a 1-bit file, black left and white right."""
    return saved(Image.fromarray(halves(0, 255, "u1")).convert("1"), kind, **options)


def shown(left: int, right: int) -> Points:
    """Return the points that `halves` must show."""
    return {TOP_LEFT: (left,) * 3, TOP_RIGHT: (right,) * 3, BOTTOM_LEFT: (left,) * 3}


def row(*greys: int) -> Points:
    """Return the points of the first row, where a negative grey stands for any."""
    return {(x, 0): (grey,) * 3 for x, grey in enumerate(greys) if grey >= 0}


def frames(kind: str, **options: Any) -> bytes:
    """Return a file of two pictures, the scene and then black."""
    return saved(scene(), kind, save_all=True, append_images=[Image.new("RGB", SIZE)], **options)


def clear() -> Image.Image:
    """Return the scene with its lower half transparent, its top right quarter half so."""
    image = scene().convert("RGBA")
    image.putalpha(255)
    image.paste((*GREEN, 128), (24, 0, 48, 16))
    image.paste((0, 0, 0, 0), (0, 16, 48, 32))
    return image


OVER_WHITE: Points = {TOP_LEFT: RED, TOP_RIGHT: (147, 217, 157), BOTTOM_LEFT: WHITE, BOTTOM_RIGHT: WHITE}


def palette(**options: Any) -> bytes:
    """Return a palette PNG of the scene."""
    return saved(scene().quantize(4), "PNG", **options)


def palette_clear(kind: str) -> bytes:
    """Return a palette picture whose lower half is clear: a clear colour (GIF) or an alpha for each (PNG)."""
    image = Image.new("P", SIZE)
    image.putpalette([*RED, *GREEN, *BLUE])
    image.paste(1, (24, 0, 48, 16))
    image.paste(2, (0, 16, 48, 32))
    alpha: Any = 2 if kind == "GIF" else bytes([255, 128, 0])
    return saved(image, kind, transparency=alpha)


def ycck() -> bytes:
    """Return an Adobe YCCK JPEG: a CMYK one that holds YCbCr of the inverted inks, its marker saying so."""
    coded = ImageOps.invert(scene()).convert("YCbCr").split()
    # Pillow writes 255 minus each band
    image = Image.merge("CMYK", [*map(ImageOps.invert, coded), Image.new("L", SIZE)])
    data = saved(image, "JPEG", quality=98)
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\x02" + data[at + 1 :]


def jpeg_with(data: bytes, marker: int = 0xE1) -> bytes:
    """Return the scene as JPEG with one more application block, APP1 unless said otherwise."""
    jpeg = saved(scene(), "JPEG", quality=95)
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


def jpeg_exif(block: bytes) -> bytes:
    """Return the scene as JPEG with an Exif block."""
    return jpeg_with(b"Exif\0\0" + block)


def jpeg_bits(depth: int) -> bytes:
    """Return a JPEG whose header tells another number of bits."""
    data = saved(scene(), "JPEG")
    return patched(data, data.index(b"\xff\xc0") + 4, bytes([depth]))


def png_with(before: bytes, after: bytes = b"") -> bytes:
    """Return the scene as PNG with more chunks around its pixels."""
    return png(
        SIZE, 8, 2, b"".join(b"\0" + row.tobytes() for row in np.asarray(scene())), before=before, after=after
    )


def turned(kind: str, orientation: int) -> bytes:
    """Return the scene stored in one of the eight orientations, with the tag that says so."""
    tag: dict[str, Any] = {"exif": b"Exif\0\0" + exif(orientation)}
    if kind == "TIFF":
        tag = {"tiffinfo": {274: orientation}}
    return saved(stored_as(scene(), orientation), kind, **tag, **({"quality": 95} if kind != "TIFF" else {}))


def late_exif() -> bytes:
    """Return a PNG whose Exif chunk (upside down) follows its pixels."""
    return png_with(b"", chunk(b"eXIf", exif(3)))


def exif_as_text(digits: str = "") -> bytes:
    """Return a PNG with Exif (upside down unless given) as ImageMagick used to write it."""
    digits = digits or exif(3).hex()
    text = f"\nexif\n{len(digits) // 2:8}\n{digits}\n".encode()
    return png_with(chunk(b"tEXt", b"Raw profile type exif\0" + text))


def bad_exif_tag() -> bytes:
    """Return a JPEG whose Exif makes Pillow warn: a text far longer than the block."""
    block = b"MM" + struct.pack(">HI", 42, 8) + struct.pack(">HHHII", 1, 0x010F, 2, 1 << 20, 8)
    return jpeg_exif(block)


def odd_tags() -> bytes:
    """Return a TIFF whose tags make Pillow warn: one value too many, and a block beyond the file's end."""
    short = {256: 48, 257: 32, 259: 1, 262: 2, 277: 3, 278: 32}
    tags: dict[int, Any] = {tag: (3, (value,)) for tag, value in short.items()}
    tags |= {258: (3, (8, 8, 8)), 296: (3, (2, 2)), 37510: (7, tuple(range(40)))}
    data = tiff(tags, scene().tobytes())
    at = data.index(struct.pack("<HHI", 37510, 7, 40))
    return patched(data, at + 8, struct.pack("<I", len(data) - 5))


def grey_tiff(left: int, right: int, order: str, photometric: int = 1) -> bytes:
    """Return 16-bit `halves` in either byte order."""
    return tiff(
        grey_tags(SIZE, 16, photometric=photometric), halves(left, right, order + "u2").tobytes(), order
    )


def twelve_bit() -> bytes:
    """Return a 4 x 2 grey TIFF of 12 bits: 0, 2056, 0, 0 over 0, 0, 0, 4095."""
    return tiff(grey_tags((4, 2), 12), b"\x00\x08\x08\x00\x00\x00" + b"\x00\x00\x00\x00\x0f\xff")


def cut(kind: str, mode: str = "RGB", *, lost: int = 0, **options: Any) -> bytes:
    """Return a file of noise without its last bytes: so many, or four in ten."""
    image = noise().quantize(200) if mode == "P" else noise().convert(mode)
    data = saved(image, kind, **options)
    return data[: len(data) - lost if lost else int(len(data) * 0.6)]


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """Return data with some bytes replaced."""
    return data[:at] + new + data[at + len(new) :]


def damaged_png() -> bytes:
    """Return a PNG whose compressed pixels are garbage."""
    data = saved(noise(), "PNG")
    return patched(data, len(data) // 2, b"\xa5" * 4000)


def huge_webp(*, alpha: bool = False, lossless: bool = False) -> bytes:
    """Return a WebP whose header, one of its three kinds, tells 16383 or 16384 pixels each way."""
    data = saved(clear() if alpha else scene(), "WEBP", lossless=lossless)
    if alpha:
        return patched(data, 24, b"\xff\x3f\0\xff\x3f\0")
    return patched(data, 21, b"\xff\xff\xff\x0f") if lossless else patched(data, 26, b"\xff\x3f\xff\x3f")


def huge_jpeg() -> bytes:
    """Return a JPEG whose header tells 65500 x 65500 pixels."""
    data = saved(scene(), "JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", 65500, 65500))


def huge_gif_frame() -> bytes:
    """Return a GIF whose frame tells 65535 x 65535 pixels on a small screen."""
    data = saved(scene(), "GIF")
    return patched(data, data.index(b",\0\0\0\0") + 5, b"\xff" * 4)


def huge_avif() -> bytes:
    """Return an AVIF whose header tells 20000 x 15000 pixels."""
    data = saved(scene(), "AVIF")
    return patched(data, data.index(b"ispe") + 8, struct.pack(">II", 20000, 15000))


def huge_bmp() -> bytes:
    """Return a BMP whose header tells 60000 x 60000 pixels."""
    return patched(saved(scene(), "BMP"), 18, struct.pack("<ii", 60000, 60000))


def huge_jp2() -> bytes:
    """Return a JPEG 2000 whose header tells 60000 x 60000 pixels."""
    data = saved(scene(), "JPEG2000")
    return patched(data, data.index(b"ihdr") + 4, struct.pack(">II", 60000, 60000))


def huge_tiff() -> bytes:
    """Return a TIFF whose header tells 60000 x 60000 pixels."""
    return tiff(grey_tags((60000, 60000), 8), bytes(1000))


def text_bomb() -> bytes:
    """Return a small PNG with a text that unpacks to 64 MB."""
    return png_with(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 26))))


def heic() -> bytes:
    """Return the head of a HEIC file."""
    return struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + struct.pack(">I", 64) + b"meta" + bytes(56)
