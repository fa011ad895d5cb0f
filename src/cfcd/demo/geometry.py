"""Flat pictures before a pinhole camera: homographies, projected corners, one picture laid over another."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Points = NDArray[np.float64]
"""(N, 2) float64, x then y, pixels; pixel centres lie at halves, as in Pillow."""


def solve_homography(source: Points, target: Points) -> NDArray[np.float64]:
    """Find the (3, 3) homography that carries four source points to four target points.

    Source: direct linear transform with the last entry fixed to 1 (Hartley and Zisserman, Multiple View
    Geometry, section 4.1).
    """
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows, float), np.array(values, float)), 1.0).reshape(3, 3)


def rectangle(width: float, height: float) -> Points:
    """List the corners of a picture: top left, top right, bottom right, bottom left."""
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float64)


def turned_corners(
    width: float, height: float, yaw: float, pitch: float, roll: float, field_of_view: float = 50.0
) -> Points:
    """Project the corners of a flat picture that is turned before a pinhole camera on its axis.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        yaw: Turn about the vertical axis, degrees; positive moves the right side away.
        pitch: Turn about the horizontal axis, degrees; positive moves the top away.
        roll: Turn in the image plane, degrees, clockwise as seen.
        field_of_view: Angle that the unturned picture's long side fills, degrees.

    Returns:
        (4, 2) pixels about the principal point (0, 0), in the order of `rectangle`; scale 1 where unturned.
    """
    focal = max(width, height) / 2 / math.tan(math.radians(field_of_view) / 2)
    a, b, c = (math.radians(angle) for angle in (yaw, pitch, roll))
    flat = rectangle(width, height) - (width / 2, height / 2)
    x, y = (
        flat[:, 0] * math.cos(c) - flat[:, 1] * math.sin(c),
        flat[:, 0] * math.sin(c) + flat[:, 1] * math.cos(c),
    )
    y, z = y * math.cos(b), -y * math.sin(b)
    x, z = x * math.cos(a) - z * math.sin(a), x * math.sin(a) + z * math.cos(a)
    # No corner may come nearer to the camera than a tenth of its distance, or it would fold over.
    return np.column_stack([x, y]) * (focal / np.maximum(focal + z, focal / 10))[:, None]


def warp(picture: Image.Image, corners: Points, size: tuple[int, int]) -> Image.Image:
    """Carry the corners of a picture to four points of a frame of a size; what lies outside stays zero."""
    top, right, bottom, left = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    # Transform samples without averaging, so a picture larger than its place would alias: shrink it first.
    wide, high = math.ceil(max(top, bottom)) + 1, math.ceil(max(left, right)) + 1
    if wide < picture.width or high < picture.height:
        fitted = (min(picture.width, wide), min(picture.height, high))
        picture = picture.resize(fitted, Image.Resampling.BICUBIC)
    inverse = solve_homography(corners, rectangle(*picture.size))
    coefficients = (inverse / inverse[2, 2]).ravel()[:8].tolist()
    return picture.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)


def place(picture: Image.Image, corners: Points, canvas: Image.Image) -> Image.Image:
    """Lay a picture over a canvas so that its corners come to four canvas points, with smooth edges."""
    edged = picture.convert("RGBA")
    # A transparent rim of one pixel makes the resampling blend the edges with the canvas.
    edged.putalpha(ImageOps.expand(Image.new("L", (picture.width - 2, picture.height - 2), 255), 1, 0))
    laid = warp(edged, corners, canvas.size)
    return Image.alpha_composite(canvas.convert("RGBA"), laid).convert("RGB")
