from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cfcd.explaining import Explanation, Match, Regions
from cfcd.explaining.drawing import MOST_LINES, SIDE, draw_explanation, say_matches, say_regions
from cfcd.explaining.heat import coloured, outline, ramp
from cfcd.explaining.lines import THIN, Line, draw_lines


def regions(shares, size=(96, 64), area=None):
    area = area or (0.0, 0.0, *map(float, size))
    return Regions(np.array(shares, float), 0.0, area, size, np.ones(3, np.float32))


def explained(query, hit, matches=()):
    return Explanation("m@1", float(query.shares.sum()), query, hit, tuple(matches), 1.0)


def grey(size=(96, 64), light=120):
    return Image.new("RGB", size, (light,) * 3)


def lightness(colours):
    """CIE L* of sRGB colours of 0..255."""
    linear = np.where(colours <= 10.3, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_colours_get_evenly_lighter():
    steps = np.diff(lightness(ramp(np.linspace(0, 1, 41))))
    assert steps.min() > 0.5
    assert steps.max() < 6
    np.testing.assert_array_equal(ramp(np.array([-1.0, 2.0])), ramp(np.array([0.0, 1.0])))


def test_warm_places_show_and_cold_ones_stay_grey():
    out = np.asarray(
        coloured(Image.new("RGB", (40, 20), (20, 120, 220)), np.array([[0.0, 0.0, 0.0, 1.0]])), int
    )
    cold, warm = out[10, 2], out[10, 36]
    assert np.ptp(cold) == 0
    assert warm[0] - warm[2] > 60
    assert lightness(warm.astype(float)) > lightness(cold.astype(float)) + 20


def test_an_outline_runs_around_the_cells_alone():
    marked = np.zeros((4, 6), bool)
    marked[1:3, 2:4] = True
    out = np.asarray(outline(grey((120, 80)), marked), int)[..., 0]
    changed = np.argwhere(abs(out - 120) > 30)
    (top, left), (bottom, right) = changed.min(0), changed.max(0)
    assert (abs(np.array([top, left, bottom, right]) - [20, 40, 60, 80]) <= 3).all()
    assert (out[24:56, 44:76] == 120).all()
    assert (np.asarray(outline(grey((120, 80)), np.zeros((4, 6), bool))) == 120).all()


def test_lines_begin_and_end_at_their_points():
    page = Image.new("RGB", (300, 200), "white")
    draw_lines(page, [Line((50, 60), (250, 140)), Line((40, 150), (240, 20), THIN)])
    pixels = np.asarray(page, int)
    for x, y in ((50, 60), (250, 140), (40, 150), (240, 20)):
        assert np.ptp(pixels[y, x]) > 60
    assert (pixels[190, 290] == 255).all()
    empty = Image.new("RGB", (30, 20), "white")
    draw_lines(empty, [])
    assert (np.asarray(empty) == 255).all()


@pytest.mark.parametrize("sizes", [((96, 64), (64, 96)), ((2000, 20), (10, 10))])
def test_a_drawing_has_both_pictures_twice(tmp_path, sizes):
    sides = [regions([[0.1, 0.4], [0.2, 0.1]], size) for size in sizes]
    found = explained(*sides, [Match((9.0, 9.0), (5.0, 5.0), 0.9, True)])
    path = draw_explanation(found, *map(grey, sizes), tmp_path / "new" / "why.png", names=("a", "b\n" * 99))
    with Image.open(path) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 2 * SIDE
        heights = [max(1, round(SIDE / max(w, h) * h)) for w, h in sizes]
        assert drawn.height > 2 * max(heights)


def test_pictures_that_do_not_match_stay_dark_and_are_said_so(tmp_path):
    alike, apart = regions([[0.5, 0.3]]), regions([[0.05, -0.09]])
    light = []
    for number, side in enumerate((alike, apart)):
        path = draw_explanation(explained(side, side), grey(), grey(), tmp_path / f"{number}.png")
        with Image.open(path) as drawn:
            shown = np.asarray(drawn.convert("RGB"), int)[132 : 132 + 300, 28 : 28 + SIDE]
        light.append(np.ptp(shown, axis=-1).max())
    assert light[0] > 100
    assert light[1] == 0
    assert say_regions(alike) == "Half of the score comes from the outlined 50 % of the picture."
    assert say_regions(apart) == "Regions for (+0.05) and against (-0.09) a match nearly cancel out."


def test_what_lies_outside_a_box_is_dimmed(tmp_path):
    boxed = regions([[0.3, 0.2]], area=(48.0, 0.0, 96.0, 64.0))
    path = draw_explanation(explained(boxed, boxed), grey(), grey(), tmp_path / "box.png")
    with Image.open(path) as drawn:
        lower = np.asarray(drawn.convert("L"), int)[-28 - 160, 28 : 28 + SIDE]
    assert (lower[:200] < 60).all()
    assert (lower[260:] > 100).all()
    assert "of the box" in say_regions(boxed)


def test_matches_are_counted_in_words():
    one = regions([[0.5]])
    match = Match((1.0, 1.0), (1.0, 1.0), 0.5, False)
    distinct = Match((1.0, 1.0), (1.0, 1.0), 0.5, True)
    said = [
        say_matches(explained(one, one, matches))
        for matches in ([], [match], [match, distinct], [match] * (MOST_LINES + 1))
    ]
    assert said == [
        "No place in one picture is most like a place in the other",
        "1 pair of places is each other's most alike, none distinctly",
        "2 pairs of places are each other's most alike, 1 of them distinctly (bold)",
        "31 pairs of places are each other's most alike, none distinctly; 30 are drawn",
    ]
