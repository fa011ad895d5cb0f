from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfcd.encoding.preprocess import SCALE_SETS, parse_scales, target_size, to_pixels, wanted_long_side
from cfcd.errors import UsageError
from cfcd.model.config import PRESETS, Preprocessing
from cfcd.pictures import load_picture
from tests.support import make_photo


def preprocessing(
    long_side: int | None = 320, step: int = 32, scales: tuple[float, ...] = (1.0,)
) -> Preprocessing:
    return Preprocessing("RGB", (127.0,) * 3, (128.0,) * 3, "hamming", long_side, step, scales)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((640, 480), 1.0, (320, 256)),  # 240 lies between 224 and 256, the even multiple wins
        ((384, 256), 1.0, (320, 224)),  # 213.3 is nearest to 224
        ((200, 100), 1.0, (192, 96)),  # never scaled up, only rounded
        ((640, 480), 0.5, (160, 128)),
        ((10_000, 10), 1.0, (320, 32)),  # at least one multiple
        ((1, 1), 1.0, (32, 32)),
    ],
)
def test_target_size_by_hand(size: tuple[int, int], scale: float, expected: tuple[int, int]) -> None:
    assert target_size(*size, preprocessing(), scale) == expected


@given(
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    limit=st.none() | st.integers(32, 2048),
    step=st.integers(1, 64),
    scale=st.floats(0.05, 8),
)
def test_target_size_is_the_nearest_multiple(
    width: int, height: int, limit: int | None, step: int, scale: float
) -> None:
    target = target_size(width, height, preprocessing(limit, step), scale)
    factor = scale if limit is None else scale * min(1.0, limit / max(width, height))
    for side, found in zip((width, height), target, strict=True):
        assert found % step == 0
        assert found >= step
        assert found == step or abs(found - side * factor) <= step / 2 + 1e-6


def test_no_limit_and_no_multiple_keep_every_pixel() -> None:
    photo = make_photo(0, (101, 67))
    pixels = to_pixels(photo, preprocessing(None, 1), 1.0)
    assert pixels.shape == (67, 101, 3)
    assert pixels.tobytes() == photo.tobytes()


def slow_bilinear(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Interpolate one value after the other, in fractions: exact, not rounded."""
    rows, columns, _ = pixels.shape
    out = np.zeros((height, width, 3))

    def between(old: int, new: int, place: int) -> list[tuple[int, Fraction]]:
        at = max(Fraction(2 * place + 1, 2) * Fraction(old, new) - Fraction(1, 2), Fraction(0))
        first = floor(at)
        return [(first, 1 - (at - first)), (min(first + 1, old - 1), at - first)]

    for y, x, channel in np.ndindex(height, width, 3):
        value = sum(
            wy * wx * int(pixels[row, column, channel])
            for row, wy in between(rows, height, y)
            for column, wx in between(columns, width, x)
        )
        out[y, x, channel] = float(value)
    return out


@settings(max_examples=40, deadline=None)
@given(
    old=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    scale=st.sampled_from([0.0625, 0.3535, 0.5, 0.7071, 1.4142, 3.0]),
    seed=st.integers(0, 99),
)
def test_plain_bilinear_is_bilinear_between_the_nearest_pixels(
    old: tuple[int, int], scale: float, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*old, 3), dtype=np.uint8)
    wanted = replace(preprocessing(None, 1), resize="bilinear_plain")
    found = to_pixels(Image.fromarray(pixels), wanted, scale)
    width, height = target_size(old[1], old[0], wanted, scale)
    # Rounded to the nearest; near halves float32 may go either way.
    assert np.abs(found - slow_bilinear(pixels, width, height)).max() <= 0.5001


def test_plain_bilinear_is_the_same_in_parts() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 20, 3), dtype=np.uint8)
    wanted = replace(preprocessing(None, 1), resize="bilinear_plain")
    found = to_pixels(Image.fromarray(pixels), wanted, 1.4142)
    assert found.shape == (127, 28, 3)  # several parts of rows
    assert np.abs(found - slow_bilinear(pixels, 28, 127)).max() <= 0.5001


def test_shrinking_without_antialiasing_keeps_single_pixels_sharp() -> None:
    pixels = np.zeros((9, 9, 3), np.uint8)
    pixels[4, 4] = 240
    plain = to_pixels(
        Image.fromarray(pixels), replace(preprocessing(None, 1), resize="bilinear_plain"), 1 / 3
    )
    smooth = to_pixels(Image.fromarray(pixels), replace(preprocessing(None, 1), resize="bilinear"), 1 / 3)
    assert plain[1, 1].tolist() == [240] * 3
    assert smooth[1, 1].max() < 60


def test_the_official_preset_is_the_authors_preprocessing() -> None:
    preset = PRESETS["official"]
    assert (preset.channel_order, preset.long_side, preset.side_multiple) == ("BGR", None, 1)
    assert preset.mean == pytest.approx((103.53, 116.28, 123.675))
    assert preset.std == pytest.approx((57.375, 57.12, 58.395))
    assert preset.scales == SCALE_SETS["5"]
    # Sides ending in one half go to the even number, as in the authors' code.
    assert [target_size(301, 237, preset, scale) for scale in preset.scales] == [
        (106, 84),
        (150, 118),
        (213, 168),
        (301, 237),
        (426, 335),
    ]


def test_a_jpeg_is_decoded_in_full_for_the_original_size(tmp_path: Path) -> None:
    make_photo(3, (640, 480)).save(tmp_path / "a.jpg", quality=90)
    preset = PRESETS["official"]
    picture = load_picture(tmp_path / "a.jpg", long_side=wanted_long_side(preset))
    with Image.open(tmp_path / "a.jpg") as full:
        assert picture.tobytes() == full.convert("RGB").tobytes()


def test_parse_scales() -> None:
    assert parse_scales("3") == SCALE_SETS["3"] == (0.7071, 1.0, 1.4142)
    assert len(parse_scales("5")) == 5
    assert parse_scales("0.5,2") == (0.5, 2.0)


@pytest.mark.parametrize("text", ["", "a", "0", "1,,2", "7", "9.5", "nan", "-1"])
def test_parse_scales_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="scales"):
        parse_scales(text)
