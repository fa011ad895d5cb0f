"""Pictures from every kind of source, cut to boxes, decoded small, and held to their limits."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import picture_zoo as zoo
from cfcd.errors import PictureError, PictureTooLarge, TruncatedPicture, UnreadablePicture, UsageError
from cfcd.pictures import IMAGE_SUFFIXES, PictureLimits, load_picture, picture_size
from cfcd.pictures.orientation import stored_box
from picture_zoo import differences, noise, saved, scene

PHOTOS = Path(__file__).resolve().parents[1].parent / "shared" / "photos"

# sources and limits


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "none.jpg", "no such file"),
        (lambda folder: folder, "folder"),
        (lambda folder: str(folder / "a\0b.jpg"), "null"),
        (lambda folder: folder / ("long" * 100), "too long"),
        (lambda folder: io.StringIO("text"), "text"),
        (lambda folder: os.fdopen(os.pipe()[0], "rb"), "from its start"),
        (lambda folder: ["a.jpg"], "list"),
        (lambda folder: None, "NoneType"),
    ],
)
def test_what_is_no_file_is_unreadable(make: Any, says: str, tmp_path: Path) -> None:
    source = make(tmp_path)
    for call in (load_picture, picture_size):
        with pytest.raises(UnreadablePicture) as caught:
            call(source)
        assert says in caught.value.what
    if isinstance(source, io.BufferedReader):
        source.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of Unix")
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadablePicture, match="no ordinary file"):
        load_picture(tmp_path / "pipe.jpg")


def test_a_file_one_may_not_read_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as root, whom no mode bits stop
    with pytest.raises(UnreadablePicture, match="permission denied"):
        load_picture(path)


def test_a_disk_that_fails_while_reading_is_unreadable() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 200:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(UnreadablePicture, match="Input/output error"):
        load_picture(Failing(saved(noise(), "JPEG")), allow_truncated=True)


@pytest.mark.parametrize("call", [load_picture, picture_size])
def test_limits_hold_for_every_source(call: Any, tmp_path: Path) -> None:
    data = saved(scene(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    pixels = zoo.SIZE[0] * zoo.SIZE[1]
    for source in (path, data, io.BytesIO(data), scene(), np.asarray(scene())):
        call(source, limits=PictureLimits(max_pixels=pixels))
        with pytest.raises(PictureTooLarge, match="48 x 32"):
            call(source, limits=PictureLimits(max_pixels=pixels - 1))
    for source in (path, data, io.BytesIO(data)):
        call(source, limits=PictureLimits(max_bytes=len(data)))
        with pytest.raises(PictureTooLarge, match="bytes"):
            call(source, limits=PictureLimits(max_bytes=len(data) - 1))


def test_pillows_own_limit_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "GIF"):
        image = load_picture(saved(scene(), kind, quality=95), box=(0, 0, 40, 32))
        assert image.size == (40, 32)


def test_an_open_file_is_read_from_its_start_and_left_open(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(scene(), "PNG"))
    with path.open("rb") as file:
        file.seek(10)
        first = load_picture(file)
        assert picture_size(file) == zoo.SIZE
        assert load_picture(file).tobytes() == first.tobytes() == scene().tobytes()
        assert not file.closed


def test_heic_asks_for_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadablePicture) as caught:
        load_picture(zoo.heic())
    assert "pip install pillow-heif" in caught.value.mend


def test_heic_with_its_package() -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    for turn in range(1, 9):
        out = io.BytesIO()
        tag = {"exif": b"Exif\0\0" + zoo.exif(turn)}
        heif.from_pillow(zoo.stored_as(scene((96, 64)), turn)).save(out, quality=95, **tag)
        image = load_picture(out.getvalue())
        assert image.size == picture_size(out.getvalue()) == (96, 64)
        assert max(differences(image, {(24, 16): zoo.RED, (72, 48): zoo.YELLOW}).values()) < 16


def test_suffixes_are_lower_case_with_their_dot() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".heic", ".tif"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


# PIL images and arrays


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa"]
)
def test_pil_images_of_every_mode(mode: str) -> None:
    source = scene().convert("RGBA").convert(mode) if mode == "RGBa" else scene().convert(mode)
    image = load_picture(source)
    expected = {"1": source.convert("RGB"), "L": source.convert("RGB")}.get(mode, scene())
    apart = 8 if mode in {"HSV", "LAB", "P"} else 2
    distance = np.abs(np.asarray(image, np.int16) - np.asarray(expected, np.int16)).max()
    assert image.mode == "RGB"
    assert distance <= (60 if mode == "P" else apart)


@pytest.mark.parametrize("mode", ["LA", "La", "PA"])
def test_pil_images_with_alpha_over_white(mode: str) -> None:
    source = Image.merge("LA", [Image.new("L", (2, 1), 100), Image.new("L", (2, 1), 51)])
    if mode == "PA":
        source.putpalette([value for value in range(256) for _ in range(3)])
    else:
        source = source.convert(mode)
    assert source.mode == mode
    assert load_picture(source).getpixel((0, 0)) == pytest.approx((224,) * 3, abs=2)


def test_a_pil_image_is_turned_cut_and_left_as_it_was() -> None:
    source = Image.open(io.BytesIO(zoo.turned("JPEG", 6)))
    image = load_picture(source, box=(24, 0, 48, 32))
    assert image.size == (24, 32)
    assert picture_size(source) == zoo.SIZE
    assert max(differences(image, {(12, 8): zoo.GREEN, (12, 24): zoo.YELLOW}).values()) < 12
    plain = scene()
    load_picture(plain).paste((0, 0, 0), (0, 0, 48, 32))
    assert plain.tobytes() == scene().tobytes()


def test_a_cut_pil_image_says_so() -> None:
    with pytest.raises(TruncatedPicture):
        load_picture(Image.open(io.BytesIO(zoo.cut("JPEG"))))


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "f8", "f2"])
def test_arrays_of_every_shape_and_type(channels: tuple[int, ...], kind: str) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (5, 7, *channels)).astype(np.uint8)
    if channels == (4,):
        whole[..., 3] = 255
    array = {"u1": whole, "u2": whole.astype("u2") * 257}.get(kind, (whole / 255).astype(kind))
    got = np.asarray(load_picture(array))
    rgb = whole.reshape(5, 7, -1)[..., :3]
    assert np.abs(got.astype(int) - rgb).max() <= (1 if kind == "f2" else 0)
    assert np.array_equal(np.asarray(load_picture(array[::-1, ::2])), got[::-1, ::2])  # not contiguous
    assert picture_size(array) == (7, 5)


def test_alpha_of_arrays_is_over_white() -> None:
    array = np.array([[[100, 0, 0, 0], [100, 0, 0, 255]]], np.uint8)
    assert np.asarray(load_picture(array)).tolist() == [[[255, 255, 255], [100, 0, 0]]]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4,), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4), bool),
        np.zeros((4, 4), complex),
        np.full((4, 4), np.nan),
        np.full((4, 4), 1.5),
        np.full((4, 4), -0.5),
        np.full((4, 4), np.inf),
        np.array([["a"]]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_that_are_no_picture(array: np.ndarray) -> None:
    for call in (load_picture, picture_size):
        with pytest.raises(UnreadablePicture):
            call(array)


# boxes and reduced decoding


@given(
    st.tuples(*[st.floats(-20, 70)] * 4),
    st.integers(1, 8),
    st.sampled_from(["JPEG", "PNG", "TIFF"]),
)
@settings(max_examples=60, deadline=None)
def test_a_box_is_that_part_of_the_upright_picture(
    box: tuple[float, float, float, float], turn: int, kind: str
) -> None:
    data = zoo.turned(kind, turn)
    upright = load_picture(data)
    x1, y1, x2, y2 = (round(edge) for edge in box)
    inside = (max(x1, 0), max(y1, 0), min(x2, upright.width), min(y2, upright.height))
    if inside[0] < inside[2] and inside[1] < inside[3]:
        assert load_picture(data, box=box).tobytes() == upright.crop(inside).tobytes()
    else:
        with pytest.raises(PictureError, match="nothing of its 48 x 32"):
            load_picture(data, box=box)


def test_a_box_with_nan_or_infinity() -> None:
    inf = float("inf")
    assert load_picture(scene(), box=(-inf, 0, inf, 32)).size == zoo.SIZE
    with pytest.raises(PictureError, match="NaN"):
        load_picture(scene(), box=(0, 0, float("nan"), 5))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 8), st.data())
@settings(max_examples=50, deadline=None)
def test_the_stored_box_of_an_upright_box(width: int, height: int, turn: int, data: st.DataObject) -> None:
    stored = Image.fromarray(np.arange(width * height, dtype=np.int32).reshape(height, width))
    upright = zoo.stored_as(stored, {6: 8, 8: 6}.get(turn, turn))
    x1, y1 = data.draw(st.integers(0, upright.width - 1)), data.draw(st.integers(0, upright.height - 1))
    box = (
        x1,
        y1,
        data.draw(st.integers(x1 + 1, upright.width)),
        data.draw(st.integers(y1 + 1, upright.height)),
    )
    part = stored.crop(stored_box(box, stored.size, turn))
    assert zoo.stored_as(part, {6: 8, 8: 6}.get(turn, turn)).tobytes() == upright.crop(box).tobytes()


def smooth(size: tuple[int, int]) -> Image.Image:
    """Return a picture with detail at the scale of 16 pixels, as photos have."""
    rough = np.random.default_rng(1).integers(
        0, 256, (size[1] // 16 + 1, size[0] // 16 + 1, 3), dtype=np.uint8
    )
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("box", [None, (101, 53, 603, 350)])
def test_reduced_decoding_changes_next_to_nothing(turn: int, mode: str, box: Any) -> None:
    source = smooth((645, 371)).convert(mode)
    data = saved(zoo.stored_as(source, turn), "JPEG", quality=95, exif=b"Exif\0\0" + zoo.exif(turn))
    whole = load_picture(data, box=box)
    reduced = load_picture(data, box=box, long_side=60)
    longest = max(whole.size)
    assert 2 * 60 <= max(reduced.size) < longest / 1.9
    target = (60, round(60 * whole.height / whole.width))
    one, two = (
        np.asarray(image.resize(target, Image.Resampling.BICUBIC), float) for image in (whole, reduced)
    )
    assert np.abs(one - two).mean() < 1.0


def test_reduced_decoding_needs_twice_what_is_asked() -> None:
    data = saved(smooth((640, 400)), "JPEG")
    sizes = {side: load_picture(data, long_side=side).size[0] for side in (640, 161, 160, 81, 80, 41, 40, 1)}
    assert sizes == {640: 640, 161: 640, 160: 320, 81: 320, 80: 160, 41: 160, 40: 80, 1: 80}
    assert load_picture(saved(smooth((640, 3)), "JPEG"), long_side=1).size == (320, 2)
    assert load_picture(saved(smooth((640, 400)), "PNG"), long_side=10).size == (640, 400)
    with pytest.raises(UsageError):
        load_picture(data, long_side=0)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the shared photos are not here")
def test_photos_decode_as_pillow_decodes_them() -> None:
    paths = sorted((PHOTOS / "landmarks_eval").glob("*/*.jpg"))[::20]
    assert paths
    for path in paths:
        with Image.open(path) as opened:
            assert load_picture(path).tobytes() == opened.convert("RGB").tobytes()
