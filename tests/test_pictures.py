"""Every file of the zoo gives the right pixels or the right error, whatever the thread and the bytes."""

from __future__ import annotations

import io
import struct
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

import picture_zoo as zoo
from cfcd.errors import PictureError, PictureTooLarge, TruncatedPicture, UnreadablePicture
from cfcd.pictures import PictureLimits, load_picture, picture_size
from cfcd.pictures.orientation import exif_orientation
from picture_zoo import Case, frames, grey, noise, row, saved, scene, shown


def lost_end(
    name: str, kind: str, mode: str = "RGB", *, points: zoo.Points = zoo.BIG_TOP, **options: Any
) -> Case:
    apart = 60 if mode == "P" else 30  # the noise, and the colours of a palette
    return Case(
        f"cut {name}", lambda: zoo.cut(kind, mode, **options), zoo.BIG, points, apart, TruncatedPicture
    )


def fails(name: str, make: Callable[[], bytes], error: type[PictureError]) -> Case:
    return Case(name, make, points={}, error=error)


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
    Case("png grey alpha 16 bit", lambda: zoo.png16(4, 25700, 65535), (1, 1), row(100)),
    Case("png grey, one clear", lambda: grey(7, 200, "u1", "PNG", transparency=7), points=shown(255, 200)),
    Case("png 16 bit, a clear", lambda: grey(7, 60000, "u2", "PNG", transparency=7), points=shown(255, 233)),
    Case("png rgb, one clear", lambda: saved(scene(), "PNG", transparency=zoo.RED),
         points={**zoo.QUARTERS, zoo.TOP_LEFT: zoo.WHITE}),
    Case("png rgb 16 bit", lambda: zoo.png16(2, 65535, 25700, 257), (1, 1), {(0, 0): (255, 100, 1)}),
    Case("png rgba", lambda: saved(zoo.clear(), "PNG"), points=zoo.OVER_WHITE, tolerance=1),
    Case("png rgba 16 bit", lambda: zoo.png16(6, 25700, 0, 0, 65535), (1, 1), {(0, 0): (100, 0, 0)}),
    Case("png palette", zoo.palette),
    Case("png palette, alphas", lambda: zoo.palette_clear("PNG"), points=zoo.OVER_WHITE, tolerance=1),
    Case("png animated", lambda: frames("PNG")),
    Case("gif", lambda: saved(scene(), "GIF")),
    Case("gif, one clear", lambda: zoo.palette_clear("GIF"), points={**zoo.TOP, zoo.BOTTOM_LEFT: zoo.WHITE}),
    Case("gif animated", lambda: frames("GIF")),
    Case("webp", lambda: saved(scene(), "WEBP", quality=95), tolerance=4),
    Case("webp lossless", lambda: saved(scene(), "WEBP", lossless=True)),
    Case("webp alpha", lambda: saved(zoo.clear(), "WEBP", lossless=True), points=zoo.OVER_WHITE, tolerance=1),
    Case("webp animated", lambda: frames("WEBP", lossless=True)),
    Case("avif", lambda: saved(scene(), "AVIF", quality=95), tolerance=4),
    Case("avif alpha", lambda: saved(zoo.clear(), "AVIF", quality=95), points=zoo.OVER_WHITE, tolerance=4),
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
    Case("tiff rgba", lambda: saved(zoo.clear(), "TIFF"), points=zoo.OVER_WHITE, tolerance=1),
    Case("tiff 16 bit", lambda: grey(1000, 60000, "u2", "TIFF"), points=shown(4, 233)),
    Case("tiff 16 bit lzw", lambda: grey(1000, 60000, "u2", "TIFF", compression="tiff_lzw"),
         points=shown(4, 233)),
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
    Case(f"{kind} orientation {turn}", lambda kind=kind, turn=turn: zoo.turned(kind, turn), tolerance=12)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
    for turn in range(1, 9)
]

DOWN = {zoo.TOP_LEFT: zoo.YELLOW, zoo.BOTTOM_RIGHT: zoo.RED}
# Exif that says nothing, or nonsense, leaves the picture as it is stored
ODD_EXIF = [
    Case("exif little-endian", lambda: zoo.jpeg_exif(zoo.exif(3, "<")), points=DOWN, tolerance=4),
    Case("exif prefix twice", lambda: zoo.jpeg_exif(b"Exif\0\0" + zoo.exif(3)), points=DOWN, tolerance=4),
    Case("exif after the pixels", zoo.late_exif, points=DOWN),
    Case("exif as text in png", zoo.exif_as_text, points=DOWN),
    *(Case(f"exif orientation {turn}", lambda turn=turn: zoo.jpeg_exif(zoo.exif(turn)), tolerance=4)
      for turn in (0, 9, 65535)),
    *(Case(f"exif cut to {size}", lambda size=size: zoo.jpeg_exif(zoo.exif(3)[:size]), tolerance=4)
      for size in (0, 1, 5, 9, 15, 17)),
    Case("exif pointing nowhere", lambda: zoo.jpeg_exif(b"MM\0*\xff\xff\xff\xff"), tolerance=4),
    Case("exif with a bad tag", zoo.bad_exif_tag, tolerance=4),
    Case("exif garbage in png", lambda: zoo.png_with(zoo.chunk(b"eXIf", b"garbage"))),
    Case("exif garbage in webp", lambda: saved(scene(), "WEBP", lossless=True, exif=b"garbage")),
    Case("exif text garbage in png", lambda: zoo.exif_as_text("xyz")),
    Case("mpo index garbage", lambda: zoo.jpeg_with(b"MPF\0garbage", 0xE2), tolerance=4),
    Case("animation garbage in png", lambda: zoo.png_with(zoo.chunk(b"acTL", bytes(8)))),
]

# points are what allow_truncated must still show; without any it must fail as well
CUT = [
    lost_end("jpeg", "JPEG", quality=95),
    lost_end("jpeg cmyk", "JPEG", "CMYK"),
    lost_end("jpeg progressive", "JPEG", progressive=True, points=zoo.BIG_ALL),
    lost_end("jpeg by its end mark", "JPEG", lost=2, points=zoo.BIG_ALL),
    lost_end("png", "PNG"),
    lost_end("png palette", "PNG", "P"),
    lost_end("gif", "GIF", "P"),
    lost_end("webp", "WEBP"),
    lost_end("webp lossless", "WEBP", lossless=True),
    lost_end("avif", "AVIF", quality=90),
    lost_end("bmp", "BMP", points={(64, 192): zoo.BLUE}),
    lost_end("tiff", "TIFF"),
    lost_end("tiff jpeg by little", "TIFF", lost=2, compression="jpeg", points=zoo.BIG_ALL),
    lost_end("ppm", "PPM"),
    lost_end("jpeg 2000", "JPEG2000", points=zoo.BIG_ALL),
    Case("cut ppm plain", lambda: b"P3 2 2 255\n9 9 9  70 70 70 1", (2, 2), row(9, 70), 0, TruncatedPicture),
    fails("cut jpeg header", lambda: zoo.cut("JPEG")[:100], TruncatedPicture),
    fails("cut bmp before its pixels", lambda: zoo.cut("BMP")[:60], TruncatedPicture),
    fails("cut png header", lambda: zoo.cut("PNG")[:30], TruncatedPicture),
    fails("cut tiff lzw", lambda: zoo.cut("TIFF", compression="tiff_lzw"), TruncatedPicture),
    fails("cut jpeg 2000 stream", lambda: zoo.cut("JPEG2000", no_jp2=True), TruncatedPicture),
    fails("cut webp, much promised", lambda: zoo.patched(zoo.cut("WEBP"), 4, b"\0\0\0\t"), TruncatedPicture),
]

BROKEN = [
    fails("empty", lambda: b"", UnreadablePicture),
    fails("text", lambda: b"this is no picture\n", UnreadablePicture),
    fails("web page", lambda: b"<!DOCTYPE html><html></html>", UnreadablePicture),
    fails("zeros", lambda: bytes(1000), UnreadablePicture),
    fails("heic without its package", zoo.heic, UnreadablePicture),
    fails("png damaged", zoo.damaged_png, UnreadablePicture),
    fails("png checksum", lambda: zoo.patched(saved(scene(), "PNG"), 29, b"\0"), UnreadablePicture),
    fails("gif without a picture", lambda: b"GIF89a\1\0\1\0\0\0\0;", UnreadablePicture),
    fails("bmp of no size", lambda: zoo.patched(saved(scene(), "BMP"), 18, bytes(4)), UnreadablePicture),
    fails("tiff of odd samples", lambda: zoo.grey_tiff(0, 1, "<", 9), UnreadablePicture),
    fails("jpeg of 12 bits", lambda: zoo.jpeg_bits(12), UnreadablePicture),
    fails("ppm of letters", lambda: b"P6 a b 255\n", UnreadablePicture),
]

BOMBS = [
    fails("jpeg bomb", zoo.huge_jpeg, PictureTooLarge),
    fails("png bomb", lambda: zoo.png((60000, 60000), 1, 0, bytes(1000)), PictureTooLarge),
    fails("png text bomb", zoo.text_bomb, PictureTooLarge),
    fails("gif bomb", lambda: zoo.patched(saved(scene(), "GIF"), 6, b"\xff" * 4), PictureTooLarge),
    fails("gif frame bomb", zoo.huge_gif_frame, PictureTooLarge),
    *(fails(f"webp bomb {options}", lambda options=options: zoo.huge_webp(**options), PictureTooLarge)
      for options in ({}, {"lossless": True}, {"alpha": True})),
    fails("avif bomb", zoo.huge_avif, PictureTooLarge),
    fails("bmp bomb", zoo.huge_bmp, PictureTooLarge),
    fails("tiff bomb", zoo.huge_tiff, PictureTooLarge),
    fails("ppm bomb", lambda: b"P6 60000 60000 255\n", PictureTooLarge),
    fails("jpeg 2000 bomb", zoo.huge_jp2, PictureTooLarge),
]
# fmt: on
ZOO = [*WHOLE, *TURNED, *ODD_EXIF, *CUT, *BROKEN, *BOMBS]


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
        assert max(zoo.differences(image, case.points).values()) <= case.tolerance, zoo.differences(
            image, case.points
        )
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
    assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)


# bytes of any kind, threads


SMALL = PictureLimits(max_pixels=1_000_000, max_bytes=10_000_000)
WHOLE_BYTES = [case.make() for case in [*WHOLE, *ODD_EXIF]]


def only_picture_errors(data: bytes) -> None:
    for allow_truncated in (False, True):
        try:
            image = load_picture(data, allow_truncated=allow_truncated, limits=SMALL)
            assert image.mode == "RGB"
        except PictureError as error:
            assert error.what.startswith("Cannot read the picture: ")
    with suppress(PictureError):
        assert min(picture_size(data, limits=SMALL)) > 0


@given(st.sampled_from([b"", *{data[:12] for data in WHOLE_BYTES}]), st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_random_bytes_raise_picture_errors_only(head: bytes, data: bytes) -> None:
    only_picture_errors(head + data)


@given(st.sampled_from(WHOLE_BYTES), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_files_raise_picture_errors_only(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole[: data.draw(st.integers(1, len(whole)))] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(0, 4))):
        # most of what can go wrong stands at the start
        at = data.draw(st.integers(0, min(len(damaged), 300) - 1) | st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    only_picture_errors(bytes(damaged))


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"Exif\0\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\0\x02"])
)
@settings(max_examples=100, deadline=None)
def test_any_exif_block_gives_an_orientation(block: bytes, head: bytes) -> None:
    assert exif_orientation(head + block) in range(1, 9)


def test_threads_do_not_disturb_each_other() -> None:
    good = [saved(noise(), kind) for kind in ("JPEG", "PNG", "WEBP")] + [zoo.odd_tags()]
    cut = [zoo.cut("JPEG"), zoo.cut("PNG"), zoo.cut("GIF", "P"), zoo.cut("TIFF"), zoo.cut("JPEG2000")]
    alone = [load_picture(data).tobytes() for data in good]
    part = [load_picture(data, allow_truncated=True).tobytes() for data in cut]

    def work(number: int) -> bool:
        at = number % len(cut)
        if number % 3 == 0:
            return load_picture(good[at % len(good)]).tobytes() == alone[at % len(good)]
        if number % 3 == 1:
            return load_picture(cut[at], allow_truncated=True).tobytes() == part[at]
        with pytest.raises(TruncatedPicture):
            load_picture(cut[at])
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(300)))
