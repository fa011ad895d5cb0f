from __future__ import annotations

import math

import numpy as np
import pytest
from demo_photos import pixels, smooth_picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfcd.demo.geometry import place, rectangle, solve_homography, turned_corners, warp

shift = st.floats(-20, 20)


def carry(homography: np.ndarray, x: float, y: float) -> tuple[float, float]:
    a, b, c = homography @ (x, y, 1.0)
    return a / c, b / c


def homography_by_svd(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The textbook null-space solution, another way than the library's."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([-x, -y, -1, 0, 0, 0, u * x, u * y, u])
        rows.append([0, 0, 0, -x, -y, -1, v * x, v * y, v])
    found = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
    return found / found[2, 2]


@given(st.lists(shift, min_size=8, max_size=8))
def test_homography_carries_the_corners_and_equals_the_null_space_solution(shifts: list[float]) -> None:
    source = rectangle(100, 80)
    target = source + np.array(shifts).reshape(4, 2)
    found = solve_homography(source, target)
    for corner, goal in zip(source, target, strict=True):
        assert carry(found, *corner) == pytest.approx(tuple(goal), abs=1e-6)
    np.testing.assert_allclose(found, homography_by_svd(source, target), rtol=1e-6, atol=1e-6)


def project_slowly(
    x: float, y: float, yaw: float, pitch: float, roll: float, focal: float
) -> tuple[float, float]:
    """Rotate one point of the plane z = 0 by three matrices and divide by its distance."""
    a, b, c = map(math.radians, (yaw, pitch, roll))
    about_z = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(b), math.sin(b)], [0, -math.sin(b), math.cos(b)]])
    about_y = np.array([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])
    point = about_y @ about_x @ about_z @ np.array([x, y, 0.0])
    return focal * point[0] / (focal + point[2]), focal * point[1] / (focal + point[2])


@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(-180, 180))
def test_turned_corners_equal_a_camera_written_out(yaw: float, pitch: float, roll: float) -> None:
    focal = 60 / math.tan(math.radians(20))
    slow = [
        project_slowly(x, y, yaw, pitch, roll, focal) for x, y in [(-60, -40), (60, -40), (60, 40), (-60, 40)]
    ]
    np.testing.assert_allclose(turned_corners(120, 80, yaw, pitch, roll, 40.0), slow, atol=1e-9)


def test_positive_yaw_moves_the_right_side_away_and_positive_pitch_the_top() -> None:
    left_top, right_top, right_bottom, left_bottom = turned_corners(100, 100, 30, 0, 0)
    assert right_bottom[1] - right_top[1] < left_bottom[1] - left_top[1]
    left_top, right_top, right_bottom, left_bottom = turned_corners(100, 100, 0, 30, 0)
    assert right_top[0] - left_top[0] < right_bottom[0] - left_bottom[0]


def warp_slowly(picture: Image.Image, corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Look every pixel centre up in the source, between its four neighbours."""
    source = pixels(picture)
    back = np.linalg.inv(solve_homography(rectangle(*picture.size), corners))
    result = np.zeros((size[1], size[0], 3))
    for row in range(size[1]):
        for column in range(size[0]):
            x, y = carry(back, column + 0.5, row + 0.5)
            if not (0 <= x < picture.width and 0 <= y < picture.height):
                continue
            x, y = min(max(x - 0.5, 0), picture.width - 1.001), min(max(y - 0.5, 0), picture.height - 1.001)
            i, j = int(y), int(x)
            near = source[i : i + 2, j : j + 2]
            across = near[:, 0] * (1 - x + j) + near[:, 1] * (x - j)
            result[row, column] = across[0] * (1 - y + i) + across[1] * (y - i)
    return result


def test_warp_equals_a_pixel_by_pixel_lookup() -> None:
    picture = smooth_picture(90, 70)
    corners = np.array([(8.0, 4.0), (100.0, 12.0), (85.0, 88.0), (3.0, 75.0)])
    difference = np.abs(pixels(warp(picture, corners, (110, 95))) - warp_slowly(picture, corners, (110, 95)))
    # Pixels on the outline may fall to either side.
    assert np.mean(difference.max(axis=2) > 3) < 0.01


def test_warp_averages_when_it_shrinks() -> None:
    stripes = Image.fromarray(np.tile(np.array([[0], [255]], np.uint8), (200, 400))).convert("RGB")
    small = pixels(warp(stripes, rectangle(50, 50), (50, 50)))
    assert np.abs(small[5:-5, 5:-5] - 127.5).max() < 12


def test_place_keeps_the_canvas_outside_and_the_picture_inside() -> None:
    canvas, picture = Image.new("RGB", (60, 50), (10, 20, 30)), Image.new("RGB", (40, 40), (200, 100, 50))
    laid = pixels(place(picture, rectangle(20, 20) + np.array([20, 15]), canvas))
    assert (laid[:13] == (10, 20, 30)).all() and (laid[:, :18] == (10, 20, 30)).all()
    assert np.abs(laid[18:32, 23:37] - (200, 100, 50)).max() <= 1
    assert canvas.getpixel((30, 25)) == (10, 20, 30)
