"""Made-up pictures for tests."""

from __future__ import annotations

import numpy as np
from PIL import Image


def make_photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Draw smooth random colour fields: as unlike each other as photographs are, and cheap."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
