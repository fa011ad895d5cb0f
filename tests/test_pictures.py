"""Pictures: every file of the zoo gives the right pixels or the right error, whatever the thread or the bytes."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import picture_zoo as zoo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_zoo import Case, frames, grey, noise, row, saved, scene, shown
from PIL import Image, ImageFile

from cfcd.errors import PictureError, PictureTooLarge, TruncatedPicture, UnreadablePicture, UsageError
from cfcd.pictures import IMAGE_SUFFIXES, PictureLimits, load_picture, picture_size
from cfcd.pictures.orientation import exif_orientation, stored_box

PHOTOS = Path(__file__).resolve().parents[1].parent / "shared" / "photos"

# fmt: off
WHOLE = [
    Case("jpeg", lambda: saved(scene(), "JPEG", quality=95), tolerance=4),
    Case("jpeg progressive", lambda: saved(scene(), "JPEG", quality=95, progressive=True), tolerance=4),
    Case("jpeg grey", lambda: grey(7, 200, "u1", "JPEG"), points=shown(7, 200), tolerance=2),
    Case("jpeg cmyk", lambda: saved(scene().convert("CMYK"), "JPEG", quality=98), tolerance=4),
    Case("jpeg ycck", zoo.ycck, tolerance=6),
    Case("jpeg of two pictures", lambda: frames("MPO", quality=95), tolerance=4),
    Case("png", lambda: saved(scene(), "PNG")),
    Case("png interlaced", zoo.interlaced),
    Case("png 1 bit", lambda: zoo.bits("PNG"), points=shown(0, 255)),
    Case("png grey", lambda: grey(7, 200, "u1", "PNG"), points=shown(7, 200)),
    Case("png grey 2 bit", lambda: zoo.png((4, 1), 2, 0, b"\0\x1b"), (4, 1), row(0, 85, 170, 255)),
    Case("png grey 16 bit", lambda: grey(1000, 60000, "u2", "PNG"), points=shown(4, 233)),
    Case("png grey alpha", lambda: zoo.png((2, 1), 8, 4, b"\0\x64\x33\x64\xff"), (2, 1), row(224, 100)),
    Case("png grey alpha 16 bit", lambda: zoo.png((2, 1), 16, 4, b"\0" + struct.pack(">4H", 25700, 65535, 0, 0)),
         (2, 1), row(100, 255)),
    Case("png grey, one clear", lambda: grey(7, 200, "u1", "PNG", transparency=7), points=shown(255, 200)),
    Case("png 16 bit, one clear", lambda: grey(7, 60000, "u2", "PNG", transparency=7), points=shown(255, 233)),
    Case("png rgb, one clear", lambda: saved(scene(), "PNG", transparency=zoo.RED),
         points={**zoo.QUARTERS, zoo.TOP_LEFT: zoo.WHITE}),
    Case("png rgb 16 bit", lambda: zoo.png((1, 1), 16, 2, b"\0" + struct.pack(">3H", 65535, 25700, 257)), (1, 1),
         {(0, 0): (255, 100, 1)}),
    Case("png rgba", lambda: saved(zoo.transparent(), "PNG"), points=zoo.OVER_WHITE, tolerance=1),
    Case("png rgba 16 bit", lambda: zoo.png((1, 1), 16, 6, b"\0" + struct.pack(">4H", 25700, 0, 0, 65535)), (1, 1),
         {(0, 0): (100, 0, 0)}),
    Case("png palette", zoo.palette),
    Case("png palette, alphas", lambda: zoo.palette_clear("PNG"), points=zoo.OVER_WHITE, tolerance=1),
    Case("png animated", lambda: frames("PNG")),
    Case("gif", lambda: saved(scene(), "GIF")),
    Case("gif, one clear", lambda: zoo.palette_clear("GIF"), points={**zoo.TOP, zoo.BOTTOM_LEFT: zoo.WHITE}),
    Case("gif animated", lambda: frames("GIF")),
    Case("webp", lambda: saved(scene(), "WEBP", quality=95), tolerance=4),
    Case("webp lossless", lambda: saved(scene(), "WEBP", lossless=True)),
    Case("webp alpha", lambda: saved(zoo.transparent(), "WEBP", lossless=True), points=zoo.OVER_WHITE, tolerance=1),
    Case("webp animated", lambda: frames("WEBP", lossless=True)),
    Case("avif", lambda: saved(scene(), "AVIF", quality=95), tolerance=4),
    Case("avif alpha", lambda: saved(zoo.transparent(), "AVIF", quality=95), points=zoo.OVER_WHITE, tolerance=4),
    Case("avif animated", lambda: frames("AVIF", quality=95), tolerance=4),
    Case("bmp", lambda: saved(scene(), "BMP")),
    Case("bmp palette", lambda: saved(scene().quantize(4), "BMP")),
    Case("bmp 1 bit", lambda: zoo.bits("BMP"), points=shown(0, 255)),
    Case("tiff", lambda: saved(scene(), "TIFF")),
    Case("tiff of two pages", lambda: frames("TIFF")),
    Case("tiff lzw", lambda: saved(scene(), "TIFF", compression="tiff_lzw")),
    Case("tiff deflate", lambda: saved(scene(), "TIFF", compression="tiff_adobe_deflate")),
    Case("tiff jpeg", lambda: saved(scene(), "TIFF", compression="jpeg", quality=95), tolerance=4),
    Case("tiff fax", lambda: zoo.bits("TIFF", compression="group4"), points=shown(0, 255)),
    Case("tiff cmyk", lambda: saved(scene().convert("CMYK"), "TIFF"), tolerance=1),
    Case("tiff lab", lambda: saved(scene().convert("LAB"), "TIFF"), tolerance=3),
    Case("tiff rgba", lambda: saved(zoo.transparent(), "TIFF"), points=zoo.OVER_WHITE, tolerance=1),
    Case("tiff 16 bit", lambda: grey(1000, 60000, "u2", "TIFF"), points=shown(4, 233)),
    Case("tiff 16 bit lzw", lambda: grey(1000, 60000, "u2", "TIFF", compression="tiff_lzw"), points=shown(4, 233)),
    Case("tiff 16 bit big-endian", lambda: zoo.grey_tiff(1000, 60000, ">"), points=shown(4, 233)),
    Case("tiff 16 bit, 0 is white", lambda: zoo.grey_tiff(1000, 60000, "<", 0), points=shown(251, 22)),
    Case("tiff 12 bit", zoo.twelve_bit, (4, 2), {**row(0, 128, 0, 0), (3, 1): zoo.WHITE}),
    Case("tiff 32 bit, 16 used", lambda: grey(1000, 60000, "i4", "TIFF"), points=shown(4, 233)),
    Case("tiff 32 bit", lambda: grey(-(2**31), 2**31 - 1, "i4", "TIFF"), points=shown(0, 255)),
    Case("tiff float 0..1", lambda: grey(0, 0.4, "f4", "TIFF"), points=shown(0, 102)),
    Case("tiff float overshoot", lambda: grey(-0.1, 1.04, "f4", "TIFF"), points=shown(0, 255)),
    Case("tiff float 0..255", lambda: grey(20, 200, "f4", "TIFF"), points=shown(20, 200)),
    Case("tiff float other", lambda: grey(-5, 3000, "f4", "TIFF"), points=shown(0, 255)),
    Case("tiff float with NaN", lambda: grey(float("nan"), 0.5, "f4", "TIFF"), points=shown(128, 128)),
    Case("tiff all NaN", lambda: grey(float("nan"), float("nan"), "f4", "TIFF"), points=shown(0, 0)),
    Case("tiff with odd tags", zoo.odd_tags),
    Case("ppm", lambda: saved(scene(), "PPM")),
    Case("ppm plain", lambda: b"P3 2 1 255\n# a comment\n9 9 9  70 70 70\n", (2, 1), row(9, 70)),
    Case("pgm 16 bit", lambda: b"P5 2 1 65535\n" + struct.pack(">HH", 1000, 60000), (2, 1), row(4, 233)),
    Case("pgm 10 bit", lambda: b"P5 2 1 1023\n" + struct.pack(">HH", 0, 1023), (2, 1), row(0, 255)),
    Case("pbm", lambda: b"P4 8 1\n\xf0", (8, 1), row(0, 0, 0, 0, 255, 255, 255, 255)),
    Case("pfm", lambda: b"Pf\n2 1\n-1.0\n" + struct.pack("<ff", 0, 0.4), (2, 1), row(0, 102)),
    Case("jpeg 2000", lambda: saved(scene(), "JPEG2000"), tolerance=1),
    Case("jpeg 2000 stream", lambda: saved(scene(), "JPEG2000", no_jp2=True), tolerance=1),
    Case("jpeg 2000 16 bit", lambda: grey(1000, 60000, "u2", "JPEG2000"), points=shown(4, 233)),
]

TURNED = [
    Case(f"{kind} orientation {turn}", lambda kind=kind, turn=turn, options=options: zoo.turned(kind, turn, **options),
         tolerance=6)
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}),
                          ("AVIF", {"quality": 95}))
    for turn in range(1, 9)
]

# Exif that says nothing, or nonsense, leaves the picture as it is stored
ODD_EXIF = [
    Case("exif little-endian", lambda: zoo.jpeg_with(b"Exif\0\0" + zoo.exif(3, "<")), tolerance=4, points={
        zoo.TOP_LEFT: zoo.YELLOW, zoo.BOTTOM_RIGHT: zoo.RED}),
    Case("exif prefix twice", lambda: zoo.jpeg_with(b"Exif\0\0Exif\0\0" + zoo.exif(3)), tolerance=4, points={
        zoo.TOP_LEFT: zoo.YELLOW, zoo.BOTTOM_RIGHT: zoo.RED}),
    Case("exif after the pixels", zoo.late_exif, points={zoo.TOP_LEFT: zoo.YELLOW, zoo.BOTTOM_RIGHT: zoo.RED}),
    Case("exif as text in png", zoo.exif_as_text, points={zoo.TOP_LEFT: zoo.YELLOW, zoo.BOTTOM_RIGHT: zoo.RED}),
    *(Case(f"exif orientation {turn}", lambda turn=turn: zoo.jpeg_with(b"Exif\0\0" + zoo.exif(turn)), tolerance=4)
      for turn in (0, 9, 65535)),
    *(Case(f"exif cut to {size}", lambda size=size: zoo.jpeg_with(b"Exif\0\0" + zoo.exif(3)[:size]), tolerance=4)
      for size in (0, 1, 5, 9, 15, 17)),
    Case("exif pointing nowhere", lambda: zoo.jpeg_with(b"Exif\0\0MM\0*\xff\xff\xff\xff"), tolerance=4),
    Case("exif with a bad tag", zoo.bad_exif_tag, tolerance=4),
    Case("exif garbage in png", lambda: zoo.png_with(zoo.chunk(b"eXIf", b"garbage"))),
    Case("exif garbage in webp", lambda: saved(scene(), "WEBP", lossless=True, exif=b"garbage")),
    Case("exif text garbage in png", lambda: zoo.png_with(zoo.chunk(b"tEXt", b"Raw profile type exif\0\nexif\n9\nxyz"))),
    Case("mpo index garbage", lambda: zoo.jpeg_with(b"MPF\0garbage", 0xE2), tolerance=4),
    Case("animation garbage in png", lambda: zoo.png_with(zoo.chunk(b"acTL", bytes(8)))),
]

# `points` are what allow_truncated must still show
CUT = [
    Case("cut jpeg", lambda: zoo.cut("JPEG", quality=95), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut jpeg cmyk", lambda: zoo.cut("JPEG", "CMYK"), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut jpeg progressive", lambda: zoo.cut("JPEG", progressive=True), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut jpeg by its end mark", lambda: zoo.cut("JPEG", lost=2), zoo.BIG, zoo.BIG_ALL, 30, TruncatedPicture),
    Case("cut jpeg header", lambda: zoo.cut("JPEG")[:100], points={}, error=TruncatedPicture),
    Case("cut png", lambda: zoo.cut("PNG"), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut png palette", lambda: zoo.cut("PNG", "P"), zoo.BIG, zoo.BIG_TOP, 60, TruncatedPicture),
    Case("cut png header", lambda: zoo.cut("PNG")[:30], points={}, error=TruncatedPicture),
    Case("cut gif", lambda: zoo.cut("GIF", "P"), zoo.BIG, zoo.BIG_TOP, 60, TruncatedPicture),
    Case("cut webp", lambda: zoo.cut("WEBP"), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut webp lossless", lambda: zoo.cut("WEBP", lossless=True), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut avif", lambda: zoo.cut("AVIF", quality=90), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut bmp", lambda: zoo.cut("BMP"), zoo.BIG, {(64, 192): zoo.BLUE}, 30, TruncatedPicture),
    Case("cut tiff", lambda: zoo.cut("TIFF"), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut tiff lzw", lambda: zoo.cut("TIFF", compression="tiff_lzw"), points={}, error=TruncatedPicture),
    Case("cut tiff jpeg by little", lambda: zoo.cut("TIFF", lost=2, compression="jpeg"), zoo.BIG, zoo.BIG_ALL, 30,
         TruncatedPicture),
    Case("cut ppm", lambda: zoo.cut("PPM"), zoo.BIG, zoo.BIG_TOP, 30, TruncatedPicture),
    Case("cut ppm plain", lambda: b"P3 2 2 255\n9 9 9  70 70 70 1", (2, 2), row(9, 70), 0, TruncatedPicture),
    Case("cut jpeg 2000", lambda: zoo.cut("JPEG2000"), zoo.BIG, zoo.BIG_ALL, 30, TruncatedPicture),
    Case("cut jpeg 2000 stream", lambda: zoo.cut("JPEG2000", no_jp2=True), points={}, error=TruncatedPicture),
]

BROKEN = [
    Case("empty", lambda: b"", points={}, error=UnreadablePicture),
    Case("text", lambda: b"this is no picture\n", points={}, error=UnreadablePicture),
    Case("web page", lambda: b"<!DOCTYPE html><html></html>", points={}, error=UnreadablePicture),
    Case("zeros", lambda: bytes(1000), points={}, error=UnreadablePicture),
    Case("heic without its package", zoo.heic, points={}, error=UnreadablePicture),
    Case("png damaged", lambda: zoo.damaged_png(), points={}, error=UnreadablePicture),
    Case("png checksum", lambda: zoo.patched(saved(scene(), "PNG"), 29, b"\0"), points={}, error=UnreadablePicture),
    Case("gif without a picture", lambda: b"GIF89a\1\0\1\0\0\0\0;", points={}, error=UnreadablePicture),
    Case("bmp of no size", lambda: zoo.patched(saved(scene(), "BMP"), 18, bytes(4)), points={}, error=UnreadablePicture),
    Case("tiff of odd samples", lambda: zoo.grey_tiff(0, 1, "<", 9), points={}, error=UnreadablePicture),
    Case("jpeg of 12 bits", lambda: zoo.jpeg_bits(12), points={}, error=UnreadablePicture),
    Case("ppm of letters", lambda: b"P6 a b 255\n", points={}, error=UnreadablePicture),
]

BOMBS = [
    Case("jpeg bomb", zoo.huge_jpeg, points={}, error=PictureTooLarge),
    Case("png bomb", lambda: zoo.png((60000, 60000), 1, 0, bytes(1000)), points={}, error=PictureTooLarge),
    Case("png text bomb", zoo.text_bomb, points={}, error=PictureTooLarge),
    Case("gif bomb", lambda: zoo.patched(saved(scene(), "GIF"), 6, b"\xff" * 4), points={}, error=PictureTooLarge),
    Case("gif frame bomb", zoo.huge_gif_frame, points={}, error=PictureTooLarge),
    Case("webp bomb", lambda: zoo.patched(zoo.webp_x(), 24, b"\xff\xff\0\xff\xff\0"), points={}, error=PictureTooLarge),
    Case("webp lossless bomb", lambda: zoo.patched(saved(scene(), "WEBP", lossless=True), 21, b"\xff\xff\xff\x0f"),
         points={}, error=PictureTooLarge),
    Case("webp lossy bomb", lambda: zoo.patched(saved(scene(), "WEBP"), 26, b"\xff\x3f\xff\x3f"), points={},
         error=PictureTooLarge),
    Case("avif bomb", zoo.huge_avif, points={}, error=PictureTooLarge),
    Case("bmp bomb", lambda: zoo.patched(saved(scene(), "BMP"), 18, struct.pack("<ii", 60000, 60000)), points={},
         error=PictureTooLarge),
    Case("tiff bomb", zoo.huge_tiff, points={}, error=PictureTooLarge),
    Case("ppm bomb", lambda: b"P6 60000 60000 255\n", points={}, error=PictureTooLarge),
    Case("jpeg 2000 bomb", zoo.huge_jp2, points={}, error=PictureTooLarge),
]
# fmt: on
ZOO = [*WHOLE, *TURNED, *ODD_EXIF, *CUT, *BROKEN, *BOMBS]


def differences(image: Image.Image, points: zoo.Points) -> dict[tuple[int, int], int]:
    return {
        at: max(abs(a - b) for a, b in zip(image.getpixel(at), colour, strict=True))
        for at, colour in points.items()
    }


@pytest.mark.parametrize("case", ZOO, ids=lambda case: case.name)
def test_every_file_of_the_zoo_gives_its_pixels_or_its_error(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = case.make()
    path = tmp_path / f"{case.name}.jpg"  # the suffix never matters
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data)):
        if case.error:
            with pytest.raises(case.error) as caught:
                load_picture(source)
            assert type(caught.value) is case.error
            named = str(path) if isinstance(source, (str, Path)) else "the picture"
            assert named in caught.value.what
            assert caught.value.mend.endswith(".")
            if not case.points:
                with pytest.raises(case.error):
                    load_picture(source, allow_truncated=True)
                continue
            image = load_picture(source, allow_truncated=True)
        else:
            image = load_picture(source)
        assert type(image) is Image.Image
        assert image.mode == "RGB"
        assert image.size == case.size == picture_size(source)
        assert max(differences(image, case.points).values()) <= case.tolerance, differences(image, case.points)
        assert not image.getexif(), "a second turn upright would undo the first"


def test_no_file_of_the_zoo_warns_or_changes_what_other_threads_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        for case in ZOO:
            try:
                load_picture(case.make(), allow_truncated=True)
            except PictureError:
                assert case.error, case.name
        assert warnings.filters == filters
    assert [str(warning.message) for warning in caught] == []
    assert (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS) == before
