from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.encoding import Reading
from cfcd.errors import TrainingError
from cfcd.pictures import load_picture
from cfcd.training import crops as module
from cfcd.training.augment import crop_random, random_crop
from cfcd.training.crops import CropLoader, Crops
from cfcd.training.data import TrainingSet
from cfcd.training.recipe import AugmentRecipe
from tests.support import make_photo

SETTINGS = AugmentRecipe(size=32, colour=0.3, lighting=0.1)
STEPS, BATCH = 6, 5
SLOTS = np.arange(STEPS * BATCH).reshape(STEPS, BATCH)
IMAGES = np.random.default_rng(0).integers(0, 12, (STEPS, BATCH))


def loader_of(folder: Path, **options: Any) -> CropLoader:
    return CropLoader(TrainingSet.from_catalog(read_catalog(folder)), SETTINGS, seed=3, **options)


def expected_crop(folder: Path, image: int, epoch: int, slot: int) -> np.ndarray:
    picture = load_picture(read_catalog(folder).file(image), allow_truncated=True)
    return random_crop(picture, SETTINGS, crop_random(3, epoch, slot))


def pixels_of(steps: list[Crops]) -> np.ndarray:
    return np.stack([step.pixels for step in steps])


def test_crops_are_those_of_their_keys(photos: Path) -> None:
    loader = loader_of(photos)
    steps = list(loader.stream(2, IMAGES, SLOTS))
    assert len(steps) == STEPS
    for step, images, slots in zip(steps, IMAGES, SLOTS, strict=True):
        assert step.pixels.shape == (BATCH, 32, 32, 3)
        assert step.pixels.dtype == np.uint8
        assert step.images.tolist() == images.tolist()
        assert step.labels.tolist() == (images // 4).tolist()
        for pixels, image, slot in zip(step.pixels, images, slots, strict=True):
            assert np.array_equal(pixels, expected_crop(photos, image, 2, slot))
    assert loader.unreadable == {}


def test_threads_place_and_process_change_nothing(photos: Path) -> None:
    whole = pixels_of(list(loader_of(photos, workers=1).stream(0, IMAGES, SLOTS)))
    threads = pixels_of(list(loader_of(photos, workers=7).stream(0, IMAGES, SLOTS)))
    assert np.array_equal(threads, whole)
    resumed = pixels_of(list(loader_of(photos).stream(0, IMAGES[4:], SLOTS[4:])))
    assert np.array_equal(resumed, whole[4:])
    second_of_two = pixels_of(list(loader_of(photos).stream(0, IMAGES[:, 3:], SLOTS[:, 3:])))
    assert np.array_equal(second_of_two, whole[:, 3:])
    next_epoch = pixels_of(list(loader_of(photos).stream(1, IMAGES, SLOTS)))
    assert not np.array_equal(next_epoch, whole)


def test_unreadable_pictures_give_way_to_the_next_of_their_class(photos: Path) -> None:
    (photos / "bridge" / "1.jpg").write_bytes(b"no picture")  # images 4 to 7 are the bridge
    (photos / "bridge" / "2.jpg").unlink()
    (photos / "church" / "3.jpg").write_bytes(b"")
    # The training set is made of what was there.
    items = [
        Item(f"{label}/{n}", photos / label / f"{n}.jpg", label)
        for label in ("arch", "bridge", "church")
        for n in range(4)
    ]
    data = TrainingSet.from_catalog(Catalog.from_items(items, source=photos, root=photos, kind="table"))
    loader = CropLoader(data, SETTINGS, seed=3)
    images = np.array([[4, 5, 6, 7], [11, 10, 11, 0], [5, 5, 6, 3]])
    slots = np.arange(12).reshape(3, 4)
    stream = loader.stream(0, images, slots)
    first = next(stream)
    assert first.images.tolist() == [4, 7, 7, 7]
    assert first.labels.tolist() == [1, 1, 1, 1]
    assert set(loader.unreadable) == {5, 6}  # image 11 comes later, whatever the threads have met
    for place, pixels in enumerate(first.pixels):
        picture = load_picture(data.catalog.file(int(first.images[place])))
        assert np.array_equal(pixels, random_crop(picture, SETTINGS, crop_random(3, 0, place)))
    assert [step.images.tolist() for step in stream] == [[8, 10, 8, 0], [7, 7, 7, 3]]
    assert set(loader.unreadable) == {5, 6, 11}
    assert "no such file" in loader.unreadable[6]
    again = [step.images.tolist() for step in loader.stream(0, images, slots)]
    assert again == [[4, 7, 7, 7], [8, 10, 8, 0], [7, 7, 7, 3]]
    assert len(data.without(loader.unreadable)) == 9


def test_a_class_without_readable_pictures_is_named(photos: Path) -> None:
    for file in (photos / "church").iterdir():
        file.write_bytes(b"no picture")
    loader = loader_of(photos)
    images = np.array([[0], [1], [9]])
    given = []
    with pytest.raises(TrainingError, match=r"No image of class 'church' can be read\. .*church/1\.jpg"):
        for step in loader.stream(0, images, images):
            given.append(step.images.tolist())  # noqa: PERF401
    assert given == [[0], [1]]
    assert not decoding_threads()


def test_truncated_pictures_count_only_on_demand(photos: Path) -> None:
    file = photos / "arch" / "2.jpg"
    file.write_bytes(file.read_bytes()[:-400])
    strict, lenient = loader_of(photos), loader_of(photos, reading=Reading(allow_truncated=True))
    images = np.array([[2]])
    assert next(iter(strict.stream(0, images, images))).images.tolist() == [3]
    assert set(strict.unreadable) == {2}
    crops = next(iter(lenient.stream(0, images, images)))
    assert crops.images.tolist() == [2]
    assert np.array_equal(crops.pixels[0], expected_crop(photos, 2, 0, 2))
    assert lenient.unreadable == {}


def test_boxes_are_respected(photos: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))
    items = [Item(file.name, file, file.parent.name, box=(5.0, 6.0, 60.0, 40.0)) for file in files]
    data = TrainingSet.from_catalog(Catalog.from_items(items, source=photos, root=photos, kind="table"))
    crops = next(iter(CropLoader(data, SETTINGS, seed=3).stream(0, IMAGES, SLOTS)))
    for pixels, image, slot in zip(crops.pixels, IMAGES[0], SLOTS[0], strict=True):
        part = load_picture(files[image]).crop((5, 6, 60, 40))
        assert np.array_equal(pixels, random_crop(part, SETTINGS, crop_random(3, 0, slot)))


def test_large_pictures_are_decoded_small_and_look_the_same(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def watched(picture: Image.Image, *rest: Any) -> np.ndarray:
        sizes.append(picture.size)
        return random_crop(picture, *rest)

    make_photo(1, (1600, 1200)).save(photos / "arch" / "0.jpg", quality=95)
    monkeypatch.setattr(module, "random_crop", watched)
    slots = np.arange(8).reshape(1, 8)
    crops = next(iter(loader_of(photos).stream(0, np.zeros_like(slots), slots)))
    # 32 / sqrt(0.3) * sqrt(4 / 3) is 68 pixels, and twice as many are enough: 1600 / 8 = 200.
    assert set(sizes) == {(200, 150)}
    for pixels, slot in zip(crops.pixels, slots[0], strict=True):
        full = expected_crop(photos, 0, 0, slot)
        assert np.abs(pixels.astype(int) - full).mean() < 3


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_closing_early_stops_the_threads(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def watched(catalog: Catalog, row: int, *rest: Any) -> Image.Image:
        read.append(row)
        return make_photo(0)

    monkeypatch.setattr(module, "read_row", watched)
    images = np.zeros((1000, 4), np.int64)
    stream = loader_of(photos, workers=2).stream(0, images, np.arange(4000).reshape(1000, 4))
    next(stream)
    stream.close()
    assert not decoding_threads()
    assert 4 <= len(read) <= 16  # one step given, three ahead


def test_an_epoch_of_no_steps(photos: Path) -> None:
    none = np.zeros((0, 4), np.int64)
    assert list(loader_of(photos).stream(0, none, none)) == []
