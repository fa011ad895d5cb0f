"""Disturbances by what they do to pictures whose pixels are known."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfcd.errors import EvaluationError
from cfcd.evaluation import disturbances
from cfcd.evaluation.disturbances import DISTURBANCES, Disturbance, disturb
from tests.support import make_photo

BY_NAME = {d.name: d for d in DISTURBANCES}
every = pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda d: d.name)
sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float64)


def stripes(width: int = 120, height: int = 80) -> Image.Image:
    """Draw a picture whose red tells the column and whose green tells the row."""
    out = np.zeros((height, width, 3), np.uint8)
    out[..., 0] = np.arange(width)
    out[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(out)


@every
def test_level_zero_is_the_picture_and_there_are_levels_beyond(disturbance: Disturbance) -> None:
    photo = make_photo(1, (480, 320))
    before = photo.tobytes()
    assert disturb(photo, disturbance, 0, "a") is photo
    assert len(disturbance.labels) == len(disturbance.strengths) == 4
    for level in range(1, 5):
        found = disturb(photo, disturbance, level, "a")
        assert found.mode == "RGB"
        assert found.size != photo.size or found.tobytes() != before
    assert photo.tobytes() == before
    for level in (-1, 5):
        with pytest.raises(EvaluationError, match="has no level"):
            disturb(photo, disturbance, level, "a")


@every
def test_pixels_depend_on_neither_order_nor_threads(disturbance: Disturbance) -> None:
    photo = make_photo(2)
    jobs = [(level, key) for level in range(1, 5) for key in ("a", "b/\udcff.jpg", "ü")]
    straight = {job: disturb(photo, disturbance, *job).tobytes() for job in jobs}
    random.Random(0).shuffle(jobs)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda job: disturb(photo, disturbance, *job).tobytes(), jobs))
    assert again == [straight[job] for job in jobs]


def test_chance_differs_between_pictures() -> None:
    photo = make_photo(3)
    for name in ("crop", "occlusion", "noise"):
        found = {disturb(photo, BY_NAME[name], 2, key).tobytes() for key in ("a", "b", "c")}
        assert len(found) == 3
    for name in ("perspective", "rotation"):
        found = {disturb(photo, BY_NAME[name], 1, str(key)).tobytes() for key in range(12)}
        assert len(found) == 2  # to the left and to the right


@settings(deadline=None, max_examples=8)
@given(size=sizes, key=st.text(max_size=4))
def test_any_size_can_be_disturbed(size: tuple[int, int], key: str) -> None:
    photo = make_photo(0, size)
    for disturbance in DISTURBANCES:
        for level in range(1, 5):
            assert min(disturb(photo, disturbance, level, key).size) >= 1


@pytest.mark.parametrize(
    ("apply", "neutral"),
    [
        (disturbances.turned, 0),
        (disturbances.shrunk, 1),
        (disturbances.cropped, 1),
        (disturbances.covered, 0),
        (disturbances.noisy, 0),
        (disturbances.exposed, 0),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_no_strength_does_nothing(apply: disturbances.Apply, neutral: float) -> None:
    photo = make_photo(4)
    assert np.array_equal(pixels(apply(photo, neutral, chance())), pixels(photo))


def test_a_marker_turns_as_by_hand() -> None:
    marker = np.zeros((41, 61, 3), np.uint8)
    marker[18:23, 48:53] = 255  # 20 right of the middle
    picture = Image.fromarray(marker)
    for degrees in (10, 45, 90, 130, 180):
        places = set()
        for seed in range(6):
            found = pixels(disturbances.turned(picture, degrees, chance(seed)))[..., 0]
            height, width = found.shape
            assert (width, height) == ((41, 61) if 45 < degrees < 135 else (61, 41))
            rows, columns = np.nonzero(found > 128)
            x, y = columns.mean() + 0.5 - width / 2, rows.mean() + 0.5 - height / 2
            assert x == pytest.approx(20 * np.cos(np.radians(degrees)), abs=0.5)
            assert abs(y) == pytest.approx(20 * np.sin(np.radians(degrees)), abs=0.5)
            places.add(bool(y > 0.5))
        assert len(places) == (1 if degrees == 180 else 2)


@pytest.mark.parametrize("degrees", [15, 45, 90])
def test_a_turn_agrees_with_pillow_inside_and_leaves_no_corner_black(degrees: int) -> None:
    photo = make_photo(5, (90, 90)).point(lambda value: 64 + value // 2)
    found = pixels(disturbances.turned(photo, degrees, chance()))
    inside = np.s_[25:65, 25:65]
    away = [
        np.abs(found - pixels(photo.rotate(sign * degrees, Image.Resampling.BICUBIC)))[inside].max()
        for sign in (-1, 1)
    ]
    assert min(away) <= 2
    assert found.min() >= 50


def test_a_view_from_the_side_follows_the_pinhole_camera() -> None:
    """Columns stand where a flat picture, turned by hand before a camera, shows them."""
    width, height = 200, 100
    focal = 100 / np.tan(np.radians(25))
    for yaw in (0, 15, 45, 60):
        sides = set()
        for seed in range(6):
            found = pixels(disturbances.seen_from_the_side(stripes(width, height), yaw, chance(seed)))
            # The row in the middle keeps its place; red tells which column of the picture is seen.
            seen = found[height // 2, :, 0]
            sides.add(yaw > 0 and bool(seen[len(seen) // 2] < 100))
            x = np.arange(-0.5, width + 0.5) + 0.5 - width / 2
            options = []
            for side in (1, -1):
                angle = np.radians(side * yaw)
                u = focal * x * np.cos(angle) / (focal + x * np.sin(angle))
                u -= (u[0] + u[-1]) / 2
                at = np.arange(len(seen)) + 0.5 - len(seen) / 2
                options.append(np.abs(seen - np.interp(at, u, x + width / 2 - 0.5))[3:-3].max())
            assert min(options) < 1.2
            assert found.shape[0] == height
            near = focal * 100 * np.cos(np.radians(yaw))
            wide = near / (focal - 100 * np.sin(np.radians(yaw))) + near / (
                focal + 100 * np.sin(np.radians(yaw))
            )
            assert found.shape[1] == pytest.approx(wide, abs=1)
        assert len(sides) == (1 if yaw == 0 else 2)


def test_a_view_from_the_side_is_smaller_far_away_and_has_no_black_corners() -> None:
    photo = np.full((100, 200, 3), 200, np.uint8)
    photo[30:70] = 90  # a band: higher where it is near
    found = pixels(disturbances.seen_from_the_side(Image.fromarray(photo), 45, chance()))[..., 0]
    heights = sorted(((found[:, 2] < 145).sum(), (found[:, -3] < 145).sum()))
    focal, sine = 100 / np.tan(np.radians(25)), 100 * np.sin(np.radians(45))
    assert heights[0] == pytest.approx(40 * focal / (focal + sine), abs=2)
    assert heights[1] == pytest.approx(40 * focal / (focal - sine), abs=3)
    assert found.min() >= 60


def test_sizes_of_smaller_pictures() -> None:
    photo = make_photo(6, (160, 96))
    scaled = [disturb(photo, BY_NAME["scale"], level, "a").size for level in range(1, 5)]
    assert scaled == [(80, 48), (40, 24), (20, 12), (10, 6)]
    for level, kept in enumerate(BY_NAME["crop"].strengths, start=1):
        width, height = disturb(photo, BY_NAME["crop"], level, "a").size
        assert width * height == pytest.approx(kept * 160 * 96, rel=0.02)
        assert width / height == pytest.approx(160 / 96, rel=0.03)


def test_a_crop_is_a_part_near_the_middle() -> None:
    whole = stripes()
    for seed in range(20):
        part = pixels(disturbances.cropped(whole, 0.25, chance(seed)))
        left, top = int(part[0, 0, 0]), int(part[0, 0, 1])
        assert part.shape == (40, 60, 3)
        assert np.array_equal(part, pixels(whole)[top : top + 40, left : left + 60])
        assert 15 <= left <= 45
        assert 10 <= top <= 30


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0.05, 0.8), seed=st.integers(0, 10_000))
def test_as_much_is_covered_as_was_said(share: float, seed: int) -> None:
    picture = Image.new("RGB", (160, 120), (255, 0, 255))
    found = pixels(disturbances.covered(picture, share, chance(seed)))
    untouched = (found == (255, 0, 255)).all(axis=2).mean()
    assert 1 - untouched == pytest.approx(share, abs=0.003)


def test_covers_are_of_grey_and_of_noise() -> None:
    picture = Image.new("RGB", (160, 120), (255, 0, 255))
    grey, noise = False, False
    for seed in range(8):
        found = disturbances.covered(picture, 0.3, chance(seed))
        grey |= (pixels(found) == 128).all(axis=2).mean() > 0.05
        noise |= len(found.getcolors(20_000)) > 500
    assert grey
    assert noise


def test_blur_spreads_an_edge_by_its_sigma() -> None:
    edge = np.zeros((40, 400, 3), np.uint8)
    edge[:, 200:] = 255
    for sigma in (2, 4, 8):
        found = pixels(disturbances.blurred(Image.fromarray(edge), sigma / 400, chance()))[20, :, 0]
        slope = np.diff(found) / 255
        place = np.arange(len(slope))
        middle = (slope * place).sum()
        assert np.sqrt((slope * (place - middle) ** 2).sum()) == pytest.approx(sigma, rel=0.1)


def test_noise_has_its_sigma_in_every_colour() -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    for level, sigma in enumerate(BY_NAME["noise"].strengths[:3], start=1):
        away = pixels(disturb(grey, BY_NAME["noise"], level, "a")) - 128
        assert away.std(axis=(0, 1)) == pytest.approx([sigma] * 3, rel=0.03)
        assert abs(away.mean()) < 0.5
    # The levels differ in strength only.
    one, two = (pixels(disturb(grey, BY_NAME["noise"], level, "a")) - 128 for level in (1, 2))
    assert np.abs(two - 2 * one).max() <= 1.5


def test_stops_double_the_light() -> None:
    def light(value: float) -> float:
        value /= 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    for value in (10, 60, 120, 250):
        picture = Image.new("RGB", (2, 2), (value, value, value))
        for stops in (-3, -1, 0.5, 2):
            found = disturbances.exposed(picture, stops, chance()).getpixel((0, 0))[0]
            wanted = min(1.0, light(value) * 2**stops)
            assert light(found - 0.51) <= wanted + 1e-6
            assert light(found + 0.51) >= wanted - 1e-6


def test_jpeg_is_really_recompressed() -> None:
    photo = Image.fromarray(chance().integers(0, 256, (64, 64, 3), np.uint8))
    damage = []
    for level, quality in enumerate(BY_NAME["JPEG"].strengths, start=1):
        found = disturb(photo, BY_NAME["JPEG"], level, "a")
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=int(quality))
        with Image.open(buffer) as expected:
            assert found.tobytes() == expected.convert("RGB").tobytes()
        damage.append(np.abs(pixels(found) - pixels(photo)).mean())
    assert damage == sorted(damage)
    assert damage[0] > 1
