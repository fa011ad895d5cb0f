"""An encoded folder: descriptors as `.npy` shards, their catalog rows as Parquet beside them.

encoding.json            model identity, preprocessing, where the catalog came from
descriptors-00000.npy    (n, D) float32 unit rows
items-00000.parquet      their n catalog rows; written last, so its presence makes the shard count
skipped.csv              id, path, row and reason of every picture that could not be encoded
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Catalog, Item
from cfcd.errors import EncodingError, IdentityMismatch
from cfcd.files import atomic_write, write_json
from cfcd.model import ModelFolder, find_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
_BOX = ("x_1", "y_1", "x_2", "y_2")
_ROW_COLUMNS = ("id", "path", "label", "split", "is_query", "is_gallery", "row")
_STAMP_COLUMNS = ("file_size", "file_mtime_ns", "file_digest")


@dataclass(frozen=True)
class FileStamp:
    """What a file looked like when it was encoded: bytes, nanoseconds, 16-byte BLAKE2b digest."""

    size: int
    mtime_ns: int
    digest: bytes


@dataclass(frozen=True)
class Encoded:
    """An encoded folder in memory: catalog rows, their descriptors and file stamps, in one order."""

    folder: Path
    settings: dict[str, Any]
    catalog: Catalog
    descriptors: NDArray[np.float32]
    stamps: tuple[FileStamp, ...]

    @property
    def identity(self) -> str:
        """Give the identity of the model that made the descriptors."""
        return str(self.settings["identity"])

    def model(self) -> ModelFolder:
        """Find the model that made the descriptors, with the preprocessing it had then.

        Raises:
            ModelError: It is not where it was.
            IdentityMismatch: The model there has changed.
        """
        preprocessing = self.settings["preprocessing"]
        model = find_model(self.settings["model_reference"]).with_preprocessing(
            long_side=preprocessing["long_side"], scales=tuple(preprocessing["scales"])
        )
        if model.identity != self.identity:
            raise IdentityMismatch(
                f"{self.folder} was encoded with {self.settings['model']}, and there is {model.label} now.",
                "Encode again, or restore the model.",
            )
        return model


def is_encoded(folder: Path) -> bool:
    """Tell whether a path is an encoded folder."""
    return (folder / "encoding.json").is_file()


def read_settings(folder: Path) -> dict[str, Any]:
    """Read `encoding.json`.

    Raises:
        EncodingError: It is damaged or of another format.
    """
    file = folder / "encoding.json"
    try:
        settings: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if settings["format"] != FORMAT or not settings["identity"]:
            raise ValueError("unknown format")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncodingError(
            f"{file} cannot be read: {error}.", "Encode into a new folder, or delete this one first."
        ) from error
    return settings


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write `encoding.json`."""
    write_json(folder / "encoding.json", {"format": FORMAT, **settings})


def shard_numbers(folder: Path) -> list[int]:
    """List the numbers of the finished shards, ascending."""
    return sorted(int(file.stem.removeprefix("items-")) for file in folder.glob("items-*.parquet"))


def write_shard(
    folder: Path,
    number: int,
    items: Sequence[Item],
    stamps: Sequence[FileStamp],
    descriptors: NDArray[np.float32],
) -> None:
    """Write one shard, (n, D) float32 descriptors first and their n rows last."""
    import pyarrow
    import pyarrow.parquet

    with atomic_write(folder / f"descriptors-{number:05d}.npy") as file:
        np.save(file, descriptors)
    columns: dict[str, Any] = {name: [getattr(item, name) for item in items] for name in _ROW_COLUMNS}
    columns["path"] = [str(item.path) for item in items]
    for axis, name in enumerate(_BOX):
        columns[name] = [None if item.box is None else item.box[axis] for item in items]
    columns["file_size"] = [stamp.size for stamp in stamps]
    columns["file_mtime_ns"] = [stamp.mtime_ns for stamp in stamps]
    columns["file_digest"] = [stamp.digest for stamp in stamps]
    types = {
        **dict.fromkeys(("id", "path", "label", "split"), pyarrow.string()),
        **dict.fromkeys(("is_query", "is_gallery"), pyarrow.bool_()),
        **dict.fromkeys(("row", "file_size", "file_mtime_ns"), pyarrow.int64()),
        **dict.fromkeys(_BOX, pyarrow.float64()),
        "file_digest": pyarrow.binary(),
    }
    arrays = {name: pyarrow.array(values, types[name]) for name, values in columns.items()}
    for name in dict.fromkeys(name for item in items for name in item.extra):
        if name not in arrays:
            arrays[name] = pyarrow.array([item.extra.get(name) for item in items])
    with atomic_write(folder / f"items-{number:05d}.parquet") as file:
        pyarrow.parquet.write_table(pyarrow.table(arrays), file)


def _read_items(folder: Path, number: int) -> dict[str, list[Any]]:
    import pyarrow
    import pyarrow.parquet

    file = folder / f"items-{number:05d}.parquet"
    try:
        columns: dict[str, list[Any]] = pyarrow.parquet.read_table(file).to_pydict()
    except (OSError, pyarrow.ArrowException) as error:
        raise EncodingError(
            f"{file} is damaged: {error}.", f"Delete it and {_TWIN.format(number)}, then encode again."
        ) from error
    return columns


_TWIN = "descriptors-{:05d}.npy"


def read_ids(folder: Path) -> dict[str, tuple[int, int]]:
    """Read which ids are encoded, with the size (bytes) and mtime (ns) their files had."""
    found: dict[str, tuple[int, int]] = {}
    for number in shard_numbers(folder):
        columns = _read_items(folder, number)
        found.update(
            zip(columns["id"], zip(columns["file_size"], columns["file_mtime_ns"], strict=True), strict=True)
        )
    return found


def read_encoded(folder: str | Path) -> Encoded:
    """Read an encoded folder whole.

    Raises:
        EncodingError: It is no encoded folder, holds nothing, or a shard is damaged.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    columns: dict[str, list[Any]] = {}
    parts: list[NDArray[np.float32]] = []
    done = 0
    for number in shard_numbers(folder):
        shard = _read_items(folder, number)
        rows = len(shard["id"])
        for name in columns.keys() | shard.keys():
            columns.setdefault(name, [None] * done).extend(shard.get(name, [None] * rows))
        file = folder / _TWIN.format(number)
        try:
            part = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise EncodingError(
                f"{file} is damaged: {error}.",
                f"Delete it and items-{number:05d}.parquet, then encode again.",
            ) from error
        if part.shape != (rows, settings["dim"]):
            raise EncodingError(
                f"{file} has shape {part.shape}, its items want ({rows}, {settings['dim']}).",
                "Delete both files of this shard, then encode again.",
            )
        parts.append(part)
        done += rows
    if not parts:
        raise EncodingError(f"{folder} holds no finished shard.", "Run cfcd encode on it to the end.")
    stamps = tuple(
        FileStamp(*stamp) for stamp in zip(*(columns.pop(name) for name in _STAMP_COLUMNS), strict=True)
    )
    boxes = [
        None if box[0] is None else box for box in zip(*(columns.pop(name) for name in _BOX), strict=True)
    ]
    known = {name: columns.pop(name) for name in _ROW_COLUMNS}
    items = [
        Item(
            **{name: known[name][at] for name in _ROW_COLUMNS if name != "path"},
            path=Path(known["path"][at]),
            box=boxes[at],
            extra={name: values[at] for name, values in columns.items()},
        )
        for at in range(done)
    ]
    source, root = Path(settings["source"]), Path(settings["root"])
    catalog = Catalog.from_items(items, source=source, root=root, kind="encoded")
    return Encoded(folder, settings, catalog, np.concatenate(parts), stamps)


def write_skipped(folder: Path, skipped: Sequence[tuple[Item, str]]) -> None:
    """Write `skipped.csv`, or remove it when nothing was skipped."""
    if not skipped:
        (folder / "skipped.csv").unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("id", "path", "row", "reason"))
    table.writerows((item.id, item.path, item.row, reason) for item, reason in skipped)
    with atomic_write(folder / "skipped.csv") as file:
        file.write(text.getvalue().encode())
