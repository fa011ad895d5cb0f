"""Pictures of items made anew as JPEGs, upright and without anything else that their files hold."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from cfcd.catalog import Item
from cfcd.encoding.encoder import Reading
from cfcd.errors import PictureError
from cfcd.pictures import load_picture, picture_size
from cfcd.serving.errors import PictureMissing
from cfcd.serving.queries import Rendered

_QUALITY = 85
_KEPT_SIDE = 512  # larger ones are asked for one at a time, and would push out hundreds of small ones


class Pictures:
    """Render the pictures of items; small ones are kept, the last used of them.

    Args:
        reading: How pictures are read, and what they may cost.
        max_bytes: What is kept, in bytes of JPEG.
    """

    def __init__(self, reading: Reading, max_bytes: int = 64 << 20) -> None:
        self._reading = reading
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def file(self, item: Item) -> Path:
        """Give the file of an item's picture.

        Raises:
            PictureMissing: It is not there.
        """
        if not item.path.is_file():
            raise _missing(item)
        return item.path

    def read(self, item: Item) -> bytes:
        """Give the bytes of an item's picture; unlike its path they cannot get into a message of a decoder.

        Raises:
            PictureMissing: It is not there, or no picture.
        """
        try:
            picture_size(item.path, limits=self._reading.limits)
            return item.path.read_bytes()
        except (OSError, PictureError) as error:
            raise _missing(item) from error

    def kept(self, item: Item, side: int, *, boxed: bool = False) -> Rendered | None:
        """Give what `render` would, if it is at hand.

        Raises:
            PictureMissing: The file is not there any more.
        """
        return self._find(_mark(item, side, boxed))

    def render(self, item: Item, side: int, *, boxed: bool = False) -> Rendered:
        """Make a JPEG with a long side of at most `side` pixels, of the whole picture or the item's box.

        Raises:
            PictureMissing: The file cannot be read any more.
        """
        mark = _mark(item, side, boxed)
        if (found := self._find(mark)) is not None:
            return found
        try:
            picture = load_picture(
                item.path,
                box=item.box if boxed else None,
                long_side=side,
                allow_truncated=True,
                limits=self._reading.limits,
            )
        except PictureError as error:
            raise _missing(item) from error
        jpeg = _to_jpeg(picture, side)
        if side <= _KEPT_SIDE:
            self._keep(mark, jpeg)
        return Rendered(jpeg, mark)

    def _find(self, mark: str) -> Rendered | None:
        with self._lock:
            if mark not in self._kept:
                return None
            self._kept.move_to_end(mark)
            return Rendered(self._kept[mark], mark)

    def _keep(self, mark: str, jpeg: bytes) -> None:
        with self._lock:
            if mark not in self._kept:
                self._kept[mark] = jpeg
                self._bytes += len(jpeg)
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])


def _mark(item: Item, side: int, boxed: bool) -> str:
    """Give what changes with the item, its file, or what is wanted of it; opening no file."""
    try:
        status = item.path.stat()
    except (OSError, ValueError) as error:
        raise _missing(item) from error
    box = item.box if boxed else None
    made_of = (item.id, str(item.path), status.st_ino, status.st_mtime_ns, status.st_size, side, box)
    return hashlib.blake2b(ascii(made_of).encode(), digest_size=12).hexdigest()


def _to_jpeg(picture: Image.Image, side: int) -> bytes:
    scale = side / max(picture.size)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _missing(item: Item) -> PictureMissing:
    return PictureMissing(
        f"The picture of {item.id!r} cannot be read any more.",
        "Put its file back, or bring the gallery in line with its folder by cfcd index.",
    )
