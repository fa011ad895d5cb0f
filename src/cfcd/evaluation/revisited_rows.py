"""Descriptors from wherever they lie, as rows that can be read a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfcd.encoding.shards import is_encoded, read_descriptors, read_settings, read_table, shard_numbers
from cfcd.errors import EvaluationError

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Part:
    """Some rows of one file or array: how many, and how to get at the (rows, D) floats."""

    rows: int
    load: Callable[[], Floats]


@dataclass(frozen=True)
class Rows:
    """Descriptors in one order, in parts that are read when their turn comes.

    Attributes:
        name: What they are, for errors: "the database".
        dim: D, numbers per descriptor.
        dtype: The widest type among the parts.
        parts: Where the rows are.
        source: The file or folder they lie in, None for arrays.
        settings: The `encoding.json` of an encoded folder, else None.
        ids: (N,) names of the rows, for errors.
    """

    name: str
    dim: int
    dtype: np.dtype[Any]
    parts: tuple[Part, ...]
    source: str | None = None
    settings: dict[str, Any] | None = None
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return sum(part.rows for part in self.parts)

    def describe(self, row: int) -> str:
        """Name a row for an error."""
        if self.ids is not None:
            return f"{self.ids[row]!r} (row {row} of {self.name})"
        return f"row {row} of {self.name}"


def as_rows(source: Any, name: str, ids: Sequence[str] | None = None) -> Rows:
    """Look at what holds descriptors, without reading them.

    Args:
        source: An (N, D) array or tensor of floats, a `.npy` file (which stays on the disk), a folder made
            by `cfcd encode`, or a list of these, in order.
        name: What they are, for errors.
        ids: (N,) names of the rows, for errors; with them, another number of rows is refused.

    Raises:
        EvaluationError: It cannot be read, holds nothing, or is no rows of floats.
        EncodingError: The encoded folder is damaged.
    """
    if isinstance(source, list | tuple):
        return _joined([as_rows(one, name) for one in source], name)
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            return _encoded_rows(path, name)
        return _array_rows(open_npy(path), name, ids, str(path))
    return _array_rows(to_numpy(source), name, ids, None)


def to_numpy(array: Any) -> NDArray[Any]:
    """Give an array or a tensor of any device as numpy; torch is not imported for it."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":  # numpy has no such type
            array = array.float()
    return np.asarray(array)


def open_npy(path: Path) -> NDArray[Any]:
    """Map a `.npy` file into memory.

    Raises:
        EvaluationError: It cannot be read, or is anything else.
    """
    try:
        loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else "it is no .npy of numbers"
        )
        raise EvaluationError(
            f"{path} cannot be read as descriptors: {reason}.",
            "Write the rows with numpy.save(FILE, array); pickles are not read.",
        ) from error
    if not isinstance(loaded, np.ndarray):  # an .npz archive
        loaded.close()
        raise EvaluationError(
            f"{path} is an archive of arrays.", "Write the rows alone with numpy.save(FILE, array)."
        )
    return loaded


def _array_rows(array: NDArray[Any], name: str, ids: Sequence[str] | None, source: str | None) -> Rows:
    where = f"{name} ({source})" if source else name
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating) or array.dtype.itemsize > 8:
        raise EvaluationError(
            f"{_upper(where)} has shape {array.shape} and type {array.dtype}: no table of descriptors.",
            "Give (N, D) rows of float16, float32 or float64.",
        )
    if ids is not None and len(array) != len(ids):
        if array.shape[1] == len(ids):
            raise EvaluationError(
                f"{_upper(where)} has shape {array.shape}: its {len(ids)} descriptors stand in columns.",
                "Give it transposed (array.T), one descriptor a row.",
            )
        raise EvaluationError(
            f"{_upper(where)} has {len(array)} descriptors, and the ground truth names {len(ids)} images.",
            "Give one row per name of the ground truth, in its order.",
        )
    if 0 in array.shape:
        raise EvaluationError(f"{_upper(where)} holds no descriptors.", "Give at least one, or leave it out.")
    return Rows(name, array.shape[1], array.dtype, (Part(len(array), lambda: array),), source=source, ids=ids)


def _encoded_rows(folder: Path, name: str) -> Rows:
    """Look at an encoded folder; of a row that is there twice the newest counts, as in `read_encoded`."""
    if not is_encoded(folder):
        raise EvaluationError(
            f"{folder} is no folder of descriptors.", "Give a folder made by cfcd encode, or a .npy file."
        )
    settings = read_settings(folder)
    dim = int(settings["dim"])
    seen: set[str] = set()
    parts: list[Part] = []
    for number in reversed(shard_numbers(folder)):
        ids = read_table(folder, number, ["id"])["id"].to_pylist()
        kept = [at for at, key in enumerate(ids) if key not in seen]
        seen.update(ids)
        if kept:
            parts.append(_shard(folder, number, (len(ids), dim), kept))
    if not parts:
        raise EvaluationError(f"{folder} holds no descriptors.", "Run cfcd encode on it to the end.")
    return Rows(name, dim, np.dtype(np.float32), tuple(reversed(parts)), str(folder), settings)


def _shard(folder: Path, number: int, shape: tuple[int, int], kept: list[int]) -> Part:
    def load() -> Floats:
        descriptors = read_descriptors(folder, number, shape)
        return descriptors if len(kept) == shape[0] else descriptors[kept]

    return Part(len(kept), load)


def _joined(several: list[Rows], name: str) -> Rows:
    if not several:
        raise EvaluationError(
            f"{_upper(name)} is an empty list.", "Give at least one array, or leave it out."
        )
    if len(dims := {rows.dim for rows in several}) > 1:
        raise EvaluationError(
            f"{_upper(name)} mixes descriptors of {' and '.join(map(str, sorted(dims)))} numbers.",
            "Give descriptors of one model.",
        )
    return Rows(
        name,
        several[0].dim,
        np.result_type(*(rows.dtype for rows in several)),
        tuple(part for rows in several for part in rows.parts),
        ", ".join(rows.source for rows in several if rows.source) or None,
        several[0].settings if len(several) == 1 else None,
    )


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
