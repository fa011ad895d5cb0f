"""The random crop of a training picture: part, flip, colours and light, all decided by a key.

Nothing but the key decides: not the process, nor the thread, nor how often a run was resumed.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.training.recipe import AugmentRecipe

_TRIES = 10

# How far the colours of ImageNet vary (grey levels of 0..255) along their principal components (the columns;
# rows R, G, B), as fb.resnet.torch published them for the method of Krizhevsky et al. (2012).
_LIGHT_SPREAD = 255 * np.array([0.2175, 0.0188, 0.0045])
_LIGHT_DIRECTIONS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def crop_random(seed: int, epoch: int, slot: int) -> Random:
    """Make the source of randomness of one crop.

    Only its `random()` is used here, which Python promises to keep: the same on every version and machine.

    Args:
        seed: Of the run.
        epoch: Number of the epoch.
        slot: Number of the crop within the epoch, over all processes.
    """
    return Random(f"cfcd crop {seed} {epoch} {slot}")


def random_crop(picture: Image.Image, settings: AugmentRecipe, random: Random) -> NDArray[np.uint8]:
    """Draw a part of a picture, resize it, perhaps flip it, and change its colours and light.

    Args:
        picture: RGB.
        settings: How crops are drawn.
        random: Decides everything, see `crop_random`.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    left, top, width, height = draw_part(*picture.size, settings, random)
    crop = picture.resize(
        (settings.size, settings.size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + width, top + height),
    )
    if random.random() < settings.flip:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if settings.colour:
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            crop = enhancer(crop).enhance(_between(1 - settings.colour, 1 + settings.colour, random))
    if settings.lighting:
        crop = _relight(crop, settings.lighting, random)
    return np.asarray(crop)


def draw_part(width: int, height: int, settings: AugmentRecipe, random: Random) -> tuple[int, int, int, int]:
    """Draw the part of a picture that a crop shows.

    Area share uniform, aspect log-uniform, position uniform; a part that does not fit in is drawn again, and
    after ten tries it is a square of the picture's shorter side.

    Returns:
        (left, top, width, height) in pixels, inside the picture, at least 1 x 1.
    """
    log_aspects = math.log(settings.aspect[0]), math.log(settings.aspect[1])
    for _ in range(_TRIES):
        area = width * height * _between(*settings.area, random)
        aspect = math.exp(_between(*log_aspects, random))
        part_width = max(round(math.sqrt(area * aspect)), 1)
        part_height = max(round(math.sqrt(area / aspect)), 1)
        if part_width <= width and part_height <= height:
            break
    else:
        part_width = part_height = min(width, height)
    left = int(random.random() * (width - part_width + 1))
    top = int(random.random() * (height - part_height + 1))
    return left, top, part_width, part_height


def crop_long_side(settings: AugmentRecipe) -> int:
    """Compute the `long_side` (pixels) to load pictures with: crops shall not come from too few pixels.

    The smallest crop of a W x H picture has the shorter side sqrt(smallest area x W x H / extreme aspect);
    this is the side of the square picture where that is `size`. As `load_picture` leaves twice the long side
    asked for, crops of pictures up to four times as long as wide have `size` pixels, too; so have the squares
    that are drawn where no part fits in, for which it is at least 2 x `size`.
    """
    extreme = max(settings.aspect[1], 1 / settings.aspect[0])
    return math.ceil(settings.size * max(math.sqrt(extreme / settings.area[0]), 2.0))


def _relight(picture: Image.Image, deviation: float, random: Random) -> Image.Image:
    """Add one colour to all pixels, drawn along the principal components of ImageNet's colours.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
    2012, section 4.1.
    """
    normals = np.array([_normal(random) for _ in range(3)])
    light = _LIGHT_DIRECTIONS @ (deviation * normals * _LIGHT_SPREAD)
    # A table per channel takes a quarter of the time of arithmetic on the pixels.
    tables = np.rint(np.arange(256) + light[:, None]).clip(0, 255).astype(int)
    return picture.point(tables.ravel().tolist())


def _between(low: float, high: float, random: Random) -> float:
    return low + (high - low) * random.random()


def _normal(random: Random) -> float:
    """Draw from the standard normal distribution (Box and Muller)."""
    return math.sqrt(-2 * math.log(1 - random.random())) * math.cos(math.tau * random.random())
