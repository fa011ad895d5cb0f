"""The demo collection: a folder per object, each object seen from many simulated viewpoints."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cfcd.demo.sources import Photo, find_photos, open_photo
from cfcd.demo.views import ViewSettings, crop, relight, simulate_view
from cfcd.errors import MissingExtra, UsageError

MARKER = ".cfcd-demo.json"
CREDITS = "CREDITS.md"
FEWEST_OBJECTS = 8
SAVED_QUALITY = 88

_CREDITS_HEAD = """# Where these pictures come from

Every picture here is a simulated view, made by cfcd from a real photograph that an installed Python package
ships: cropped, warped, relit, partly covered, set before other surroundings and compressed again. Pass this
list on with the pictures (CC BY and CC BY-SA ask for it), and those made from CC BY-SA photographs under the
same licence.

| folder | photograph |
|---|---|
"""


@dataclass(frozen=True)
class CollectionSummary:
    """What a demo collection holds and where."""

    folder: Path
    objects: int
    images: int
    size_bytes: int
    missing: tuple[str, ...]
    """One line for each photograph that is not installed."""
    built: bool
    """Whether this call made it; otherwise it was there already."""


def build_collection(
    out: Path,
    *,
    views: int = 12,
    seed: int = 0,
    size: int = 400,
    progress: Callable[[int, int], None] | None = None,
) -> CollectionSummary:
    """Write the demo collection to `out/OBJECT/view_00.jpg` and on, view 00 the easiest, with `CREDITS.md`.

    The same settings and packages give the same files. A finished collection with the same settings is left
    alone, one with other settings is replaced unless files were added to it. `out` never holds half a
    collection: the work is done in a hidden folder beside it, then renamed.

    Args:
        out: Folder to make.
        views: Pictures of each object, at least 2.
        seed: Of all chance.
        size: Longer side of each picture, pixels, at least 32.
        progress: Called with (done, total) pictures.

    Raises:
        UsageError: `views` or `size` is too small, or `out` holds something else.
        MissingExtra: Fewer than 8 objects have a photograph installed.
    """
    if views < 2 or size < 32:
        raise UsageError(
            f"A demo collection with {views} views of {size} pixels makes no sense.",
            "Ask for at least 2 views of at least 32 pixels.",
        )
    out = out.absolute()
    photos, missing = find_photos()
    objects: dict[str, list[Photo]] = {}
    for photo in photos:
        if not photo.backdrop:
            objects.setdefault(photo.name, []).append(photo)
    if len(objects) < FEWEST_OBJECTS:
        raise MissingExtra(
            f"The demo needs photographs of {FEWEST_OBJECTS} objects, only {len(objects)} are installed.",
            'Install them with pip install "cfcd[demo]".',
        )
    made_with = {"format": 1, "views": views, "seed": seed, "size": size, "objects": sorted(objects)}
    found = _read_marker(out)
    if found == made_with and all((out / name).is_file() for name in _files_of(made_with)):
        return _summarise(out, made_with, missing, built=False)
    _refuse_foreign(out, found)
    part, old = (out.with_name(f".{out.name}.{os.getpid()}.{role}") for role in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write_views(part, objects, [photo for photo in photos if photo.backdrop], made_with, progress)
        _write_credits(part / CREDITS, photos)
        (part / MARKER).write_text(json.dumps(made_with, indent=2) + "\n", encoding="utf-8")
        if out.exists():
            out.rename(old)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return _summarise(out, made_with, missing, built=True)


def _write_views(
    folder: Path,
    objects: dict[str, list[Photo]],
    backdrops: list[Photo],
    made_with: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> None:
    views, seed = made_with["views"], made_with["seed"]
    settings = ViewSettings(long_side=made_with["size"])
    textures = [open_photo(photo) for photo in backdrops]
    pictures = {name: [open_photo(photo) for photo in shown] for name, shown in objects.items()}

    def write(task: tuple[str, int]) -> None:
        name, view = task
        rng = np.random.default_rng((seed, zlib.crc32(name.encode()), view))
        picture = pictures[name][view % len(pictures[name])]
        others = [shown[0] for other, shown in pictures.items() if other != name]
        background = surroundings(textures, others, rng, settings.long_side)
        result = simulate_view(picture, rng, view / (views - 1), background, settings)
        result.save(folder / name / f"view_{view:02d}.jpg", quality=SAVED_QUALITY)

    for name in objects:
        (folder / name).mkdir(parents=True)
    tasks = [(name, view) for name in objects for view in range(views)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(write, tasks), 1):
            if progress is not None:
                progress(done, len(tasks))


def surroundings(
    textures: list[Image.Image], others: list[Image.Image], rng: np.random.Generator, side: int
) -> Image.Image:
    """Make something to stand around or before an object: a tinted texture, or another scene out of focus.

    Args:
        textures: RGB backdrops.
        others: RGB photographs of other objects; blurred until none can be recognised.
        rng: Source of chance.
        side: Of the square result, pixels.
    """
    sharp = bool(textures) and rng.random() < 0.6
    pictures = textures if sharp else others
    position = (float(rng.random()), float(rng.random()))
    scene = crop(pictures[int(rng.integers(len(pictures)))], float(rng.uniform(0.15, 0.6)), position, 1.0)
    if sharp:
        scene = scene.resize((side, side), Image.Resampling.BICUBIC).convert("L")
        red, green, blue = (int(value) for value in rng.integers((150, 130, 60), (256, 236, 150)))
        return ImageOps.colorize(ImageOps.autocontrast(scene), (25, 22, 20), (red, green, blue))
    coarse = scene.resize((6, 6), Image.Resampling.BOX).resize((side, side), Image.Resampling.BICUBIC)
    return relight(coarse, gain=float(rng.uniform(0.5, 1.5)))


def _write_credits(path: Path, photos: list[Photo]) -> None:
    lines = [
        f"| {'surroundings' if photo.backdrop else photo.name} | {photo.path.name}: {photo.credit} |"
        for photo in sorted(photos, key=lambda photo: (photo.backdrop, photo.name))
    ]
    path.write_text(_CREDITS_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def _read_marker(folder: Path) -> dict[str, Any] | None:
    """Read the settings of the collection in a folder, None if there is none."""
    try:
        value = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _files_of(made_with: dict[str, Any]) -> list[str]:
    """List the files of a collection, relative to its folder."""
    pictures = [
        f"{name}/view_{view:02d}.jpg" for name in made_with["objects"] for view in range(made_with["views"])
    ]
    return [*pictures, CREDITS, MARKER]


def _refuse_foreign(out: Path, found: dict[str, Any] | None) -> None:
    """Raise unless `out` is free, empty, or holds a collection and nothing else that would be lost."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    there = (
        {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        if out.is_dir()
        else set()
    )
    try:
        foreign = found is None or not there <= set(_files_of(found))
    except (KeyError, TypeError):
        foreign = True
    if foreign:
        raise UsageError(
            f"{out} holds files that are not part of a demo collection.",
            "Name a folder that does not exist yet.",
        )


def _summarise(out: Path, made_with: dict[str, Any], missing: list[str], *, built: bool) -> CollectionSummary:
    count = len(made_with["objects"])
    size = sum((out / name).stat().st_size for name in _files_of(made_with))
    return CollectionSummary(out, count, count * made_with["views"], size, tuple(missing), built)
