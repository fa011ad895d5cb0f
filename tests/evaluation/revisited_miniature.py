"""A miniature of the official layout: `gnd_roxford5k.pkl` and `jpg/` with made-up pictures."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support import make_photo

SIDE = (96, 64)


def make_miniature(root: Path, name: str = "roxford5k") -> dict[str, Any]:
    """Make 4 objects with 3 pictures each, queries that show theirs in a box amid noise; give the truth."""
    (root / "jpg").mkdir(parents=True)
    images, queries, gnd = [], [], []
    for number in range(4):
        base = make_photo(number, SIDE)
        pixels = np.asarray(base, np.float32)
        for variant in range(3):
            images.append(f"object{number}_{variant}")
            changed = np.clip(pixels * (0.75 + 0.1 * variant), 0, 255).astype(np.uint8)
            Image.fromarray(changed).save(root / "jpg" / f"{images[-1]}.jpg", quality=95)
        queries.append(f"query{number}")
        scene = make_photo(100 + number, (320, 240))
        scene.paste(base, (200, 150))
        scene.save(root / "jpg" / f"{queries[-1]}.jpg", quality=95)
        at = 3 * number
        gnd.append({"bbx": [200.0, 150.0, 296.0, 214.0], "easy": [at], "hard": [at + 1], "junk": [at + 2]})
    gnd[3]["easy"] = []
    truth = {"imlist": images, "qimlist": queries, "gnd": gnd}
    (root / f"gnd_{name}.pkl").write_bytes(pickle.dumps(truth, protocol=2))
    return truth


def make_distractors(folder: Path, count: int = 5) -> None:
    """Make pictures of nothing in particular."""
    folder.mkdir(parents=True)
    for number in range(count):
        make_photo(500 + number, SIDE).save(folder / f"d{number}.jpg")
