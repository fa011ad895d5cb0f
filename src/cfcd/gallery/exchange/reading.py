"""Read descriptors that another gallery or program has written, block by block, checked before use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import GalleryError, UsageError
from cfcd.gallery.exchange.origin import BLOCK, DESCRIPTOR, METADATA_KEY, Origin, beside, read_origin

if TYPE_CHECKING:
    from numpy.typing import NDArray

_USUAL_COLUMNS = (DESCRIPTOR, "embedding", "image_embedding", "img_emb", "vector", "emb")
_AGAIN = "Export again, and copy all of its files."


@dataclass(frozen=True)
class Part:
    """Rows and descriptors that lie together: one table, or an array with its table or list of ids.

    Attributes:
        table: Parquet file with the rows, None when there are only ids.
        column: Column of the table with the descriptors, None when they are in `array`.
        array: `.npy` file of (n, D) numbers.
        ids: Text file, one id per line.
    """

    table: Path | None = None
    column: str | None = None
    array: Path | None = None
    ids: Path | None = None

    @property
    def name(self) -> Path:
        """Give the file that messages name."""
        found = self.array or self.table
        assert found is not None
        return found


@dataclass(frozen=True)
class Data:
    """Descriptors to import.

    Attributes:
        path: What was asked for.
        parts: In order.
        count: Rows in all.
        dim: Numbers per descriptor.
        origin: Which model made them, None when the data do not say.
    """

    path: Path
    parts: tuple[Part, ...]
    count: int
    dim: int
    origin: Origin | None = field(default=None)

    def blocks(self, *, ids_only: bool = False) -> Iterator[tuple[dict[str, list[Any]], NDArray[Any]]]:
        """Read the columns of some rows, and their (n, D) descriptors in the file's own floating type.

        Args:
            ids_only: Leave out all columns but the one that names the rows.

        Raises:
            GalleryError: A row has no descriptor, or one of another length.
        """
        for part in self.parts:
            done = 0
            for columns, vectors in _blocks(part, self.dim, done, ids_only=ids_only):
                yield columns, vectors
                done += len(vectors)


def open_data(path: Path, column: str | None = None) -> Data:
    """Recognise NAME.parquet, NAME.npy with NAME.ids.txt, or a folder with `img_emb` and `metadata`.

    Args:
        path: The file or folder.
        column: Column with the descriptors, for Parquet files of other programs.

    Raises:
        GalleryError: It is none of these, damaged, or not whole.
    """
    if path.is_dir():
        parts, origin = _folder_parts(path), read_origin(path / "cfcd.json")
    elif path.suffix.lower() == ".npy":
        ids = beside(path, "ids.txt")
        if not ids.is_file():
            raise GalleryError(
                f"There is no {ids} with the ids of {path.name}.", "Write one id per line, in the same order."
            )
        parts, origin = (Part(array=path, ids=ids),), read_origin(beside(path, "cfcd.json"))
    elif path.suffix.lower() in {".parquet", ".pq"}:
        schema = _parquet(path).schema_arrow
        parts = (Part(table=path, column=_choose_column(path, schema.names, column)),)
        words = (schema.metadata or {}).get(METADATA_KEY)
        try:
            origin = None if words is None else Origin.from_json(json.loads(words), path)
        except ValueError as error:
            raise GalleryError(f"The metadata of {path} are damaged: {error}.", _AGAIN) from error
    else:
        raise GalleryError(
            f"{path} holds no descriptors that cfcd can read.",
            "Give NAME.parquet, NAME.npy with NAME.ids.txt, or a folder with img_emb/ and metadata/.",
        )
    shapes = [_shape(part) for part in parts]
    dims = sorted({dim for count, dim in shapes if count})
    if len(dims) > 1:
        raise GalleryError(f"The parts of {path} have {dims[0]} and {dims[-1]} numbers per row.", _AGAIN)
    count = sum(count for count, _ in shapes)
    if not count:
        raise GalleryError(f"{path} holds no rows.", "Export a gallery that has items.")
    if origin is not None and (origin.items, origin.dim) != (count, dims[0]):
        raise GalleryError(
            f"{path} has {count} rows of {dims[0]} numbers, "
            f"and was written with {origin.items} of {origin.dim}.",
            _AGAIN,
        )
    return Data(path, tuple(parts), count, dims[0], origin)


def _folder_parts(folder: Path) -> tuple[Part, ...]:
    arrays = {_number(file): file for file in sorted((folder / "img_emb").glob("*.npy"))}
    tables = {_number(file): file for file in sorted((folder / "metadata").glob("*.parquet"))}
    if not arrays or not tables:
        raise GalleryError(
            f"{folder} has no img_emb/*.npy with metadata/*.parquet.",
            "Give a folder that cfcd export-descriptors or clip-retrieval inference has made.",
        )
    if alone := sorted(arrays.keys() ^ tables.keys()):
        raise GalleryError(f"Part {alone[0]} of {folder} has no counterpart.", _AGAIN)
    return tuple(Part(table=tables[number], array=arrays[number]) for number in sorted(arrays))


def _number(file: Path) -> str:
    return file.stem.rpartition("_")[2]


def _choose_column(path: Path, names: list[str], column: str | None) -> str:
    for name in _USUAL_COLUMNS if column is None else (column,):
        if name in names:
            return name
    wanted = f"no column {column!r}" if column else "no column of descriptors by a usual name"
    raise GalleryError(f"{path} has {wanted}; it has {', '.join(names[:20])}.", "Name it with --column.")


def _parquet(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise GalleryError(f"{path} cannot be read as Parquet: {error}.", _AGAIN) from error


def _array(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise GalleryError(f"{path} cannot be read as .npy: {error}.", _AGAIN) from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f":
        raise GalleryError(f"{path} holds no rows of floating numbers.", "Save an (N, D) array of floats.")
    return found


def _shape(part: Part) -> tuple[int, int]:
    """Count rows, and the numbers of a descriptor."""
    if part.array is not None:
        shape: tuple[int, int] = _array(part.array).shape
        others = _parquet(part.table).metadata.num_rows if part.table else len(_ids(part))
        if others != shape[0]:
            other = part.table or part.ids
            raise GalleryError(f"{part.array} has {shape[0]} rows, and {other} has {others}.", _AGAIN)
        return shape
    assert part.table is not None
    file = _parquet(part.table)
    kind = file.schema_arrow.field(part.column).type
    if size := getattr(kind, "list_size", 0):
        return file.metadata.num_rows, size
    if file.metadata.num_rows == 0:
        return 0, 0
    first = next(file.iter_batches(1, columns=[part.column])).column(0)[0].as_py()
    if not isinstance(first, list):
        raise GalleryError(f"{part.table} has a column {part.column!r} of {kind}.", "It must hold lists.")
    return file.metadata.num_rows, len(first)


def _ids(part: Part) -> list[str]:
    assert part.ids is not None
    try:
        return part.ids.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise GalleryError(f"{part.ids} cannot be read as text: {error}.", _AGAIN) from error


def _blocks(
    part: Part, dim: int, done: int, *, ids_only: bool
) -> Iterator[tuple[dict[str, list[Any]], NDArray[Any]]]:
    if part.table is None:
        assert part.array is not None
        ids, numbers = _ids(part), _array(part.array)
        for first in range(0, len(ids), BLOCK):
            yield {"id": ids[first : first + BLOCK]}, np.array(numbers[first : first + BLOCK])
        return
    names = [name for name in _parquet(part.table).schema_arrow.names if name != part.column]
    if ids_only:
        names = [_id_column(names, part.table)]
    array = None if part.array is None else _array(part.array)
    for batch in _batches(part, [*names, part.column] if part.column else names):
        if array is None:
            vectors = _from_lists(part, batch.column(len(names)), dim, done)
        else:
            vectors = np.array(array[done : done + len(batch)])
        yield batch.select(names).to_pydict(), vectors
        done += len(vectors)


def _from_lists(part: Part, lists: Any, dim: int, first: int) -> NDArray[Any]:
    import pyarrow
    from pyarrow import compute

    lengths = compute.fill_null(compute.list_value_length(lists), -1).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != dim)
    if len(wrong):
        found = max(0, int(lengths[wrong[0]]))
        raise GalleryError(
            f"Row {first + int(wrong[0]) + 1} of {part.table} has {found} numbers, the first has {dim}.",
            "Leave such rows out.",
        )
    flat = lists.flatten()
    if not pyarrow.types.is_floating(flat.type):
        raise GalleryError(
            f"{part.table} has a column {part.column!r} of {flat.type}, no floating numbers.",
            "Write it as float16 or float32.",
        )
    found_numbers: NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(lists), dim)
    return found_numbers


def _batches(part: Part, columns: list[str]) -> Iterator[Any]:
    import pyarrow

    assert part.table is not None
    try:
        yield from _parquet(part.table).iter_batches(BLOCK, columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise GalleryError(f"{part.table} is damaged: {error}.", _AGAIN) from error


def check_data(data: Data) -> None:
    """Read everything once, so that nothing is written when something is wrong.

    Raises:
        GalleryError: A row has no id, no descriptor, or one of another length.
        UsageError: An id comes twice, or a descriptor is zero or not finite.
    """
    first: dict[str, int] = {}
    done = 0
    for rows, vectors in data.blocks(ids_only=True):
        lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(bad):
            raise UsageError(
                f"The descriptor of row {done + int(bad[0]) + 1} of {data.path} is zero or not finite.",
                "Leave such rows out.",
            )
        for at, item_id in enumerate(row_ids(rows, data.path), start=done + 1):
            if first.setdefault(item_id, at) != at:
                raise UsageError(
                    f"{data.path} has the id {item_id!r} in rows {first[item_id]} and {at}.",
                    "Give every row an id of its own.",
                )
        done += len(vectors)


def row_ids(rows: dict[str, list[Any]], path: Path) -> list[str]:
    """Give the ids of rows: the column id, or else the path.

    Raises:
        GalleryError: The table has neither, or a row without.
    """
    name = _id_column(list(rows), path)
    ids = ["" if value is None else str(value) for value in rows[name]]
    if "" in ids:
        raise GalleryError(f"{path} has a row without {name}.", "Fill the column in.")
    return ids


def _id_column(names: list[str], path: Path) -> str:
    for name in ("id", "path", "image_path"):
        if name in names:
            return name
    raise GalleryError(f"{path} has no column id, path or image_path.", "Add one that names every row.")
