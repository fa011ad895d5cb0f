"""What happens to photos, at graded strengths: the disturbances that robustness is measured under.

Fixed kinds of corruption at graded severities are the idea of ImageNet-C (Hendrycks & Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", 2019); kinds and strengths
here are those of retrieval by photographs. Every disturbance is a function of the picture, the strength and
the picture's id alone, whatever the order and the threads. The levels of one picture differ in strength: it
turns to the same side and has the same noise at all of them.

What a turn uncovers is filled with the picture's own reflection at its edges. Black corners would tell turned
pictures apart by themselves, and cutting down to the inside would mix a crop into the measure of a turn.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cfcd.errors import EvaluationError
from cfcd.pictures import rescaled

Apply = Callable[[Image.Image, float, np.random.Generator], Image.Image]

_FIELD_OF_VIEW = 50.0  # degrees that a picture's long side fills, about that of a phone's main camera
_LARGEST_COVER = 0.2  # of the picture's area, for one rectangle
_NOT_COVERED = 0.002  # of the picture's area: where covering ends, short of the share asked for


@dataclass(frozen=True)
class Disturbance:
    """Describe one disturbance.

    Attributes:
        name: One word.
        measure: What its strength is.
        strengths: From mild to severe; level n is the n-th, level 0 is the picture as it is.
        labels: The strengths in words for people, as many.
        apply: Disturbs an RGB picture with a strength; a generator makes its random choices.
    """

    name: str
    measure: str
    strengths: tuple[float, ...]
    labels: tuple[str, ...]
    apply: Apply


def disturb(picture: Image.Image, disturbance: Disturbance, level: int, key: str) -> Image.Image:
    """Disturb a picture; equal arguments give equal pixels.

    Args:
        picture: RGB; stays as it is.
        disturbance: What happens.
        level: 0, for the picture itself, up to the number of strengths.
        key: The picture's id, which decides what is left to chance.

    Returns:
        RGB, in a size of its own.

    Raises:
        EvaluationError: There is no such level.
    """
    if not 0 <= level <= len(disturbance.strengths):
        raise EvaluationError(
            f"{disturbance.name} has no level {level}.", f"Use 0 to {len(disturbance.strengths)}."
        )
    if level == 0:
        return picture
    digest = hashlib.blake2b(f"{disturbance.name}\0{key}".encode("utf-8", "surrogatepass"), digest_size=16)
    chance = np.random.default_rng(int.from_bytes(digest.digest(), "big"))
    return disturbance.apply(picture, disturbance.strengths[level - 1], chance)


def seen_from_the_side(picture: Image.Image, yaw: float, chance: np.random.Generator) -> Image.Image:
    """Show a flat picture as a pinhole camera sees it from the left or the right, `yaw` degrees off.

    The frame is as wide as the picture then appears and as high as the picture.
    Source: the homography of a plane (Hartley and Zisserman, Multiple View Geometry, section 8.1).
    """
    width, height = picture.size
    focal = max(width, height) / 2 / math.tan(math.radians(_FIELD_OF_VIEW / 2))
    sine, cosine = _side(chance) * math.sin(math.radians(yaw)), math.cos(math.radians(yaw))
    seen = np.array([(focal * cosine, 0, 0), (0, focal, 0), (sine, 0, focal)])
    ends = _carry(seen, np.array([(-width / 2, 0), (width / 2, 0)]))[:, 0]
    frame = (max(1, round(ends[1] - ends[0])), height)
    # Twice as fine, then averaged: the far side shrinks further than its surroundings and would alias.
    fine = _shift(ends.mean(), 0) @ np.diag((0.5, 0.5, 1.0)) @ _shift(-frame[0], -frame[1])
    return _resampled(picture, np.linalg.inv(seen) @ fine, (2 * frame[0], 2 * frame[1])).reduce(2)


def turned(picture: Image.Image, degrees: float, chance: np.random.Generator) -> Image.Image:
    """Turn a picture in its plane, clockwise or the other way; quarter turns are exact and swap the sides."""
    angle = _side(chance) * degrees
    quarters = round(angle / 90)
    quarter = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}
    if quarters % 4:
        picture = picture.transpose(quarter[quarters % 4])
    rest = math.radians(angle - 90 * quarters)
    if rest == 0:
        return picture
    turn = np.array([(math.cos(rest), -math.sin(rest), 0), (math.sin(rest), math.cos(rest), 0), (0, 0, 1.0)])
    return _resampled(picture, turn @ _shift(-picture.width / 2, -picture.height / 2), picture.size)


def shrunk(picture: Image.Image, factor: float, _chance: np.random.Generator) -> Image.Image:
    """Shrink both sides by a factor."""
    return rescaled(picture, factor, Image.Resampling.BICUBIC)


def cropped(picture: Image.Image, kept: float, chance: np.random.Generator) -> Image.Image:
    """Keep a share of the area, in the picture's shape, around a place near the middle."""
    sides = [max(1, round(side * math.sqrt(kept))) for side in picture.size]
    # From the middle half of where the crop could lie: people crop around what they mean.
    left, top = (
        round((side - part) * chance.uniform(0.25, 0.75))
        for side, part in zip(picture.size, sides, strict=True)
    )
    return picture.crop((left, top, left + sides[0], top + sides[1]))


def covered(picture: Image.Image, share: float, chance: np.random.Generator) -> Image.Image:
    """Cover a share of the area with rectangles of grey or of noise."""
    pixels = np.array(picture)
    height, width = pixels.shape[:2]
    hidden = np.zeros((height, width), bool)
    while (missing := share - hidden.mean()) > _NOT_COVERED:
        area, aspect = min(missing, _LARGEST_COVER) * height * width, 2 ** chance.uniform(-1, 1)
        # Never more than is missing, so whole pixels are rounded down.
        high = max(1, min(height, int(math.sqrt(area * aspect))))
        wide = max(1, min(width, int(area / high)))
        top, left = chance.integers(height - high + 1), chance.integers(width - wide + 1)
        place = np.s_[top : top + high, left : left + wide]
        hidden[place] = True
        pixels[place] = 128 if chance.random() < 0.5 else chance.integers(0, 256, (high, wide, 3), np.uint8)
    return Image.fromarray(pixels)


def blurred(picture: Image.Image, sigma: float, _chance: np.random.Generator) -> Image.Image:
    """Blur with a Gaussian whose sigma is a share of the long side."""
    return picture.filter(ImageFilter.GaussianBlur(sigma * max(picture.size)))


def noisy(picture: Image.Image, sigma: float, chance: np.random.Generator) -> Image.Image:
    """Add Gaussian noise to every value of every pixel, sigma in units of 255."""
    pixels = np.asarray(picture, np.float32)
    pixels = pixels + np.float32(sigma) * chance.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))


def exposed(picture: Image.Image, stops: float, _chance: np.random.Generator) -> Image.Image:
    """Give a picture 2**stops times its light; what grows too bright is clipped.

    Source: the transfer function of sRGB (IEC 61966-2-1).
    """
    value = np.arange(256) / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) * 2.0**stops
    light = np.minimum(light, 1.0)
    value = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return picture.point(np.rint(255 * value).astype(int).tolist() * 3)


def compressed(picture: Image.Image, quality: float, _chance: np.random.Generator) -> Image.Image:
    """Save as JPEG of a quality, colours at half the resolution, and open again."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(quality), subsampling="4:2:0")
    with Image.open(buffer) as opened:
        return opened.convert("RGB")


DISTURBANCES = (
    Disturbance("perspective", "yaw", (15, 30, 45, 60), ("15°", "30°", "45°", "60°"), seen_from_the_side),
    Disturbance("rotation", "turn", (15, 45, 90, 180), ("15°", "45°", "90°", "180°"), turned),
    Disturbance(
        "scale", "factor on both sides", (1 / 2, 1 / 4, 1 / 8, 1 / 16), ("1/2", "1/4", "1/8", "1/16"), shrunk
    ),
    Disturbance("crop", "area kept", (0.7, 0.5, 0.3, 0.15), ("70%", "50%", "30%", "15%"), cropped),
    Disturbance("occlusion", "area covered", (0.1, 0.25, 0.4, 0.6), ("10%", "25%", "40%", "60%"), covered),
    Disturbance(
        "blur",
        "sigma, share of the long side",
        (0.002, 0.004, 0.008, 0.016),
        ("0.2%", "0.4%", "0.8%", "1.6%"),
        blurred,
    ),
    Disturbance("noise", "sigma, of 255", (10, 20, 40, 80), ("10", "20", "40", "80"), noisy),
    Disturbance("darker", "stops of light", (-1.5, -3, -4.5, -6), ("-1.5", "-3", "-4.5", "-6"), exposed),
    Disturbance("brighter", "stops of light", (1, 2, 3, 4), ("+1", "+2", "+3", "+4"), exposed),
    Disturbance("JPEG", "quality", (50, 20, 10, 5), ("50", "20", "10", "5"), compressed),
)


def _side(chance: np.random.Generator) -> int:
    return 1 if chance.random() < 0.5 else -1


def _shift(x: float, y: float) -> NDArray[np.float64]:
    return np.array([(1, 0, x), (0, 1, y), (0, 0, 1)], float)


def _carry(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry (N, 2) points by a homography."""
    carried = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return carried[:, :2] / carried[:, 2:]


def _resampled(picture: Image.Image, source: NDArray[np.float64], size: tuple[int, int]) -> Image.Image:
    """Fill a frame from a picture that goes on beyond its edges as its own reflection.

    Args:
        picture: RGB.
        source: (3, 3) homography from pixels of the frame to pixels about the middle of the picture.
        size: (width, height) of the frame.
    """
    width, height = picture.size
    source = _shift(width / 2, height / 2) @ source
    corners = np.array([(0, 0), (size[0], 0), size, (0, size[1])], float)
    reached = _carry(source, corners)
    rim = 2  # pixels that the interpolation looks beyond a point
    before = np.maximum(0, np.ceil(rim - reached.min(axis=0))).astype(int)
    after = np.maximum(0, np.ceil(reached.max(axis=0) + rim - (width, height))).astype(int)
    pixels = np.pad(
        np.asarray(picture), ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="symmetric"
    )
    source = _shift(before[0], before[1]) @ source
    coefficients = (source / source[2, 2]).ravel()[:8].tolist()
    return Image.fromarray(pixels).transform(
        size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )
