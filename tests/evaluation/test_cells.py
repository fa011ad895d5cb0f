from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfcd.evaluation import GridCell, GridRow
from cfcd.evaluation.cells import kinds_in, thumbnail

GREY = (200, 200, 200)


def test_thumbnail_fits_and_keeps_the_shape(tmp_path):
    Image.new("RGB", (300, 120), "orange").save(tmp_path / "wide.png")
    made = thumbnail(GridCell(tmp_path / "wide.png", "wide"), 100)
    assert made.size == (100, 40)
    assert made.getpixel((50, 20)) == (255, 165, 0)


def test_small_pictures_are_not_blown_up():
    assert thumbnail(GridCell(Image.new("RGB", (20, 30)), "small"), 100).size == (20, 30)


def test_very_long_pictures_keep_a_pixel():
    assert thumbnail(GridCell(Image.new("RGB", (4000, 3)), "strip"), 50).size == (50, 1)


def test_box_is_outlined_and_the_rest_dimmed():
    made = np.asarray(
        thumbnail(GridCell(Image.new("RGB", (200, 100), GREY), "boxed", box=(40, 20, 120, 80)), 100)
    )
    assert made.shape == (50, 100, 3)
    assert (made[20, 40] == GREY).all()
    assert (made[2, 2] < 120).all()
    assert (made[45, 90] < 120).all()
    assert (made[10, 20:60] == 255).all()
    assert (made[39, 20:60] == 255).all()


def test_box_stands_right_in_a_large_jpeg(tmp_path):
    """A JPEG may be decoded at a fraction of its size, in which the box's pixels would lie elsewhere."""
    Image.new("RGB", (1600, 800), GREY).save(tmp_path / "large.jpg")
    made = np.asarray(thumbnail(GridCell(tmp_path / "large.jpg", "boxed", box=(800, 0, 1600, 800)), 100))
    assert (made[25, :50] < 120).all()
    assert (made[25, 52:98] > 190).all()


@given(st.tuples(*[st.floats(-500, 500)] * 4))
def test_any_box_can_be_drawn(box):
    assert thumbnail(GridCell(Image.new("RGB", (64, 48), GREY), "boxed", box=box), 32).size == (32, 24)


@pytest.mark.parametrize("content", [None, b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_what_cannot_be_shown_becomes_a_reason(tmp_path, content):
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    reason = thumbnail(GridCell(path, "bad"), 50)
    assert isinstance(reason, str)
    assert reason


def test_no_picture_is_said():
    assert thumbnail(GridCell(None, "gone"), 50) == "no picture"


def test_truncated_pictures_show_what_they_have(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    path = tmp_path / "half.jpg"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert thumbnail(GridCell(path, "half"), 100).size == (100, 100)


def test_tally_and_legend_speak_only_of_what_is_there():
    def row(*correct: bool | None) -> GridRow:
        return GridRow(GridCell(None, "q"), tuple(GridCell(Path("x"), "h", correct=c) for c in correct))

    assert row(True, False, None, True).tally == "2 of 3 right"
    assert row(None, None).tally == ""
    assert kinds_in([row(True), row(True, None)]) == ["query", "right", "unknown"]
    assert kinds_in([row(False)]) == ["query", "wrong"]
