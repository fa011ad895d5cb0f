"""Evaluate on Google Landmarks v2 from its pictures, encoded folders or arrays."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from cfcd.catalog import Catalog, Item, Problem, read_catalog
from cfcd.encoding.bulk import encode_catalog
from cfcd.encoding.encoder import Encoder, load_model
from cfcd.errors import EvaluationError, UsageError
from cfcd.evaluation.evaluation_json import write_report_json
from cfcd.evaluation.landmarks_v2 import (
    Vote,
    check_same_model,
    landmark_recognition,
    landmark_retrieval,
)
from cfcd.evaluation.landmarks_v2_files import (
    Descriptors,
    Task,
    image_id,
    is_descriptors,
    open_descriptors,
    read_solution,
)
from cfcd.evaluation.landmarks_v2_report import LandmarksReport
from cfcd.evaluation.run import refuse_inside, unusable_rows
from cfcd.files import atomic_write

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
TASKS: tuple[Task, ...] = ("retrieval", "recognition")
_GALLERIES = {"retrieval": ("index.csv", "index"), "recognition": ("train_clean.csv", "train.csv")}
_QUERIES = ("test.csv", "test")


@dataclass(frozen=True)
class LandmarksEvaluation:
    """A report with the pictures that could not be read, and what is wrong with the tables of pictures."""

    report: LandmarksReport
    skipped: tuple[tuple[Item, str], ...]
    problems: tuple[Problem, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the report and what was left out as plain data."""
        skipped = [{"id": item.id, "path": str(item.path), "reason": reason} for item, reason in self.skipped]
        rows = unusable_rows(self.problems)
        return {**self.report.to_json(), "skipped": skipped, "unusable_rows": rows}

    def write(self, out: Path) -> list[Path]:
        """Write report.json and queries.csv, one line per query; give the files."""
        out.mkdir(parents=True, exist_ok=True)
        write_report_json(out / "report.json", {**self.to_json(), "per_query": self.report.per_query()})
        rows = [asdict(detail) for detail in self.report.details]
        text = io.StringIO()
        table = csv.DictWriter(text, rows[0])
        table.writeheader()
        for row in rows:
            table.writerow(
                {key: " ".join(cell) if isinstance(cell, tuple) else cell for key, cell in row.items()}
            )
        with atomic_write(out / "queries.csv") as file:
            file.write(text.getvalue().encode())
        return [out / "report.json", out / "queries.csv"]


def evaluate_landmarks(
    task: Task,
    data: str | Path | None = None,
    *,
    gallery: str | Path | None = None,
    queries: str | Path | None = None,
    solution: str | Path | None = None,
    labels: str | Path | None = None,
    model: str | Path | Encoder | None = None,
    out: str | Path | None = None,
    k: int = 5,
    vote: Vote = "sum",
    progress: Progress | None = None,
) -> LandmarksEvaluation:
    """Measure retrieval (mAP@100) or recognition (GAP) on Google Landmarks v2.

    Each side is a table or folder of pictures, a folder made by cfcd encode, or X.npy with one id a line in
    X.txt beside it. Of the pictures only what counts is encoded: the queries that the solution does not
    ignore, and training images with a landmark.

    Args:
        task: "retrieval" or "recognition".
        data: The dataset's folder, for what is not given apart: index.csv or index/ (retrieval),
            train_clean.csv or train.csv (recognition), test.csv or test/, and the solution. The pictures lie
            in index/, train/ and test/ below it.
        gallery: What is searched.
        queries: What searches.
        solution: retrieval_solution_v2.1.csv or recognition_solution_v2.1.csv.
        labels: train_clean.csv or train.csv, for a gallery that does not know its landmarks.
        model: The model to encode with, "imagenet-lite0" by default; only for pictures.
        out: Folder that keeps the descriptors of pictures, so that an interrupted evaluation goes on.
        k: Neighbours that vote in recognition.
        vote: How they vote, see `landmark_recognition`.
        progress: Gives, for a label, a context whose value is called with (done, total).

    Raises:
        UsageError: Something is not given, or a model for descriptors, or pictures without `out`.
        EvaluationError: The solution and the descriptors do not fit, see `landmark_retrieval`.
        CatalogError: A table cannot be read.
        IdentityMismatch: Gallery and queries come from different models.
    """
    if task not in TASKS:
        raise UsageError(f"The task {task!r} is unknown.", f"Use {' or '.join(TASKS)}.")
    folder = None if data is None else Path(data)
    answers = read_solution(_locate(solution, folder, (f"{task}_solution_v2.1.csv",), "solution"), task)
    paths = _sides(task, folder, gallery, queries)
    pictures = [path for path in paths if not is_descriptors(path)]
    if model is not None and not pictures:
        raise UsageError(
            "Gallery and queries hold descriptors already, so --model, --size and --scales have no effect.",
            "Leave them out, or give the pictures.",
        )
    for path in pictures:
        if out is None:
            raise UsageError(
                f"{path} holds pictures to encode.", "Name a folder for their descriptors (--out)."
            )
        refuse_inside(Path(out), path)
    (searched, known), (asking, _) = (_open(path, folder) for path in paths)
    landmarks = known if labels is None else _landmarks(read_catalog(labels))
    show = progress or (lambda _label: nullcontext(lambda _done, _total: None))
    encoding = _Encoding(model, Path(out or "."), show)
    for side in (searched, asking):
        if isinstance(side, Descriptors) and side.model and pictures:
            check_same_model(side.model, encoding.encoder.model.label)  # before hours of encoding
    if task == "retrieval":
        index = encoding.descriptors(searched, "index", None)
        test = encoding.descriptors(asking, "test-retrieval", answers.usage)
        with show("searching") as advance:
            report = landmark_retrieval(test, index, answers, progress=advance)
    else:
        train = encoding.descriptors(searched, "train", landmarks)
        test = encoding.descriptors(asking, "test-recognition", answers.usage)
        with show("searching") as advance:
            report = landmark_recognition(test, train, landmarks, answers, k=k, vote=vote, progress=advance)
    problems = (side.problems for side in (searched, asking) if isinstance(side, Catalog))
    return LandmarksEvaluation(report, tuple(encoding.skipped), tuple(chain.from_iterable(problems)))


def needs_model(
    task: Task, data: Path | None, gallery: Path | None = None, queries: Path | None = None
) -> bool:
    """Tell whether an evaluation would encode pictures.

    Raises:
        UsageError: The gallery or the queries are not given.
    """
    return not all(map(is_descriptors, _sides(task, data, gallery, queries)))


class _Encoding:
    """Turn catalogs into descriptors, with a model that is loaded when the first one asks for it."""

    def __init__(self, model: str | Path | Encoder | None, out: Path, progress: Progress) -> None:
        self._model, self._out, self._progress = model, out, progress
        self.skipped: list[tuple[Item, str]] = []

    @cached_property
    def encoder(self) -> Encoder:
        model = self._model
        return model if isinstance(model, Encoder) else load_model(model or "imagenet-lite0")

    def descriptors(
        self, side: Catalog | Descriptors, name: str, wanted: Collection[str] | None
    ) -> Descriptors:
        """Encode the wanted pictures of a catalog into OUT/name; give descriptors back as they are."""
        if isinstance(side, Descriptors):
            return side
        if wanted is not None:
            side = side.select([at for at, key in enumerate(side.ids) if key in wanted])
        if not len(side):
            raise EvaluationError(
                f"None of the pictures of {side.source} is wanted for {name}.",
                "Check that their names are image ids, such as 0123456789abcdef.jpg.",
            )
        with self._progress(f"encoding {name}") as advance:
            summary = encode_catalog(side, self.encoder, self._out / name, progress=advance)
        if summary.nothing_readable:
            raise EvaluationError(
                f"None of the {len(side)} pictures of {side.source} could be read.",
                "cfcd check names what is wrong with each.",
            )
        self.skipped += summary.skipped
        return open_descriptors(self._out / name)[0].only(side.ids)


def _sides(
    task: Task, folder: Path | None, gallery: str | Path | None, queries: str | Path | None
) -> tuple[Path, Path]:
    return (
        _locate(gallery, folder, _GALLERIES[task], "gallery"),
        _locate(queries, folder, _QUERIES, "queries"),
    )


def _locate(given: str | Path | None, folder: Path | None, names: Sequence[str], what: str) -> Path:
    if given is not None:
        return Path(given)
    for name in names:
        if folder is not None and (folder / name).exists():
            return folder / name
    raise UsageError(
        f"The {what} is not given." if folder is None else f"{folder} holds no {' and no '.join(names)}.",
        f"Name it with --{what}, or give the folder with {' or '.join(names)}.",
    )


def _open(path: Path, folder: Path | None) -> tuple[Catalog | Descriptors, Mapping[str, str]]:
    """Open one side, with the labels it knows."""
    if is_descriptors(path):
        return open_descriptors(path)
    catalog = read_catalog(path, root=None if path.is_dir() else folder)
    ids = [image_id(name) for name in catalog.ids]
    if len(set(ids)) < len(ids):
        raise EvaluationError(f"{path} holds two pictures of one name.", "Name each picture by its id.")
    # The folders of the official layout are letters of the id, and no labels.
    labels = None if catalog.kind == "folder" else catalog.labels
    catalog = replace(catalog, ids=ids, labels=labels)
    return catalog, _landmarks(catalog)


def _landmarks(catalog: Catalog) -> dict[str, str]:
    pairs = zip(catalog.ids, catalog.labels or (), strict=False)
    return {name: label for name, label in pairs if label is not None}
