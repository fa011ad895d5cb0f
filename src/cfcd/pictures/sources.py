"""What a picture may come from: the limits, the suffixes, and the way from a source to a byte stream."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy.typing as npt
from PIL import Image

from cfcd.errors import PictureTooLarge, UnreadablePicture

PictureSource: TypeAlias = Path | str | bytes | BinaryIO | Image.Image | npt.NDArray[Any]

# Lower case, with the dot, as `Path.suffix.lower()` gives them; files are decoded by content, not by suffix.
# fmt: off
IMAGE_SUFFIXES: frozenset[str] = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif", ".avifs", ".bmp",
    ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c",
    ".heic", ".heif", ".hif",
})
# fmt: on

ANONYMOUS = "the picture"


@dataclass(frozen=True)
class PictureLimits:
    """Bound what a file may cost before its pixels are decoded.

    Args:
        max_pixels: Largest width times height, in pixels.
        max_bytes: Largest file, in bytes.
    """

    max_pixels: int = 200_000_000
    max_bytes: int = 500_000_000


def source_name(source: object) -> str:
    """Name a source in an error message: the path as it was given, or "the picture"."""
    return os.fspath(source) if isinstance(source, (str, Path)) else ANONYMOUS


def check_pixels(size: tuple[int, int], name: str, limits: PictureLimits) -> None:
    """Refuse a picture with more pixels than the limit.

    Raises:
        PictureTooLarge: Width times height is over `limits.max_pixels`.
    """
    if size[0] * size[1] > limits.max_pixels:
        raise PictureTooLarge(
            f"Cannot read {name}: it has {size[0]:,} x {size[1]:,} pixels, over the limit of "
            f"{limits.max_pixels:,}.",
            "Scale it down, or raise the pixel limit if you trust the file.",
        )


def _check_bytes(count: int, name: str, limits: PictureLimits) -> None:
    if count == 0:
        raise UnreadablePicture(f"Cannot read {name}: it is empty (0 bytes).", "Copy the file again.")
    if count > limits.max_bytes:
        raise PictureTooLarge(
            f"Cannot read {name}: it has {count:,} bytes, over the limit of {limits.max_bytes:,}.",
            "Save it smaller, or raise the byte limit if you trust the file.",
        )


@contextmanager
def open_stream(source: object, name: str, limits: PictureLimits) -> Iterator[BinaryIO]:
    """Open a path, bytes or a seekable binary file as a stream at its start; close only what was opened here.

    Raises:
        UnreadablePicture: Missing, empty, no ordinary file, not permitted, or no picture source at all.
        PictureTooLarge: More bytes than `limits.max_bytes`.
    """
    if isinstance(source, (str, Path)):
        with _open_file(source, name, limits) as file:
            yield file
    elif isinstance(source, (bytes, bytearray, memoryview)):
        _check_bytes(len(source), name, limits)
        yield io.BytesIO(source)
    elif hasattr(source, "read") and hasattr(source, "seek"):
        yield _rewind(source, name, limits)
    else:
        raise UnreadablePicture(
            f"Cannot read {name}: {type(source).__name__} is no picture source.",
            "Pass a path, bytes, an open binary file, a PIL image or a numpy array.",
        )


def _open_file(path: str | Path, name: str, limits: PictureLimits) -> BinaryIO:
    try:
        # stat before open: opening a named pipe would wait for ever.
        status = os.stat(path)  # noqa: PTH116
        if stat.S_ISDIR(status.st_mode):
            raise UnreadablePicture(f"Cannot read {name}: it is a folder.", "Name a picture in it instead.")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadablePicture(
                f"Cannot read {name}: it is no ordinary file.", "Save the picture as a file and name that."
            )
        _check_bytes(status.st_size, name, limits)
        return open(path, "rb")  # noqa: PTH123
    except FileNotFoundError as error:
        raise UnreadablePicture(
            f"Cannot read {name}: there is no such file.", "Check the path; it is case-sensitive."
        ) from error
    except PermissionError as error:
        raise UnreadablePicture(
            f"Cannot read {name}: permission denied.", "Give yourself the right to read it."
        ) from error
    except (OSError, ValueError) as error:
        raise UnreadablePicture(f"Cannot read {name}: {error}.", "Check the path and the disk.") from error


def _rewind(source: Any, name: str, limits: PictureLimits) -> BinaryIO:
    try:
        count = source.seek(0, io.SEEK_END)
        source.seek(0)
        binary = isinstance(source.read(0), bytes)
    except Exception as error:  # a caller's own file-like object may raise anything
        raise UnreadablePicture(
            f"Cannot read {name}: the open file cannot be read from its start ({error}).",
            "Pass a seekable file opened with 'rb', or its bytes.",
        ) from error
    if not binary:
        raise UnreadablePicture(f"Cannot read {name}: the file was opened as text.", "Open it with 'rb'.")
    _check_bytes(count, name, limits)
    stream: BinaryIO = source
    return stream
