from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfcd.training.augment import crop_long_side, crop_random, draw_part, random_crop
from cfcd.training.recipe import AugmentRecipe
from tests.support import make_photo

PLAIN = AugmentRecipe(size=32, flip=0.0)
PHOTO = make_photo(1, (120, 90))


def part_of(key: tuple[int, int, int], settings: AugmentRecipe = PLAIN) -> Image.Image:
    """The resized part that this key draws, before flip, colour and light."""
    x, y, width, height = draw_part(*PHOTO.size, settings, crop_random(*key))
    return PHOTO.resize((settings.size,) * 2, Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))


def crop_of(key: tuple[int, int, int], settings: AugmentRecipe) -> np.ndarray:
    return random_crop(PHOTO, settings, crop_random(*key))


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
    st.integers(0, 10**6),
)
def test_part_is_inside(width: int, height: int, area: list[float], aspect: list[float], slot: int) -> None:
    settings = replace(PLAIN, area=(area[0], area[1]), aspect=(aspect[0], aspect[1]))
    x, y, w, h = draw_part(width, height, settings, crop_random(0, 0, slot))
    assert w >= 1 and h >= 1 and x >= 0 and y >= 0
    assert x + w <= width and y + h <= height


def slow_part(width: int, height: int, settings: AugmentRecipe, random: Random) -> tuple[int, int, int, int]:
    """The rule, read aloud."""
    for _ in range(10):
        share = settings.area[0] + random.random() * (settings.area[1] - settings.area[0])
        low, high = np.log(settings.aspect)
        aspect = np.exp(low + random.random() * (high - low))
        w = max(1, round((share * width * height * aspect) ** 0.5))
        h = max(1, round((share * width * height / aspect) ** 0.5))
        if w <= width and h <= height:
            break
    else:
        w = h = min(width, height)
    return math.floor(random.random() * (width - w + 1)), math.floor(random.random() * (height - h + 1)), w, h


@pytest.mark.parametrize("size", [(640, 480), (97, 301), (1000, 50), (3, 2)])
def test_part_is_that_of_the_slow_reference(size: tuple[int, int]) -> None:
    for slot in range(200):
        fast = draw_part(*size, PLAIN, crop_random(3, 1, slot))
        assert fast == slow_part(*size, PLAIN, crop_random(3, 1, slot))


def test_distribution_of_area_aspect_and_place() -> None:
    # All of these shares and aspects fit into a square, so nothing is drawn twice.
    settings = replace(PLAIN, area=(0.1, 0.5))
    parts = np.array([draw_part(2000, 2000, settings, crop_random(5, 0, slot)) for slot in range(4000)])
    x, y, w, h = parts.T
    steps = np.linspace(0, 1, 4000)
    for values in (
        (w * h / 4e6 - 0.1) / 0.4,
        (np.log(w / h) - np.log(3 / 4)) / (np.log(4 / 3) - np.log(3 / 4)),
        x / (2000 - w),
        y / (2000 - h),
    ):
        # Kolmogorov and Smirnov: a uniform sample of 4000 is further off than 0.031 once in 1000 times.
        assert np.abs(np.sort(values) - steps).max() < 0.031


def test_long_pictures_give_squares_at_different_places() -> None:
    parts = [draw_part(1000, 20, PLAIN, crop_random(0, 0, slot)) for slot in range(50)]
    assert {part[1:] for part in parts} == {(0, 20, 20)}
    assert len({part[0] for part in parts}) > 40


def test_without_colour_and_light_pixels_are_those_of_pillow() -> None:
    for slot in range(20):
        assert np.array_equal(crop_of((1, 2, slot), PLAIN), np.asarray(part_of((1, 2, slot))))


def test_the_whole_picture_at_its_size_is_left_alone() -> None:
    square = make_photo(3, (32, 32))
    settings = replace(PLAIN, area=(1.0, 1.0), aspect=(1.0, 1.0))
    assert np.array_equal(random_crop(square, settings, crop_random(0, 0, 0)), np.asarray(square))


def test_flip_is_exact_and_as_frequent_as_asked() -> None:
    flipped = 0
    for slot in range(300):
        plain = crop_of((1, 0, slot), PLAIN)
        assert np.array_equal(crop_of((1, 0, slot), replace(PLAIN, flip=1.0)), plain[:, ::-1])
        half = crop_of((1, 0, slot), replace(PLAIN, flip=0.5))
        assert np.array_equal(half, plain) or np.array_equal(half, plain[:, ::-1])
        flipped += not np.array_equal(half, plain)
    assert 115 < flipped < 185  # 150 +- 4 standard deviations


def test_colour_is_brightness_then_contrast_then_saturation() -> None:
    def grey(pixels: np.ndarray) -> np.ndarray:
        return (pixels @ [0.299, 0.587, 0.114])[..., None]

    for slot in range(20):
        random = crop_random(4, 0, slot)
        draw_part(*PHOTO.size, PLAIN, random)
        random.random()  # the flip
        brightness, contrast, saturation = (0.6 + 0.8 * random.random() for _ in range(3))
        pixels = np.asarray(part_of((4, 0, slot)), np.float64)
        pixels = np.clip(pixels * brightness, 0, 255)
        middle = grey(pixels).mean()
        pixels = np.clip(middle + contrast * (pixels - middle), 0, 255)
        pixels = np.clip(grey(pixels) + saturation * (pixels - grey(pixels)), 0, 255)
        # Pillow cuts to whole numbers after each of the three.
        assert np.abs(crop_of((4, 0, slot), replace(PLAIN, colour=0.4)) - pixels).max() < 4.5


def test_light_is_one_colour_with_the_covariance_of_the_paper() -> None:
    grey = Image.new("RGB", (32, 32), (128, 128, 128))
    settings = replace(PLAIN, lighting=0.1)
    shifts = []
    for slot in range(3000):
        pixels = random_crop(grey, settings, crop_random(7, 0, slot)).astype(int)
        assert (pixels == pixels[0, 0]).all()
        shifts.append(pixels[0, 0] - 128)
    directions = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    assert np.allclose(directions.T @ directions, np.eye(3), atol=1e-3)
    components = np.array(shifts) @ directions
    assert np.abs(components.mean(0)).max() < 0.5
    # 55.46, 4.794 and 1.148 grey levels times 0.1; rounding to whole levels adds a variance of 1/12.
    expected = np.sqrt((0.1 * np.array([55.46, 4.794, 1.148])) ** 2 + 1 / 12)
    assert np.allclose(components.std(0), expected, rtol=0.08)


def test_light_stops_at_black_and_white() -> None:
    white = Image.new("RGB", (32, 32), (255, 255, 255))
    crops = [random_crop(white, replace(PLAIN, lighting=0.5), crop_random(0, 0, i)) for i in range(50)]
    assert min(crop.min() for crop in crops) > 100  # none came round to 0
    assert sum(crop.max() == 255 for crop in crops) > 10


ALL = AugmentRecipe(size=32, colour=0.3, lighting=0.1)


def test_the_key_decides_everything() -> None:
    first = crop_of((1, 2, 3), ALL)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, crop_of((1, 2, 3), ALL))
    for other in ((1, 2, 4), (1, 3, 3), (2, 2, 3), (1, 23, 3), (12, 2, 3)):
        assert not np.array_equal(first, crop_of(other, ALL))


def test_keys_are_the_same_everywhere() -> None:
    # Fixed here: a run that is resumed with another version must go on with the same crops.
    assert crop_random(1, 2, 3).random() == 0.8040360155526721
    assert draw_part(640, 480, PLAIN, crop_random(1, 2, 3)) == (45, 12, 591, 448)


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (500, 2)])
def test_tiny_pictures_give_crops(size: tuple[int, int]) -> None:
    assert random_crop(make_photo(2, size), ALL, crop_random(0, 0, 0)).shape == (32, 32, 3)


@given(
    st.integers(32, 600),
    st.floats(0.05, 1),
    st.floats(0.25, 1),
    st.floats(1, 4),
    st.floats(1, 4),
    st.integers(0, 100),
)
def test_crops_have_their_pixels_at_twice_the_wanted_long_side(
    size: int, area: float, low: float, high: float, picture_aspect: float, slot: int
) -> None:
    settings = AugmentRecipe(size=size, area=(area, 1.0), aspect=(low, high))
    long_side = 2 * crop_long_side(settings)
    # The smallest and narrowest of all, not only the one that is drawn:
    aspect = high if high > 1 / low else low
    narrow = replace(settings, area=(area, area), aspect=(aspect, aspect))
    _, _, w, h = draw_part(long_side, math.ceil(long_side / picture_aspect), narrow, crop_random(0, 0, slot))
    assert min(w, h) >= size - 1


def test_wanted_long_side_of_the_papers_settings() -> None:
    # 512 / sqrt(0.08) is 1810 pixels for square crops; those of 3:4 are narrower by sqrt(4 / 3).
    assert crop_long_side(AugmentRecipe(size=512, area=(0.08, 1.0))) == 2091
