from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw

from cfcd.errors import UsageError
from cfcd.explaining import lines
from cfcd.training.matches import SIDE, MatchedPair, draw_matches

LEFT, RIGHT = (90, 90, 96), (70, 76, 70)  # told apart from each other and from every pair's colour
COLOURS = [ImageColor.getrgb(colour) for colour in lines.COLOURS]


def matched(pairs, grid=(5, 5), left=(224, 224), right=(224, 224), **more) -> MatchedPair:
    return MatchedPair(
        Image.new("RGB", left, LEFT), Image.new("RGB", right, RIGHT), pairs, grid, "tower", **more
    )


def drawn(folder, *tuples: MatchedPair) -> np.ndarray:
    path = folder / "new" / "matches.png"
    assert draw_matches(tuples, path, title="Matches") == path
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image).astype(int)


def box(pixels: np.ndarray, colour) -> tuple[int, int, int, int]:
    """Find left, top, width and height of what is painted in one colour."""
    rows, columns = np.nonzero((pixels == colour).all(2))
    return columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1


def centre(pixels: np.ndarray, colour, cell, grid) -> tuple[float, float]:
    left, top, width, height = box(pixels, colour)
    return left + (cell[1] + 0.5) * width / grid[1], top + (cell[0] + 0.5) * height / grid[0]


def is_at(pixels: np.ndarray, colour, x: float, y: float) -> bool:
    near = pixels[round(y) - 2 : round(y) + 2, round(x) - 2 : round(x) + 2]
    return bool((np.abs(near - colour).max(2) <= 12).any())


def cells(grid):
    return st.tuples(st.integers(0, grid[0] - 1), st.integers(0, grid[1] - 1))


@st.composite
def single_pairs(draw):
    grid = draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
    return grid, (draw(cells(grid)), draw(cells(grid)))


@settings(max_examples=20, deadline=None)
@given(single_pairs())
def test_dots_stand_on_the_centres_of_their_cells(tmp_path_factory, drawing):
    grid, pair = drawing
    pixels = drawn(tmp_path_factory.getbasetemp(), matched([pair], grid))
    painted = np.argwhere(np.abs(pixels - COLOURS[0]).max(2) <= 12)
    ends = [centre(pixels, colour, cell, grid) for colour, cell in zip((LEFT, RIGHT), pair, strict=True)]
    for x, y in ends:
        assert is_at(pixels, COLOURS[0], x, y)
        for way in (-1, 1):  # the white rim, above and below
            outwards = [pixels[int(y + way * r), int(x)].min() for r in (3.5, 4.5, 5.5)]
            assert max(outwards) > 150
    # Nothing stands left or right of the two dots.
    assert abs(painted[:, 1].min() - ends[0][0]) <= 5.5
    assert abs(painted[:, 1].max() - ends[1][0]) <= 5.5


def test_line_from_the_middle_column_is_straight(tmp_path):
    pixels = drawn(tmp_path, matched([((1, 2), (3, 4))]))
    (x0, y0), (x1, y1) = (centre(pixels, c, cell, (5, 5)) for c, cell in ((LEFT, (1, 2)), (RIGHT, (3, 4))))
    for t in np.linspace(0, 1, 50):
        assert is_at(pixels, COLOURS[0], x0 + t * (x1 - x0), y0 + t * (y1 - y0))


def test_lines_within_a_row_of_the_map_do_not_hide_each_other(tmp_path):
    """Pairs at the same height are what a good positive gives: each line must be seen for most of its way."""
    pairs = [((3, column), (3, column)) for column in range(7)]
    pixels = drawn(tmp_path, matched(pairs[::-1], (7, 7)))
    for number, (cell, _) in enumerate(pairs):
        x0, x1 = (round(centre(pixels, picture, cell, (7, 7))[0]) for picture in (LEFT, RIGHT))
        between = pixels[:, x0 + 8 : x1 - 8]
        seen = (np.abs(between - COLOURS[number]).max(2) <= 60).any(0)
        assert seen.mean() > 0.8


def test_pairs_take_their_own_colours_and_repeat_them_after_the_last(tmp_path):
    pairs = [((row, 0), (row, 6)) for row in range(7)] + [((6, 6), (0, 0))]
    pixels = drawn(tmp_path, matched(pairs, (7, 7)))
    for number, (anchor, positive) in enumerate(pairs):
        for picture, cell in ((LEFT, anchor), (RIGHT, positive)):
            assert is_at(pixels, COLOURS[number % 7], *centre(pixels, picture, cell, (7, 7)))


def test_many_pairs_get_thinner_lines(tmp_path):
    grid = (12, 12)
    few, many = ([((5, 5), (5, 5))] + [((11, 11), (11, 11))] * count for count in (1, 60))
    amounts = []
    for pairs in (few, many):
        pixels = drawn(tmp_path, matched(pairs, grid))
        x = box(pixels, LEFT)[0] + SIDE + 12
        column = pixels[: round(centre(pixels, LEFT, (7, 0), grid)[1]), x]
        amounts.append((255 - column[-100:]).sum())
    assert amounts[1] < 0.8 * amounts[0]


@pytest.mark.parametrize(
    ("size", "shown"),
    [((224, 224), (400, 400)), ((800, 600), (400, 300)), ((30, 60), (200, 400)), ((900, 1), (400, 1))],
)
def test_pictures_are_fitted_without_distortion(tmp_path, size, shown):
    pixels = drawn(tmp_path, matched([], left=size))
    assert box(pixels, LEFT)[2:] == shown
    assert box(pixels, RIGHT)[2:] == (SIDE, SIDE)


def test_cells_of_pictures_of_two_shapes(tmp_path):
    grid, pair = (6, 8), ((5, 7), (0, 0))
    pixels = drawn(tmp_path, matched([pair], grid, left=(800, 600), right=(300, 600)))
    for colour, cell in zip((LEFT, RIGHT), pair, strict=True):
        assert is_at(pixels, COLOURS[0], *centre(pixels, colour, cell, grid))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pictures_of_other_modes(tmp_path, mode):
    picture = Image.new("RGB", (50, 50), (128, 128, 128)).convert(mode, palette=Image.Palette.ADAPTIVE)
    pixels = drawn(tmp_path, MatchedPair(picture, picture, [((0, 0), (1, 1))], (2, 2), "grey"))
    assert (np.abs(pixels - 128).max(2) <= 4).sum() > 1.9 * SIDE * SIDE


@pytest.fixture
def words(monkeypatch) -> list[str]:
    said = []
    write = ImageDraw.ImageDraw.text

    def noted(self, at, text, *more, **named):
        said.append(text)
        return write(self, at, text, *more, **named)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    return said


def test_captions_say_label_number_and_note(tmp_path, words):
    one = ((0, 0), (0, 0))
    drawn(tmp_path, matched([]), matched([one], note="loss 0.5"), matched([one, one]))
    assert words[0] == "Matches"
    assert words[2::2] == ["tower"] * 3
    assert [said.split()[:2] for said in words[3::2]] == [["no", "pair"], ["1", "pair"], ["2", "pairs"]]
    assert words[5].endswith("loss 0.5")


def test_no_pair_paints_nothing_on_the_pictures(tmp_path):
    pixels = drawn(tmp_path, matched([]))
    for colour in (LEFT, RIGHT):
        assert (pixels == colour).all(2).sum() == SIDE * SIDE


def test_no_tuples_are_said_in_words(tmp_path, words):
    assert (drawn(tmp_path) < 128).any()
    assert words[-1] == "No tuples to show."


def test_every_tuple_adds_its_row(tmp_path):
    heights = [len(drawn(tmp_path, *[matched([])] * count)) for count in (1, 2, 3)]
    assert heights[2] - heights[1] == heights[1] - heights[0] > SIDE


def test_long_captions_are_cut_and_control_letters_left_out(tmp_path, words):
    drawn(tmp_path, matched([], note="word\n" * 500))
    assert words[-1].startswith("no pair accepted")
    assert "..." in words[-1]
    assert "\n" not in words[-1]


@pytest.mark.parametrize("cell", [(5, 0), (0, 5), (-1, 0), (0, -1)])
def test_pair_off_the_grid_is_refused(cell):
    with pytest.raises(UsageError, match="tower"):
        matched([((0, 0), (0, 0)), (cell, (0, 0))])
    with pytest.raises(UsageError, match="tower"):
        matched([((0, 0), cell)])


def test_failure_leaves_the_old_picture(tmp_path, monkeypatch):
    drawn(tmp_path, matched([]))
    path = tmp_path / "new" / "matches.png"
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_matches([], path, title="x")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["matches.png"]
