from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from cfcd.catalog import Item
from cfcd.encoding.encoder import Reading
from cfcd.pictures import PictureLimits
from cfcd.serving.errors import PictureMissing
from cfcd.serving.thumbnails import Pictures
from tests.support import make_photo


def _photo(path: Path, size: tuple[int, int] = (96, 64), orientation: int = 1) -> Item:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a secret place"
    make_photo(3, size).save(path, exif=exif, quality=95)
    return Item(id=path.stem, path=path)


def _open(jpeg: bytes) -> Image.Image:
    return Image.open(BytesIO(jpeg))


def test_a_picture_is_upright_small_and_says_nothing_else(tmp_path: Path) -> None:
    item = _photo(tmp_path / "a.jpg", (96, 64), orientation=6)
    jpeg = Pictures(Reading()).render(item, 48).jpeg
    assert b"secret" in item.path.read_bytes()
    assert b"secret" not in jpeg
    made = _open(jpeg)
    assert (made.format, made.size, dict(made.getexif())) == ("JPEG", (32, 48), {})
    expected = make_photo(3).transpose(Image.Transpose.ROTATE_270).resize((32, 48))
    difference = sum(abs(a - b) for a, b in zip(made.tobytes(), expected.tobytes(), strict=True)) / (
        32 * 48 * 3
    )
    assert difference < 8


def test_a_small_picture_is_not_enlarged_and_a_thin_one_keeps_a_pixel(tmp_path: Path) -> None:
    pictures = Pictures(Reading())
    assert _open(pictures.render(_photo(tmp_path / "a.png"), 500).jpeg).size == (96, 64)
    assert _open(pictures.render(_photo(tmp_path / "b.png", (900, 1)), 90).jpeg).size == (90, 1)


def test_a_box_is_cut_out(tmp_path: Path) -> None:
    path = _photo(tmp_path / "a.png").path
    item = Item(id="a", path=path, box=(8, 16, 40, 48))
    pictures = Pictures(Reading())
    boxed, whole = pictures.render(item, 64, boxed=True), pictures.render(item, 64)
    assert _open(boxed.jpeg).size == (32, 32)
    assert _open(whole.jpeg).size == (64, 43)
    assert boxed.mark != whole.mark


def test_the_last_used_are_kept_within_the_bytes(tmp_path: Path) -> None:
    items = [_photo(tmp_path / f"{n}.jpg") for n in range(4)]
    size = len(Pictures(Reading()).render(items[0], 64).jpeg)
    pictures = Pictures(Reading(), max_bytes=3 * size + size // 2)
    for at in (0, 1, 2, 0, 3):
        pictures.render(items[at], 64)
    kept = [pictures.kept(item, 64) is not None for item in items]
    assert kept == [True, False, True, True]
    assert pictures._bytes == sum(len(jpeg) for jpeg in pictures._kept.values()) <= 3 * size + size // 2
    pictures.render(items[0], 2048)
    assert pictures.kept(items[0], 2048) is None  # large ones are not
    nothing = Pictures(Reading(), max_bytes=0)
    assert nothing.render(items[0], 64).jpeg == nothing.render(items[0], 64).jpeg
    assert nothing._bytes == 0


def test_a_changed_file_gives_another_picture_and_mark(tmp_path: Path) -> None:
    item = _photo(tmp_path / "a.png")
    pictures = Pictures(Reading())
    before = pictures.render(item, 64)
    assert pictures.render(item, 64) == before
    make_photo(9).save(item.path)
    os.utime(item.path, ns=(1, 1))
    after = pictures.render(item, 64)
    assert after.jpeg != before.jpeg
    assert after.mark != before.mark


@pytest.mark.parametrize("spoil", ["missing", "folder", "text", "large", "zero byte"])
def test_what_cannot_be_read_is_missing(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "a.png"
    if spoil == "folder":
        path.mkdir()
    elif spoil == "text":
        path.write_text("no picture")
    elif spoil == "large":
        _photo(path)
    elif spoil == "zero byte":
        path = tmp_path / "a\0.png"
    pictures = Pictures(Reading(limits=PictureLimits(max_pixels=100)))
    with pytest.raises(PictureMissing):
        pictures.render(Item(id="a", path=path), 64)
