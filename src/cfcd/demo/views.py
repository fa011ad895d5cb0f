"""Simulated viewpoints of a photograph: single disturbances in plain units, and their graded mixture.

Every disturbance is a pure function of its arguments; those with chance in them take a generator.
Pictures are RGB.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from cfcd.demo.geometry import place, turned_corners, warp
from cfcd.pictures import rescaled

_PLANCK_MICROMETRE_KELVIN = 14388.0
_RGB_MICROMETRES = (0.610, 0.550, 0.465)
DAYLIGHT = 6500.0
"""Colour temperature that leaves colours alone, kelvin."""


# --- viewpoint ----------------------------------------------------------------------------------------------


def perspective(
    picture: Image.Image, yaw: float, pitch: float = 0.0, roll: float = 0.0, field_of_view: float = 50.0
) -> Image.Image:
    """See a picture from the side (degrees, as in `turned_corners`), so near that it fills its own frame."""
    width, height = picture.size
    corners = turned_corners(width, height, yaw, pitch, roll, field_of_view)
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.column_stack([-edges[:, 1], edges[:, 0]])
    inside = np.sum(normals * -corners, axis=1)
    reach = np.abs(normals) @ (width / 2, height / 2)
    # Half a pixel more than enough keeps rounding from showing what lies outside.
    zoom = float(np.max((reach + 0.5) / inside))
    return warp(picture, corners * zoom + (width / 2, height / 2), picture.size)


def rotate(picture: Image.Image, degrees: float) -> Image.Image:
    """Turn a picture in its plane, clockwise, same size, zoomed in until no border shows."""
    return perspective(picture, 0.0, 0.0, degrees)


def rescale(picture: Image.Image, factor: float) -> Image.Image:
    """Multiply both sides by a factor."""
    return rescaled(picture, factor)


def crop(
    picture: Image.Image, area: float, position: tuple[float, float] = (0.5, 0.5), aspect: float | None = None
) -> Image.Image:
    """Keep a part of a picture.

    Args:
        picture: RGB.
        area: Share of the picture's area to keep, 0 to 1; less where the asked aspect does not fit.
        position: Where the part lies, from (0, 0) top left to (1, 1) bottom right.
        aspect: Width over height of the part; the picture's own if None.
    """
    width, height = picture.size
    ratio = width / height if aspect is None else aspect
    wide = math.sqrt(area * width * height * ratio)
    wide = min(wide, width, height * ratio)
    high = wide / ratio
    left, top = position[0] * (width - wide), position[1] * (height - high)
    return picture.crop(
        (
            round(left),
            round(top),
            max(round(left + wide), round(left) + 1),
            max(round(top + high), round(top) + 1),
        )
    )


def clutter(
    picture: Image.Image,
    background: Image.Image,
    share: float,
    position: tuple[float, float] = (0.5, 0.5),
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Image.Image:
    """Put a picture, turned as a whole, before a background.

    Args:
        picture: RGB.
        background: RGB; the result has its size.
        share: Area of the turned picture over that of the frame; less where it would not fit the frame.
        position: From (0, 0), touching the top left, to (1, 1), touching the bottom right.
        turn: Yaw, pitch and roll, degrees.
    """
    corners = turned_corners(*picture.size, *turn)
    x, y = corners.T
    area = abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2
    frame = np.array(background.size, float)
    extent = np.ptp(corners, axis=0)
    scale = min(math.sqrt(share * float(frame.prod()) / area), float(np.min(frame / extent)))
    offset = (frame - extent * scale) * position
    return place(picture, (corners - corners.min(axis=0)) * scale + offset, background)


# --- cover and light ----------------------------------------------------------------------------------------


def foreground(size: tuple[int, int], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the outline of something that reaches into the frame, mostly from one side.

    Args:
        size: Width and height, pixels.
        fraction: Share of the area it covers, 0 to 1, exact to a few pixels.
        rng: Source of chance.

    Returns:
        (height, width) mask, the threshold of a smooth random field with a slope.
    """
    width, height = size
    angle = rng.uniform(0, 2 * math.pi)
    steps = np.linspace(-0.5, 0.5, 6)
    slope = math.cos(angle) * steps[None, :] + math.sin(angle) * steps[:, None]
    coarse = Image.fromarray((rng.random((6, 6)) + slope).astype(np.float32))
    field = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC, box=(1, 1, 5, 5)))
    covered = round(fraction * field.size)
    if covered == 0:
        return np.zeros((height, width), dtype=np.bool_)
    return np.asarray(field <= np.partition(field, covered - 1, axis=None)[covered - 1])


def occlude(
    picture: Image.Image, fraction: float, rng: np.random.Generator, texture: Image.Image | None = None
) -> Image.Image:
    """Hide a fraction of the area (0 to 1) behind something of a texture, mid-grey if None."""
    cover = Image.new("RGB", picture.size, (110, 110, 110))
    if texture is not None:
        cover = ImageOps.fit(texture, picture.size, Image.Resampling.BICUBIC)
    mask = Image.fromarray(foreground(picture.size, fraction, rng)).convert("L")
    return Image.composite(cover, picture, mask.filter(ImageFilter.GaussianBlur(1.0)))


def illuminant(kelvin: float) -> tuple[float, float, float]:
    """Compute the gains of red, green and blue under a black body instead of daylight, green = 1.

    Source: Planck's law at 610, 550 and 465 nm, relative to 6500 K.
    """
    gains = [
        math.expm1(_PLANCK_MICROMETRE_KELVIN / (length * DAYLIGHT))
        / math.expm1(_PLANCK_MICROMETRE_KELVIN / (length * kelvin))
        for length in _RGB_MICROMETRES
    ]
    return gains[0] / gains[1], 1.0, gains[2] / gains[1]


def relight(
    picture: Image.Image, gain: float = 1.0, gamma: float = 1.0, kelvin: float = DAYLIGHT
) -> Image.Image:
    """Change the light.

    Args:
        picture: RGB.
        gain: Factor on the light that reaches the camera, before its tone curve (exponent 1 / 2.2).
        gamma: Exponent on the finished picture; above 1 darkens the middle.
        kelvin: Colour temperature of the light; 6500 leaves colours alone, lower is warmer.
    """
    tones = np.linspace(0.0, 1.0, 256)
    table: list[int] = []
    for colour in illuminant(kelvin):
        lit = np.clip(tones**2.2 * gain * colour, 0.0, 1.0) ** (gamma / 2.2)
        table += np.rint(lit * 255).astype(int).tolist()
    return picture.point(table)


def shade(
    picture: Image.Image, depth: float, degrees: float, softness: float = 1.0, position: float = 0.5
) -> Image.Image:
    """Let light fall off across a picture, or a shadow lie over one side.

    Args:
        picture: RGB.
        depth: Loss at the dark end, 0 (none) to 1 (black).
        degrees: Direction in which it grows dark; 0 is right, 90 is down.
        softness: Width of the change over the picture's extent: 1 is a gradient, 0.02 the edge of a shadow.
        position: Where along the extent the middle of the change lies, 0 to 1.
    """
    width, height = picture.size
    across, down = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * across
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) * down
    extent = abs(across) * width + abs(down) * height
    along = (x[None, :] + y[:, None]) / extent + 0.5 - position
    light = 1.0 - depth * np.clip(along / max(softness, 1e-3) + 0.5, 0.0, 1.0)
    return _from_floats(np.asarray(picture) * light[:, :, None].astype(np.float32))


def blur(picture: Image.Image, radius: float) -> Image.Image:
    """Defocus by a Gaussian of a radius (standard deviation) in pixels."""
    return picture.filter(ImageFilter.GaussianBlur(radius))


def noise(picture: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Add sensor noise of a standard deviation in grey levels (of 255), a third of its variance coloured."""
    shape = (picture.height, picture.width)
    grey, colour = rng.standard_normal((*shape, 1), np.float32), rng.standard_normal((*shape, 3), np.float32)
    colour *= sigma / math.sqrt(3)
    colour += grey * (sigma * math.sqrt(2 / 3))
    colour += np.asarray(picture)
    return _from_floats(colour)


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """Compress and decompress as JPEG of a quality from 1 to 95."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as stored:
        return stored.convert("RGB")


def _from_floats(pixels: NDArray[np.float32]) -> Image.Image:
    """Round and clip (H, W, 3) grey levels, which are overwritten."""
    np.rint(pixels, out=pixels)
    np.clip(pixels, 0, 255, out=pixels)
    return Image.fromarray(pixels.astype(np.uint8))


# --- the graded mixture -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ViewSettings:
    """How far each disturbance of a simulated view goes at strength 1; at strength 0 none goes anywhere."""

    long_side: int = 400
    """Longer side of a view, pixels."""
    aspects: tuple[float, ...] = (4 / 3, 3 / 4, 1.0)
    """Shapes of a view, width over height."""
    surroundings: float = 0.5
    """Chance that a view shows the whole object in surroundings, not a part of it that fills the frame."""
    share: tuple[float, float] = (0.9, 0.25)
    """Share of the frame that the object takes in surroundings, easy and hard."""
    part: tuple[float, float] = (1.0, 0.3)
    """Share of the object's area that fills the frame in a close view, easy and hard."""
    yaw: float = 45.0
    """Degrees to either side."""
    pitch: float = 30.0
    """Degrees up or down."""
    roll: float = 20.0
    """Degrees either way."""
    covered: float = 0.3
    """Share of the frame that something in front hides."""
    stops: float = 1.2
    """Brighter or darker light, in powers of two."""
    contrast: float = 0.4
    """Gamma away from 1, either way."""
    night: float = 0.3
    """Chance, at strength 1, that it is night."""
    night_stops: float = 3.0
    """Loss of light at night, in powers of two."""
    night_kelvin: float = 2700.0
    """Colour temperature of street lamps."""
    mired: float = 90.0
    """Colour of daylight away from 6500 K, in millionths of an inverse kelvin, either way."""
    shade: float = 0.6
    """Loss of light on the dark side of a shadow or gradient, 0 to 1."""
    blur: float = 2.0
    """Defocus, pixels."""
    noise: float = 12.0
    """Sensor noise, grey levels."""
    quality: tuple[int, int] = (90, 30)
    """JPEG quality, easy and hard."""


def simulate_view(
    picture: Image.Image,
    rng: np.random.Generator,
    strength: float,
    background: Image.Image | None = None,
    settings: ViewSettings = ViewSettings(),
) -> Image.Image:
    """See the object on a picture from another place, in another light, through another camera.

    Args:
        picture: RGB photograph of the object.
        rng: Source of all chance; the same state gives the same view.
        strength: How hard the view is to recognise, 0 (the photograph itself) to 1.
        background: RGB surroundings and cover; without it every view is a close one.
        settings: Limits of every disturbance.

    Returns:
        RGB, its longer side `settings.long_side`.
    """

    def some(limit: float) -> float:
        return float(limit * strength * rng.uniform(0.4, 1.0))

    def either_way(limit: float) -> float:
        return some(limit) * float(rng.choice((-1.0, 1.0)))

    def graded(ends: tuple[float, float]) -> float:
        return ends[0] + some(ends[1] - ends[0])

    size = _frame(picture, rng, strength, settings)
    turn = (either_way(settings.yaw), either_way(settings.pitch), either_way(settings.roll))
    position = (0.5 + either_way(0.5), 0.5 + either_way(0.5))
    if background is not None and rng.random() < settings.surroundings * min(1.0, 3 * strength):
        canvas = ImageOps.fit(background, size, Image.Resampling.BICUBIC)
        view = clutter(picture, canvas, graded(settings.share), position, turn)
    else:
        part = crop(picture, graded(settings.part), position, size[0] / size[1])
        view = perspective(part.resize(size, Image.Resampling.BICUBIC), *turn)
    if rng.random() < strength:
        cover = None if background is None else relight(ImageOps.mirror(background), gain=0.6)
        view = occlude(view, some(settings.covered), rng, cover)
    view = shade(view, some(settings.shade), float(rng.uniform(0, 360)), float(rng.choice((0.03, 1.0))))
    if rng.random() < settings.night * strength:
        view = relight(view, gain=2.0 ** -some(settings.night_stops), kelvin=settings.night_kelvin)
    else:
        kelvin = 1e6 / (1e6 / DAYLIGHT + either_way(settings.mired))
        view = relight(view, 2.0 ** either_way(settings.stops), 1 + either_way(settings.contrast), kelvin)
    view = noise(blur(view, some(settings.blur)), some(settings.noise), rng)
    return jpeg(view, round(graded(settings.quality)))


def _frame(
    picture: Image.Image, rng: np.random.Generator, strength: float, settings: ViewSettings
) -> tuple[int, int]:
    """Choose the size of a view: the shape nearest to the picture's when easy, any when hard."""
    aspect = min(settings.aspects, key=lambda shape: abs(math.log(shape * picture.height / picture.width)))
    if rng.random() < strength:
        aspect = float(rng.choice(settings.aspects))
    return round(settings.long_side * min(1.0, aspect)), round(settings.long_side * min(1.0, 1 / aspect))
