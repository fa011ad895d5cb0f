"""Google Landmarks v2 in miniature, in the layout and with the tables of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support import make_photo

TRAIN, INDEX, TEST = 1, 2, 3


def image(part: int, landmark: int, number: int = 0) -> str:
    return f"{part}{landmark}{number}{'0' * 13}"


def picture(root: Path, part: str, name: str) -> Path:
    return root / part / name[0] / name[1] / name[2] / f"{name}.jpg"


def draw(file: Path, landmark: int, light: float) -> None:
    pixels = np.asarray(make_photo(landmark), np.float32) * light
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file, quality=95)


def make_dataset(root: Path) -> Path:
    """Landmarks 0 to 2 with 3 images in train and in index; of queries 0 to 4 the last two show neither."""
    for landmark in range(3):
        for number in range(3):
            draw(picture(root, "train", image(TRAIN, landmark, number)), landmark, 0.7 + 0.1 * number)
            draw(picture(root, "index", image(INDEX, landmark, number)), landmark, 0.75 + 0.1 * number)
    for landmark in range(5):
        draw(picture(root, "test", image(TEST, landmark)), landmark, 0.8)

    def write(name: str, *lines: str) -> None:
        (root / name).write_text("\n".join([*lines, ""]))

    images = [" ".join(image(INDEX, landmark, number) for number in range(3)) for landmark in range(3)]
    trains = [" ".join(image(TRAIN, landmark, number) for number in range(3)) for landmark in range(3)]
    write("train_clean.csv", "landmark_id,images", *(f"{at},{names}" for at, names in enumerate(trains)))
    write("index.csv", "id", *" ".join(images).split())
    write("test.csv", "id", *(image(TEST, at) for at in range(5)))
    absent = " ".join(image(INDEX, 1, number) for number in (7, 8, 9))
    write(
        "retrieval_solution_v2.1.csv",
        "id,images,Usage",
        f"{image(TEST, 0)},{images[0]},Public",
        f"{image(TEST, 1)},{images[1]} {absent},Private",
        f"{image(TEST, 2)},{images[2]},Private",
        f"{image(TEST, 3)},None,Ignored",
    )
    write(
        "recognition_solution_v2.1.csv",
        "id,landmarks,Usage",
        f"{image(TEST, 0)},0,Public",
        f"{image(TEST, 1)},7 1,Private",
        f"{image(TEST, 2)},2,Private",
        f"{image(TEST, 3)},9,Private",
        f"{image(TEST, 4)},,Public",
        f"{image(TEST, 5)},2,Ignored",
    )
    return root


def check_retrieval(found: dict[str, Any]) -> None:
    """Query 1 finds 3 of its 6 images in the first places (the others are not in the index): AP 3/6."""
    assert (found["public"], found["private"], found["all"]) == pytest.approx((100, 75, 250 / 3), abs=1e-3)
    assert found["queries"] == {"public": 1, "private": 2, "all": 3}
    assert (found["measure"], found["gallery"], found["ignored_queries"]) == ("mAP@100", 9, 1)
    assert found["right_images_not_in_gallery"] == 3


def check_recognition(found: dict[str, Any]) -> None:
    """Queries 0 to 2 are right and surer than 3 and 4, which show nothing known; 3 has a landmark, 4 none."""
    assert (found["public"], found["private"], found["all"]) == pytest.approx((100, 200 / 3, 75), abs=1e-3)
    assert found["queries"] == {"public": 1, "private": 3, "all": 4}
    assert (found["measure"], found["gallery"], found["ignored_queries"]) == ("GAP", 9, 1)
    assert (found["neighbours"], found["vote"], found["unlabelled_left_out"]) == (3, "sum", 0)
