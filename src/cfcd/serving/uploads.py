"""Pictures that people add: saved under names the server makes, then put into the gallery."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING

from cfcd.catalog import Catalog, Item
from cfcd.encoding.shards import FileStamp
from cfcd.errors import UsageError
from cfcd.files import atomic_write, content_digest
from cfcd.gallery import Gallery
from cfcd.gallery.milvus.address import is_milvus
from cfcd.gallery.where_sql import BUILT_IN
from cfcd.pictures.formats import sniff
from cfcd.serving.errors import ItemExists
from cfcd.serving.queries import NewItem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "HEIF": "heic"}
_LONGEST_ID = 500
_MOST_COLUMNS = 64
_MOST_BYTES = 64 << 10


def default_uploads(gallery: str) -> Path:
    """Give the folder for uploads beside a gallery; of one on a server, in the current folder."""
    if is_milvus(gallery):
        return Path(f"{gallery.rstrip('/').rpartition('/')[2]}-uploads").absolute()
    folder = Path(gallery).absolute()
    return folder.with_name(f"{folder.name}-uploads")


class Uploads:
    """Save pictures in a folder, and put them into a gallery.

    Args:
        folder: Made at the first picture. It is the items' source: it has to stay where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def add(
        self, gallery: Gallery, picture: bytes, vector: NDArray[np.float32], row: NewItem, *, replace: bool
    ) -> str:
        """Save a picture and add it with its (D,) descriptor; gives the item's id. One thread at a time.

        Raises:
            ItemExists: The id is taken, and it is not to be replaced.
            UsageError: The row cannot be stored.
            BusyError: Another process writes to the gallery now.
        """
        name = f"{time.strftime('%Y-%m')}/{secrets.token_hex(8)}.{_ending(picture)}"
        item = Item(row.id if row.id is not None else name, self.folder / name, row.label, row.split)
        item = replaced(item, extra=dict(row.extra))
        with gallery._store.reading():
            old = gallery._store.find(item.id)
        if old is not None and not replace:
            raise ItemExists(
                f"The gallery holds an item {item.id!r} already.",
                "Give another id, or replace it with ?replace=true.",
            )
        item.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(item.path) as file:
            file.write(picture)
        try:
            status = item.path.stat()
            stamp = FileStamp(status.st_size, status.st_mtime_ns, content_digest(item.path))
            source = str(self.folder)
            if old is not None and (old.source, old.key) != (source, item.id):
                gallery.remove([item.id])
            made = Catalog.from_items([item], source=self.folder, root=self.folder, kind="uploads")
            gallery.add(made, vector[None], source=source, stamps=[stamp])
        except BaseException:
            item.path.unlink(missing_ok=True)
            raise
        if old is not None and old.source == source and self.folder in old.item.path.parents:
            old.item.path.unlink(missing_ok=True)  # the folder is ours alone
        return item.id


def check_row(row: NewItem) -> None:
    """Refuse a row that would be of no use to others.

    Raises:
        UsageError: An id, label or column is too long, empty, or no text that can be shown.
    """
    for what, text in (("id", row.id), ("label", row.label), ("split", row.split)):
        if text is not None and not _is_text(text):
            raise UsageError(
                f"The {what} is empty, longer than {_LONGEST_ID} characters, or has control characters.",
                "Give a short line of text.",
            )
    if row.id is not None and {"", ".", ".."} & set(row.id.split("/")):
        raise UsageError(
            f"The id {row.id!r} cannot stand in an address.", "Leave out . and .. between slashes."
        )
    if len(row.extra) > _MOST_COLUMNS:
        raise UsageError(f"The row has {len(row.extra)} columns.", f"Give at most {_MOST_COLUMNS}.")
    for name, value in row.extra.items():
        if not _is_text(name) or name.lower() in BUILT_IN:
            raise UsageError(
                f"A column cannot be called {name[:80]!r}.", f"Use other names than {', '.join(BUILT_IN)}."
            )
        if not (value is None or isinstance(value, str | bool | int | float)):
            raise UsageError(
                f"Column {name!r} is a list or table.", "Give texts, numbers, true, false or null."
            )
    try:
        size = len(json.dumps(dict(row.extra), allow_nan=False).encode())
    except ValueError as error:
        raise UsageError("A column is not a finite number.", "Give null instead.") from error
    if size > _MOST_BYTES:
        raise UsageError(f"The columns take {size:,} bytes.", f"Give at most {_MOST_BYTES:,}.")


def _is_text(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_ID and text.isprintable() and bool(text.strip())


def _ending(picture: bytes) -> str:
    kind = sniff(picture[:64]) or "bin"
    return _ENDINGS.get(kind, kind.lower())
