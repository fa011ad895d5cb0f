from __future__ import annotations

import math

import numpy as np
import pytest
from demo_photos import pixels, smooth_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfcd.demo.views import (
    ViewSettings,
    blur,
    clutter,
    crop,
    foreground,
    illuminant,
    jpeg,
    noise,
    occlude,
    perspective,
    relight,
    rescale,
    rotate,
    shade,
    simulate_view,
)

GREY = Image.new("RGB", (120, 90), (100, 100, 100))


def far_apart(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(pixels(a) - pixels(b)).mean())


@settings(max_examples=40)
@given(st.floats(-60, 60), st.floats(-45, 45), st.floats(-180, 180), st.integers(20, 120))
def test_a_turned_picture_still_fills_its_frame(yaw: float, pitch: float, roll: float, width: int) -> None:
    seen = perspective(Image.new("RGB", (width, 60), (255, 255, 255)), yaw, pitch, roll)
    assert seen.size == (width, 60)
    assert pixels(seen).min() == 255


def test_no_turn_leaves_the_picture_almost_alone() -> None:
    picture = smooth_picture(120, 90)
    assert far_apart(perspective(picture, 0), picture) < 1.5


def test_a_quarter_turn_equals_transposing() -> None:
    picture = smooth_picture(100, 100)
    assert far_apart(rotate(picture, 90), picture.transpose(Image.Transpose.ROTATE_270)) < 1.5


def test_perspective_magnifies_the_near_side() -> None:
    stripes = Image.fromarray(np.tile((np.arange(400) // 10 % 2 * 255).astype(np.uint8), (100, 1))).convert(
        "L"
    )
    row = pixels(perspective(stripes.convert("RGB"), 50))[50, :, 0] > 127
    changes = np.flatnonzero(row[1:] != row[:-1])
    assert np.sum(changes < 200) < np.sum(changes >= 200)


def test_rescale_multiplies_both_sides() -> None:
    assert rescale(GREY, 0.5).size == (60, 45)
    assert rescale(GREY, 0.001).size == (1, 1)


@given(st.floats(0.05, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from([None, 0.5, 1.0, 2.0]))
def test_crop_lies_inside_with_the_asked_shape(area: float, x: float, y: float, aspect: float | None) -> None:
    part = crop(Image.new("RGB", (300, 200), (9, 9, 9)), area, (x, y), aspect)
    assert pixels(part).min() == 9  # Pillow fills what lies outside with 0.
    assert part.width / part.height == pytest.approx(aspect or 1.5, rel=0.05)
    assert part.width * part.height <= area * 60000 * 1.05
    if aspect is None:
        assert part.width * part.height == pytest.approx(area * 60000, rel=0.05)


def test_crop_positions_reach_the_corners() -> None:
    picture = smooth_picture(80, 60)
    assert far_apart(crop(picture, 0.25, (0, 0)), picture.crop((0, 0, 40, 30))) == 0
    assert far_apart(crop(picture, 0.25, (1, 1)), picture.crop((40, 30, 80, 60))) == 0


@settings(max_examples=40)
@given(
    st.floats(0.05, 0.4),
    st.floats(-40, 40),
    st.floats(-30, 30),
    st.floats(-20, 20),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_clutter_shows_the_whole_object_at_its_share(
    share: float, yaw: float, pitch: float, roll: float, x: float, y: float
) -> None:
    background = Image.new("RGB", (200, 150), (0, 0, 0))
    view = pixels(
        clutter(Image.new("RGB", (90, 80), (255, 255, 255)), background, share, (x, y), (yaw, pitch, roll))
    )
    assert view.mean() / 255 == pytest.approx(share, rel=0.12)


@given(st.floats(0, 1), st.integers(0, 1000))
def test_foreground_covers_the_fraction(fraction: float, seed: int) -> None:
    mask = foreground((64, 48), fraction, np.random.default_rng(seed))
    assert mask.shape == (48, 64)
    assert mask.mean() == pytest.approx(fraction, abs=0.002)


def test_occlusion_hides_with_the_texture_and_leaves_the_rest() -> None:
    red = Image.new("RGB", (50, 50), (255, 0, 0))
    covered = pixels(occlude(GREY, 0.3, np.random.default_rng(0), red))
    share = (covered[:, :, 0] - 100) / 155  # Edges are soft, so a few pixels are partly covered.
    assert share.mean() == pytest.approx(0.3, abs=0.01)
    assert np.mean((share == 0) | (share == 1)) > 0.75
    assert np.abs(covered[:, :, 1] - 100 * (1 - share)).max() <= 1
    assert far_apart(occlude(GREY, 0.0, np.random.default_rng(0), red), GREY) == 0


def planck(metres: float, kelvin: float) -> float:
    """Spectral radiance from the constants of nature."""
    h, c, k = 6.62607015e-34, 2.99792458e8, 1.380649e-23
    return 2 * h * c**2 / metres**5 / (math.exp(h * c / (metres * k * kelvin)) - 1)


@pytest.mark.parametrize("kelvin", [2000.0, 2700.0, 6500.0, 12000.0])
def test_illuminant_equals_plancks_law(kelvin: float) -> None:
    gains = [planck(length, kelvin) / planck(length, 6500) for length in (610e-9, 550e-9, 465e-9)]
    assert illuminant(kelvin) == pytest.approx([gain / gains[1] for gain in gains], rel=1e-3)


def test_relight_is_the_formula_on_every_level() -> None:
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))
    assert far_apart(relight(ramp), ramp) == 0
    lit = pixels(relight(ramp, gain=0.5, gamma=1.3))[0, :, 1]
    slow = [round(255 * ((level / 255) ** 2.2 * 0.5) ** (1.3 / 2.2)) for level in range(256)]
    assert np.abs(lit - slow).max() <= 1
    warm = pixels(relight(ramp, kelvin=3000))[0, 128]
    assert warm[0] > warm[1] > warm[2]


def test_shade_falls_off_in_its_direction() -> None:
    lit = pixels(shade(GREY, 0.5, 0.0))[:, :, 0]
    assert (lit == lit[:1]).all()
    assert lit[0, 0] == pytest.approx(100, abs=1) and lit[0, -1] == pytest.approx(50, abs=1)
    down = pixels(shade(GREY, 0.5, 90.0, softness=0.02, position=0.25))[:, 0, 0]
    assert (down[:20] == 100).all() and (down[26:] == 50).all()
    assert far_apart(shade(GREY, 0.0, 12.0), GREY) == 0


def test_blur_smooths_and_keeps_the_mean() -> None:
    noisy = noise(Image.new("RGB", (200, 200), (128, 128, 128)), 20, np.random.default_rng(1))
    assert pixels(blur(noisy, 2)).std() < 0.3 * pixels(noisy).std()
    assert pixels(blur(noisy, 2)).mean() == pytest.approx(pixels(noisy).mean(), abs=0.5)


def test_noise_has_the_asked_deviation() -> None:
    noisy = pixels(noise(Image.new("RGB", (200, 200), (128, 128, 128)), 10, np.random.default_rng(2))) - 128
    assert noisy.std() == pytest.approx(10, rel=0.03)
    assert noisy.mean() == pytest.approx(0, abs=0.2)
    assert np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1] == pytest.approx(2 / 3, abs=0.03)


def test_worse_jpeg_is_further_away() -> None:
    picture = noise(smooth_picture(120, 90), 10, np.random.default_rng(3))
    assert far_apart(jpeg(picture, 20), picture) > far_apart(jpeg(picture, 90), picture) > 0


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.7, 1.0])
def test_the_same_chance_gives_the_same_view_and_another_another(strength: float) -> None:
    picture, background = smooth_picture(150, 100), smooth_picture(80, 80, 1)

    def view(seed: int) -> Image.Image:
        return simulate_view(
            picture, np.random.default_rng(seed), strength, background, ViewSettings(long_side=96)
        )

    assert view(5).tobytes() == view(5).tobytes()
    assert view(5).mode == "RGB" and max(view(5).size) == 96
    if strength:
        assert view(5).tobytes() != view(6).tobytes()


def test_strength_nought_is_the_photograph_and_more_leads_away() -> None:
    picture, background = smooth_picture(160, 120), smooth_picture(80, 80, 1)
    limits = ViewSettings(long_side=160, aspects=(4 / 3,))

    def distance(strength: float) -> float:
        views = [
            simulate_view(picture, np.random.default_rng(seed), strength, background, limits)
            for seed in range(12)
        ]
        return float(np.mean([far_apart(view, picture) for view in views]))

    assert distance(0.0) < 4
    assert distance(0.0) < distance(0.4) < distance(1.0)


def test_a_close_view_needs_no_background() -> None:
    view = simulate_view(Image.new("RGB", (300, 40), (250, 250, 250)), np.random.default_rng(0), 1.0)
    assert max(view.size) == 400
