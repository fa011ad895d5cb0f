from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from cfcd.evaluation import GridCell, GridRow, write_grid_png

QUERY, RIGHT, WRONG, UNKNOWN = (ImageColor.getrgb(c) for c in ("#1f6feb", "#1a7f37", "#cf222e", "#8c959f"))
PHOTO = Image.new("RGB", (80, 60), (250, 240, 10))


def draw(rows, tmp_path, **more) -> np.ndarray:
    path = tmp_path / "new" / "results.png"
    write_grid_png(rows, path, title="Found", **more)
    image = Image.open(path)
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image)


def columns_of(pixels: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Return where, from left to right, upright frame edges of this colour stand."""
    return np.flatnonzero((pixels == colour).all(axis=2).sum(axis=0) > 60)


def row(*correct: bool | None, note: str = "") -> GridRow:
    return GridRow(GridCell(PHOTO, "query"), tuple(GridCell(PHOTO, "hit", 0.5, c) for c in correct), note)


def test_query_stands_left_and_each_hit_in_its_own_frame(tmp_path):
    pixels = draw([row(True, False, None)], tmp_path, thumb=80)
    query, right, wrong, unknown = (columns_of(pixels, c) for c in (QUERY, RIGHT, WRONG, UNKNOWN))
    assert query.max() < right.min() <= right.max() < wrong.min() <= wrong.max() < unknown.min()
    gap_after_query, gap_between_hits = right.min() - query.max(), wrong.min() - right.max()
    assert gap_after_query > 2 * gap_between_hits


def test_frames_appear_only_for_what_is_there(tmp_path):
    pixels = draw([row(True, True)], tmp_path, thumb=80)
    assert not (pixels == WRONG).all(axis=2).any()
    assert not (pixels == UNKNOWN).all(axis=2).any()


def test_right_and_wrong_carry_different_marks(tmp_path):
    """Compare the shapes within the frames' corners with all colour taken away."""

    def mark(correct: bool | None) -> np.ndarray:
        pixels = draw([row(correct)], tmp_path, thumb=80)
        colour = {True: RIGHT, False: WRONG, None: UNKNOWN}[correct]
        left = columns_of(pixels, colour).min()
        edge = (pixels[:, left] == colour).all(axis=1)
        top = max(np.flatnonzero(edge)) - 87
        return (pixels[top : top + 12, left : left + 12] == 255).all(axis=2)

    right, wrong, unknown = mark(True), mark(False), mark(None)
    assert right.sum() > 3 and wrong.sum() > 3
    assert (right != wrong).any()
    assert (unknown != wrong).any() and (unknown != right).any()


def test_pictures_are_pasted_whole_into_their_squares(tmp_path):
    pixels = draw([row(True)], tmp_path, thumb=80)
    yellow = (pixels == (250, 240, 10)).all(axis=2)
    assert yellow.sum() == pytest.approx(2 * 80 * 60, rel=0.03)  # marks cover a little


def test_height_grows_by_rows_and_width_by_hits(tmp_path):
    one, two = draw([row(True)], tmp_path), draw([row(True)] * 2, tmp_path)
    four, five = draw([row(*[True] * 4)], tmp_path), draw([row(*[True] * 5)], tmp_path)
    assert two.shape[0] - one.shape[0] > 160
    assert five.shape[1] - four.shape[1] > 160
    assert draw([row(True)], tmp_path, thumb=80).shape[0] < one.shape[0]


def test_many_hits_go_on_below(tmp_path):
    ten, eleven = draw([row(*[True] * 10)], tmp_path, thumb=80), draw([row(*[True] * 11)], tmp_path, thumb=80)
    assert eleven.shape[1] == ten.shape[1]
    assert eleven.shape[0] > ten.shape[0] + 80
    assert (eleven == (250, 240, 10)).all(axis=2).sum() == pytest.approx(12 * 80 * 60, rel=0.03)


@pytest.mark.parametrize("rows", [[], [row()], [GridRow(GridCell(None, ""), (GridCell(None, ""),))]])
def test_nothing_to_show_is_no_crash(rows, tmp_path):
    assert (draw(rows, tmp_path) < 128).any()


def test_unreadable_pictures_and_odd_captions_are_drawn(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    odd = "line\nbreak\ttab \x00 \udcff " + "very long " * 30
    rows = [GridRow(GridCell(bad, odd), (GridCell(bad, odd, 0.1, False),), odd)]
    clean = [GridRow(GridCell(bad, "q"), (GridCell(bad, "h", 0.1, False),))]
    assert draw(rows, tmp_path, subtitle=odd).shape[1] == draw(clean, tmp_path).shape[1]


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
    draw([row(True)], tmp_path)
    old = (tmp_path / "new" / "results.png").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        draw([row(False)], tmp_path)
    assert (tmp_path / "new" / "results.png").read_bytes() == old
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["results.png"]
