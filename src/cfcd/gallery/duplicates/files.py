"""What the file of an item says of it today: whether it is the one that was indexed, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfcd.errors import PictureError
from cfcd.files import content_digest
from cfcd.pictures import picture_size

if TYPE_CHECKING:
    from cfcd.gallery.truth.rows import StoredItem


@dataclass(frozen=True)
class Facts:
    """What decides which of several duplicates is kept.

    Attributes:
        width: Pixels of the picture, or of the item's box in it; None when the file was not read.
        height: As `width`.
        bytes: Size of the file.
        mtime_ns: When it was changed last, ns.
        file: The same for two names of one file, and for nothing else.
    """

    width: int | None
    height: int | None
    bytes: int
    mtime_ns: int
    file: tuple[Any, ...]

    def order(self) -> tuple[int, int, int]:
        """Sort best first: most pixels, then most bytes (least compressed), then oldest."""
        return (-(self.width or 0) * (self.height or 0), -self.bytes, self.mtime_ns)


def read_facts(stored: StoredItem) -> Facts | str:
    """Look at the file of an item; gives one clause instead when it cannot be read or is another one now."""
    item, stamp = stored.item, stored.stamp
    try:
        status = item.path.stat()
        if stamp.digest and (status.st_size, status.st_mtime_ns) != (stamp.size, stamp.mtime_ns):
            changed = status.st_size != stamp.size or content_digest(item.path) != stamp.digest
            if changed:
                return "it has changed since it was indexed"
        width, height = picture_size(item.path)
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"it cannot be reached: {error.strerror or error}"
    except PictureError as error:
        return error.what
    if item.box is not None:
        x_1, y_1, x_2, y_2 = item.box
        width = max(0, round(min(x_2, width)) - round(max(x_1, 0)))
        height = max(0, round(min(y_2, height)) - round(max(y_1, 0)))
    # One file under two names (links, two catalogs) is no duplicate: who deletes one name may lose both.
    return Facts(width, height, status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino))


def stored_facts(stored: StoredItem) -> Facts:
    """Give what the gallery itself knows of the file."""
    return Facts(None, None, stored.stamp.size, stored.stamp.mtime_ns, (str(stored.item.path),))
