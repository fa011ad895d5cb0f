"""What a path in a catalog may be: endings of pictures, and no way out of the catalog's folder."""

from __future__ import annotations

import os

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif", ".avifs", ".bmp",
    ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
    ".heic", ".heif", ".hif",
))
# Camera raw files, drawings and films that people keep among their photos: worth a word when left out.
UNREAD_SUFFIXES = frozenset((
    ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw", ".svg", ".psd", ".xcf",
    ".eps", ".jxl", ".jxr", ".pdf", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp",
))
# fmt: on


def suffix_of(name: str) -> str:
    """Return the lower-case ending of a file name with its dot, or an empty string."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per file would double a folder's walk


def is_text(name: str) -> bool:
    """Tell whether a name can be written as UTF-8; names of files may hold any bytes."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def path_fault(path: str) -> str | None:
    """Say what keeps a path as written from being used, or None when it is fine."""
    if not path.strip():
        return "the path is empty"
    if "\0" in path:
        return "the path holds a zero byte"
    if not is_text(path):
        return "the path is not UTF-8 text"
    if ".." in path and not os.path.isabs(path) and _leaves(path):  # noqa: PTH117
        return "leaves the catalog's folder; write an absolute path if you mean it"
    return None


def _leaves(path: str) -> bool:
    depth = 0
    for part in path.replace("\\", "/").split("/") if os.name == "nt" else path.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False
