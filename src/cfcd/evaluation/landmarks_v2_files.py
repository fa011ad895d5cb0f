"""What the evaluation on Google Landmarks v2 reads: the solution files, and descriptors with image ids.

Format of the solutions: https://github.com/cvdfoundation/google-landmark, release 2.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cfcd.catalog.delimited import open_text
from cfcd.catalog.paths import IMAGE_SUFFIXES, suffix_of
from cfcd.encoding.shards import is_encoded, read_descriptors, read_settings, read_table, shard_numbers
from cfcd.errors import EvaluationError
from cfcd.evaluation.folder import check_unit_rows
from cfcd.evaluation.revisited_rows import open_npy
from cfcd.evaluation.top_hits import Block

Task = Literal["retrieval", "recognition"]
USAGES = ("Public", "Private")
_COLUMNS = {"retrieval": "images", "recognition": "landmarks"}
_BLOCK = 16_384


@dataclass(frozen=True)
class Solution:
    """Hold the right answers.

    Attributes:
        answers: Query id -> its index images (retrieval) or landmarks (recognition, none for most queries).
        usage: Query id -> "Public" or "Private".
        ignored: How many queries are to be left out of every score.
    """

    answers: Mapping[str, frozenset[str]]
    usage: Mapping[str, str]
    ignored: int

    def of(self, usage: str | None) -> list[str]:
        """List the queries of one usage, or all, in the order of the file."""
        return [query for query, its in self.usage.items() if usage in (None, its)]


def read_solution(source: Path, task: Task) -> Solution:
    """Read `retrieval_solution_v2.1.csv` or `recognition_solution_v2.1.csv`.

    The columns are id, images or landmarks (ids in one cell, with spaces between them) and Usage (Public,
    Private or Ignored).

    Raises:
        CatalogError: The file cannot be read.
        EvaluationError: It is not the solution of this task, or a line of it makes no sense.
    """
    column = _COLUMNS[task]
    answers: dict[str, frozenset[str]] = {}
    usages: dict[str, str] = {}
    ignored: set[str] = set()
    with open_text(source) as file:
        # Split by hand: a cell may be longer than the csv module takes. No id holds a comma.
        rows = ([cell.strip().strip('"') for cell in line.split(",")] for line in file)
        names = [name.lower() for name in next(rows, [])]
        if sorted(names) != sorted(("id", column, "usage")):
            raise EvaluationError(
                f"{source} is no {task} solution: its columns are {', '.join(names)[:80] or 'none'}.",
                f"Give {task}_solution_v2.1.csv, with the columns id, {column} and Usage.",
            )
        at_id, at_answers, at_usage = (names.index(name) for name in ("id", column, "usage"))
        for number, cells in enumerate(rows, start=2):
            if cells == [""]:
                continue
            fault = None
            if len(cells) != 3 or not cells[at_id]:
                fault = "is not id,answers,usage"
            elif cells[at_id] in usages or cells[at_id] in ignored:
                fault = f"names {cells[at_id]!r} again"
            elif cells[at_usage] == "Ignored":
                ignored.add(cells[at_id])
                continue
            elif cells[at_usage] not in USAGES:
                fault = f"has the usage {cells[at_usage]!r}, not Public, Private or Ignored"
            elif task == "retrieval" and not cells[at_answers].split():
                fault = "names no image, and is not Ignored"
            if fault:
                raise EvaluationError(f"Line {number} of {source} {fault}.", "Get the file again.")
            answers[cells[at_id]] = frozenset(cells[at_answers].split())
            usages[cells[at_id]] = cells[at_usage]
    if not any(answers.values()):
        raise EvaluationError(f"{source} holds no query with an answer.", "Get the file again.")
    return Solution(answers, usages, len(ignored))


@dataclass(frozen=True, eq=False)
class Descriptors:
    """Hold where the descriptors of N images are; they are read a block at a time.

    Attributes:
        ids: Their image ids, in the order that breaks ties.
        dim: Length of a descriptor.
        parts: For each part its (n,) positions, -1 for rows to pass over, and what reads its (n, D) rows.
        model: What made them, None where that is unknown.
    """

    ids: Sequence[str]
    dim: int
    parts: Sequence[tuple[NDArray[np.int64], Callable[[], NDArray[np.floating]]]]
    model: str | None = None

    def __post_init__(self) -> None:
        """Raise EvaluationError when an id comes twice."""
        if len(set(self.ids)) < len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise EvaluationError(f"The image {twice!r} comes twice.", "Give one descriptor per image.")

    def __len__(self) -> int:
        """Count the images."""
        return len(self.ids)

    @classmethod
    def of(cls, ids: Sequence[str], rows: NDArray[np.floating], model: str | None = None) -> Descriptors:
        """Take (N, D) rows at hand, or mapped from a file.

        Raises:
            EvaluationError: They are no rows of floats, or not as many as ids.
        """
        if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating) or not rows.shape[1]:
            raise EvaluationError(
                f"Descriptors of shape {rows.shape} and type {rows.dtype} are not rows of floats.",
                "Give an (N, D) float32 array.",
            )
        if len(ids) != len(rows):
            raise EvaluationError(
                f"There are {len(ids)} ids for {len(rows)} descriptors.",
                "Give one id per row, in their order.",
            )
        return cls(ids, rows.shape[1], [(np.arange(len(ids)), lambda: rows)], model)

    def only(self, ids: Sequence[str]) -> Descriptors:
        """Keep the images that are among `ids`, and take their order."""
        here = set(self.ids)
        kept = [name for name in ids if name in here]
        place = {name: at for at, name in enumerate(kept)}
        moved = np.array([place.get(name, -1) for name in self.ids] + [-1], np.int64)
        parts = [(moved[positions], read) for positions, read in self.parts]  # -1 stays -1
        return Descriptors(kept, self.dim, parts, self.model)

    def blocks(self, size: int = _BLOCK) -> Iterator[Block]:
        """Read the rows, in blocks of at most `size`.

        Raises:
            EvaluationError: A row is not a finite unit vector.
            EncodingError: A shard is damaged.
        """
        for positions, read in self.parts:
            if (positions < 0).all():
                continue
            rows = read()
            for start in range(0, len(positions), size):
                at = positions[start : start + size]
                block = rows[start : start + size]
                if (at < 0).any():
                    at, block = at[at >= 0], block[at >= 0]
                check_unit_rows(block, [self.ids[position] for position in at])
                yield at, block

    def whole(self) -> NDArray[np.float32]:
        """Read all rows into one (N, D) array; raises as `blocks`."""
        rows = np.empty((len(self), self.dim), np.float32)
        for at, block in self.blocks():
            rows[at] = block
        return rows


def is_descriptors(path: Path) -> bool:
    """Tell whether a path holds descriptors: a folder made by cfcd encode, or a .npy file."""
    return is_encoded(path) or suffix_of(path.name) == ".npy"


def open_descriptors(path: Path) -> tuple[Descriptors, dict[str, str]]:
    """Open a folder made by cfcd encode, or X.npy with one id a line in X.txt beside it.

    An id that is a path to a picture, such as "0/1/2/0123456789abcdef.jpg", stands for the picture's name.

    Returns:
        The descriptors, and the labels of the images as far as the folder knows them.

    Raises:
        EvaluationError: The ids are missing, or do not fit.
        EncodingError: A shard is damaged.
    """
    return _open_encoded(path) if is_encoded(path) else (_open_array(path), {})


def image_id(name: str) -> str:
    """Give the id of an image from its path, or from the id itself."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _open_encoded(folder: Path) -> tuple[Descriptors, dict[str, str]]:
    settings = read_settings(folder)
    dim, numbers = int(settings["dim"]), shard_numbers(folder)
    names: list[list[str]] = []
    labels: dict[str, str | None] = {}
    for number in numbers:
        table = read_table(folder, number, ["id", "label"]).to_pydict()
        names.append(table["id"])
        # A run killed while it rewrote a shard leaves rows twice: those of the highest number are the newest.
        labels.update(zip(table["id"], table["label"], strict=True))
    last = {name: (part, at) for part, ids in enumerate(names) for at, name in enumerate(ids)}
    place = {found: position for position, found in enumerate(last.values())}
    parts = []
    for part, (number, ids) in enumerate(zip(numbers, names, strict=True)):
        positions = np.array([place.get((part, at), -1) for at in range(len(ids))], np.int64)
        parts.append((positions, partial(read_descriptors, folder, number, (len(ids), dim))))
    if not parts:
        raise EvaluationError(f"{folder} holds no finished shard.", "Run cfcd encode on it to the end.")
    ids = [image_id(name) for name in last]
    known = {image_id(name): label for name, label in labels.items() if label is not None}
    landmarks = {name: label for name, label in known.items() if not _is_letters(label, name)}
    return Descriptors(ids, dim, parts, str(settings["model"])), landmarks


def _is_letters(label: str, name: str) -> bool:
    """Tell the sub-folders of the official layout, "0/1/2" for "0123456789abcdef", from a landmark."""
    return label.split("/")[-3:] == list(name[:3])


def _open_array(file: Path) -> Descriptors:
    beside = file.with_suffix(".txt")
    if not beside.is_file():
        raise EvaluationError(
            f"{beside}, which names the images of {file.name}, does not exist.",
            "Write one image id a line, in the order of the rows.",
        )
    rows = open_npy(file)
    with open_text(beside) as lines:
        ids = [image_id(name) for line in lines if (name := line.strip())]
    return Descriptors.of(ids, rows)
