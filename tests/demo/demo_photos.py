"""Synthetic photographs for the demo's tests: smooth colours and shapes, no two alike."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image


def smooth_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Sum a few slow waves per colour: a picture that resampling hardly changes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    colours = []
    for _ in range(3):
        waves = sum(
            np.sin(2 * math.pi * (rng.uniform(-2, 2) * x + rng.uniform(-2, 2) * y + rng.random()))
            for _ in range(4)
        )
        colours.append(128 + 28 * waves)
    return Image.fromarray(np.clip(np.stack(colours, -1), 0, 255).astype(np.uint8))


def pixels(picture: Image.Image) -> np.ndarray:
    """Return the grey levels as (H, W, 3) float64."""
    return np.asarray(picture, np.float64)
