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
from cfcd.encoding.rows import FileStamp, items_from_columns, items_table
from cfcd.errors import EncodingError, IdentityMismatch
from cfcd.files import atomic_write, write_json
from cfcd.model import ModelFolder, find_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Encoded",
    "FileStamp",
    "delete_shard",
    "delete_strays",
    "is_encoded",
    "read_descriptors",
    "read_encoded",
    "read_ids",
    "read_settings",
    "read_table",
    "shard_numbers",
    "write_settings",
    "write_shard",
    "write_skipped",
]
FORMAT = 2
_PARQUET, _NPY = "items-{:05d}.parquet", "descriptors-{:05d}.npy"


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
    import pyarrow.parquet

    table = items_table(items, stamps)
    with atomic_write(folder / _NPY.format(number)) as file:
        np.save(file, descriptors)
    with atomic_write(folder / _PARQUET.format(number)) as file:
        pyarrow.parquet.write_table(table, file)


def read_table(folder: Path, number: int, columns: Sequence[str] | None = None) -> Any:
    """Read the rows of a shard as a `pyarrow.Table`, whole or some columns of it.

    Raises:
        EncodingError: The file is damaged.
    """
    import pyarrow
    import pyarrow.parquet

    file = folder / _PARQUET.format(number)
    try:
        return pyarrow.parquet.read_table(file, columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise EncodingError(
            f"{file} is damaged: {error}.", f"Delete it and {_NPY.format(number)}, then encode again."
        ) from error


def read_descriptors(folder: Path, number: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read the (n, D) float32 descriptors of a shard.

    Raises:
        EncodingError: The file is damaged or of another shape.
    """
    file = folder / _NPY.format(number)
    try:
        part: NDArray[np.float32] = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EncodingError(
            f"{file} is damaged: {error}.", f"Delete it and {_PARQUET.format(number)}, then encode again."
        ) from error
    if part.shape != shape:
        raise EncodingError(
            f"{file} has shape {part.shape}, its items want {shape}.",
            "Delete both files of this shard, then encode again.",
        )
    return part


def delete_shard(folder: Path, number: int) -> None:
    """Delete a shard; killed in between, its rows are gone already and its descriptors are a stray file."""
    (folder / _PARQUET.format(number)).unlink()
    (folder / _NPY.format(number)).unlink(missing_ok=True)


def delete_strays(folder: Path) -> None:
    """Delete what killed runs left behind; only for who holds the right to write."""
    finished = {_NPY.format(number) for number in shard_numbers(folder)}
    for file in folder.glob("descriptors-*.npy"):
        if file.name not in finished:
            file.unlink()
    for pattern in (".descriptors-*.tmp", ".items-*.tmp"):
        for file in folder.glob(pattern):
            file.unlink()


def read_ids(folder: Path) -> set[str]:
    """Read which ids are encoded."""
    return {
        item_id
        for number in shard_numbers(folder)
        for item_id in read_table(folder, number, ["id"])["id"].to_pylist()
    }


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
        shard: dict[str, list[Any]] = read_table(folder, number).to_pydict()
        rows = len(shard["id"])
        for name in dict.fromkeys((*columns, *shard)):
            columns.setdefault(name, [None] * done).extend(shard.get(name, [None] * rows))
        parts.append(read_descriptors(folder, number, (rows, settings["dim"])))
        done += rows
    if not parts:
        raise EncodingError(
            f"{folder} holds no finished shard.",
            "Run cfcd encode on it to the end; skipped.csv in it names what could not be read.",
        )
    descriptors = np.concatenate(parts)
    # A run killed while it rewrote a shard leaves rows twice: those of the highest number are the newest.
    newest = {item_id: at for at, item_id in enumerate(columns["id"])}
    if len(newest) < done:
        kept = sorted(newest.values())
        columns = {name: [values[at] for at in kept] for name, values in columns.items()}
        descriptors = descriptors[kept]
    items, stamps = items_from_columns(columns)
    source, root = Path(settings["source"]), Path(settings["root"])
    catalog = Catalog.from_items(items, source=source, root=root, kind="encoded")
    return Encoded(folder, settings, catalog, descriptors, stamps)


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
