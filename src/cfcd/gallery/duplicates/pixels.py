"""Tell the same photograph from another photograph of the same object, by small grey pictures of both.

A re-encoded, resized, slightly cropped, turned or brightened copy lies on its original once both are aligned;
two photographs of one building do not, however alike their descriptors are.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cfcd.pictures import load_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Box

SIDE = 64
# Coarse to fine: (side in pixels, steps of Gauss-Newton).
_LEVELS = ((16, 8), (32, 5), (64, 4))
# Where the search starts: the other picture whole, a part of this one, or this one a part of it.
_STARTS = (1.0, 0.85, 1.18)
# Correlation at 16 pixels below which a closer look is not worthwhile.
_COARSE = 0.7
# The detail that is compared in the end: a difference of Gaussians of so many pixels' deviation. Coarser
# shapes agree between any two photographs from one side; finer ones change when a copy is resized.
_FINE, _BROAD = 0.7, 1.5
# Less of a picture than this in common is another picture, or no alignment.
_LEAST_OVERLAP = 0.5
# A picture of one colour lies on every other: contrast (standard deviation) below which nothing is told.
_LEAST_CONTRAST = 2.0
# Detail fainter than this is noise of the compression: fog and the like are compared as they are.
_LEAST_DETAIL = 1.0


def grey_thumbnail(path: Path, box: Box | None = None) -> NDArray[np.uint8]:
    """Read a picture as (64, 64) uint8 grey, stretched to a square.

    Raises:
        PictureError: The picture cannot be read.
    """
    picture = load_picture(path, box=box, long_side=SIDE, allow_truncated=True)
    small = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.uint8)


def likeness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Correlate the detail of two grey thumbnails where they overlap, once aligned by an affine warp.

    Alignment is coarse-to-fine Gauss-Newton on six parameters with gain and offset (Lucas and Kanade, 1981;
    Baker and Matthews, 2004).

    Args:
        one: (64, 64) uint8.
        other: (64, 64) uint8.

    Returns:
        0 to 1; 0 when they have little in common, or overlap by less than half. Two empty pages of one
        brightness give 1.
    """
    pyramids = [_pyramid(picture) for picture in (one, other)]
    if min(float(np.std(picture)) for picture in (one, other)) < _LEAST_CONTRAST:
        # Two empty pages are told apart by their brightness alone.
        return float(np.abs(one.astype(np.float32) - other).mean() < _LEAST_CONTRAST)
    best, warp = -1.0, np.zeros(6)
    for scale in _STARTS:
        start = np.array([scale, 0, 0, 0, scale, 0], np.float64)
        found = _align(pyramids[0][0], pyramids[1][0], start, _LEVELS[0][1])
        score = _correlation(pyramids[0][0], pyramids[1][0], found)
        if score > best:
            best, warp = score, found
    if best < _COARSE:
        return 0.0
    for level in (1, 2):
        warp = _align(pyramids[0][level], pyramids[1][level], warp, _LEVELS[level][1])
    details = (_detail(pyramids[0][2]), _detail(pyramids[1][2]))
    if min(float(np.std(detail)) for detail in details) < _LEAST_DETAIL:
        details = (pyramids[0][2], pyramids[1][2])
    return max(_correlation(details[0], details[1], warp), 0.0)


@cache
def _blur(deviation: float) -> NDArray[np.float32]:
    """Give the (64, 64) matrix that blurs along one axis, each row of it adding up to one."""
    at = np.arange(SIDE)
    weights = np.exp(-0.5 * ((at[:, None] - at) / deviation) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _detail(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    fine, broad = _blur(_FINE), _blur(_BROAD)
    return np.asarray(fine @ picture @ fine.T - broad @ picture @ broad.T, np.float32)


def _pyramid(picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    levels = []
    for side, _ in _LEVELS:
        step = SIDE // side
        levels.append(picture.reshape(side, step, side, step).mean((1, 3), dtype=np.float32))
    return levels


@cache
def _grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give x and y of every pixel, row by row, from -1 to 1."""
    along = (np.arange(side) + 0.5) * 2 / side - 1
    y, x = np.meshgrid(along, along, indexing="ij")
    return x.ravel(), y.ravel()


def _sample(
    picture: NDArray[np.float32], warp: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Read a picture at the warped grid: values, their slopes along x and y, and what lies within it."""
    side = len(picture)
    x, y = _grid(side)
    u = ((warp[0] * x + warp[1] * y + warp[2]) + 1) * side / 2 - 0.5
    v = ((warp[3] * x + warp[4] * y + warp[5]) + 1) * side / 2 - 0.5
    inside = (u > -0.5) & (u < side - 0.5) & (v > -0.5) & (v < side - 0.5)
    left = np.clip(np.floor(u), 0, side - 2).astype(np.intp)
    upper = np.clip(np.floor(v), 0, side - 2).astype(np.intp)
    s, t = np.clip(u - left, 0, 1), np.clip(v - upper, 0, 1)
    flat, at = picture.ravel(), upper * side + left
    a, b, c, d = flat[at], flat[at + 1], flat[at + side], flat[at + side + 1]
    values = (1 - t) * ((1 - s) * a + s * b) + t * ((1 - s) * c + s * d)
    slope_x = ((1 - t) * (b - a) + t * (d - c)) * side / 2
    slope_y = ((1 - s) * (c - a) + s * (d - b)) * side / 2
    return values, slope_x, slope_y, inside


def _align(
    one: NDArray[np.float32], other: NDArray[np.float32], warp: NDArray[np.float64], steps: int
) -> NDArray[np.float64]:
    """Improve an affine warp that reads `other` where `one` has its pixels."""
    x, y = _grid(len(one))
    target = one.ravel()
    for _ in range(steps):
        values, along_x, along_y, inside = _sample(other, warp)
        if inside.mean() < _LEAST_OVERLAP:
            break
        deviation = float(values[inside].std())
        if deviation == 0:
            break
        gain = float(np.cov(target[inside], values[inside])[0, 1]) / deviation**2
        columns = np.stack(
            (
                *(gain * slope * place for slope in (along_x, along_y) for place in (x, y, 1.0)),
                values,
                np.ones_like(values),
            ),
            axis=1,
        )[inside]
        # Weak damping: a picture of stripes says nothing of one direction.
        square = columns.T @ columns
        square[np.diag_indices(8)] *= 1.001
        square[np.diag_indices(8)] += 1e-6
        rest = target[inside] - gain * values[inside]
        change = np.linalg.solve(square, columns.T @ rest)[:6]
        warp = warp + np.clip(change, -0.2, 0.2)
        if np.abs(change).max() < 1e-4:
            break
    return warp


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32], warp: NDArray[np.float64]) -> float:
    values, _, _, inside = _sample(other, warp)
    if inside.mean() < _LEAST_OVERLAP:
        return 0.0
    a, b = one.ravel()[inside] - one.ravel()[inside].mean(), values[inside] - values[inside].mean()
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 0.0
