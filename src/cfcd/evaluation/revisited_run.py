"""Evaluate on Revisited Oxford or Paris from its images or from descriptor files, and say how."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.catalog.revisited import load_ground_truth, read_revisited
from cfcd.encoding.bulk import encode_catalog, encode_items
from cfcd.encoding.encoder import Encoder, load_model
from cfcd.encoding.shards import is_encoded, read_encoded
from cfcd.errors import EvaluationError, IdentityMismatch, PictureError, UsageError
from cfcd.evaluation.revisited_data import (
    check_encoded,
    check_images,
    check_name,
    describe_release,
    describe_truth,
    find_ground_truth,
    image_root,
    name_benchmark,
    truth_digest,
)
from cfcd.evaluation.revisited_evaluation import RevisitedEvaluation, Skipped
from cfcd.evaluation.revisited_protocol import measure, read_truth
from cfcd.evaluation.revisited_rows import Rows, as_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def evaluate_images(
    dataset: str,
    root: str | Path,
    model: str | Path | Encoder | None = None,
    *,
    distractors: str | Path | None = None,
    ground_truth: str | Path | None = None,
    crop: bool = True,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> RevisitedEvaluation:
    """Encode the images of a benchmark and evaluate.

    Args:
        dataset: "roxford5k" or "rparis6k".
        root: Folder with `jpg/` and `gnd_DATASET.pkl`, or the folder above it.
        model: "imagenet-lite0" by default.
        distractors: A folder made by `cfcd encode`, a `.npy` file, or pictures, which need `out`.
        ground_truth: The file, if it lies elsewhere.
        crop: Crop queries to their boxes, as the benchmark wants it.
        out: Folder that keeps the descriptors, so that an interrupted evaluation goes on.
        progress: Gives, for a label, a context whose value is called with (done, total).

    Raises:
        UsageError: An unknown benchmark, or the ground truth of another one; pictures without `out`.
        CatalogError: The ground truth cannot be read safely.
        EvaluationError: Images are missing or cannot be read, or the distractors do not fit.
        IdentityMismatch: The distractors come from another model, or `out` does.
    """
    check_name(dataset)
    base = Path(root)
    if not base.is_dir():
        raise EvaluationError(f"{base} is no folder.", "Give the folder with jpg/ and gnd_*.pkl.")
    file = find_ground_truth(dataset, base) if ground_truth is None else Path(ground_truth)
    plain = load_ground_truth(file)
    truth = read_truth(plain)
    digest = truth_digest(truth, plain)
    name_benchmark(dataset, digest, file)
    catalog = read_revisited(file, image_root(dataset, base).resolve())
    check_images(catalog)
    if not crop:
        catalog = replace(catalog, boxes=None)
    elif catalog.boxes is None or None in catalog.boxes[len(truth.database) :]:
        raise EvaluationError(f"{file} lacks the box of a query.", "Evaluate whole queries with --no-crop.")
    show = progress or (lambda _label: nullcontext(lambda _done, _total: None))
    encoder = model if isinstance(model, Encoder) else load_model(model or "imagenet-lite0")
    keep = None if out is None else Path(out)
    # Before hours of encoding: whether the distractors fit.
    further = None if distractors is None else _open_distractors(Path(distractors), encoder, keep)
    descriptors, digests = _encode(catalog, encoder, keep, show)
    skipped: Skipped = ()
    problems = further.problems if isinstance(further, Catalog) else ()
    if isinstance(further, Catalog) and keep is not None:
        with show("encoding distractors") as advance:
            summary = encode_catalog(further, encoder, keep / "distractors", progress=advance)
        if summary.nothing_readable:
            raise EvaluationError(
                f"None of the {len(further):,} distractors in {distractors} could be read.",
                "cfcd check names what is wrong with each.",
            )
        skipped = summary.skipped
        further = as_rows(keep / "distractors", "the distractor array")
    behind = further if isinstance(further, Rows) else None
    size = len(truth.database)
    with show("ranking") as advance:
        report = measure(
            as_rows(descriptors[size:], "the query array", truth.queries),
            as_rows(descriptors[:size], "the database array", truth.database),
            truth,
            behind,
            progress=advance,
        )
    made = encoder.model.config.preprocessing
    return RevisitedEvaluation(
        report=report,
        dataset=dataset,
        ground_truth=describe_truth(file, digest),
        cropped=crop,
        settings={
            "dim": encoder.dim,
            "bytes": encoder.dim * descriptors.itemsize,
            "scales": list(made.scales),
            "long_side": made.long_side,
            "precision": encoder.options[1],
        },
        model=encoder.model.label,
        identity=encoder.identity,
        images=describe_release(catalog, digests),
        distractors=_describe_distractors(behind),
        catalog=catalog,
        skipped=skipped,
        problems=problems,
    )


def evaluate_files(
    queries: str | Path,
    database: str | Path,
    ground_truth: str | Path,
    *,
    dataset: str | None = None,
    distractors: str | Path | None = None,
    normalise: bool = False,
    cropped: bool | None = None,
    progress: Progress | None = None,
) -> RevisitedEvaluation:
    """Evaluate descriptors that any method has made.

    Args:
        queries: `.npy` file of (Q, D) unit rows, in the order of `qimlist`.
        database: `.npy` file of (N, D) unit rows, in the order of `imlist`.
        ground_truth: The file `gnd_roxford5k.pkl` or `gnd_rparis6k.pkl`.
        dataset: The benchmark it is meant to be.
        distractors: `.npy` file, or a folder made by `cfcd encode`.
        normalise: Divide rows by their lengths instead of refusing those that are not unit vectors.
        cropped: Whether queries were cropped to their boxes, for the report; None when it is not known.
        progress: Gives, for a label, a context whose value is called with (done, total).

    Raises:
        UsageError: The ground truth is not that of `dataset`.
        CatalogError: The ground truth cannot be read safely.
        EvaluationError: The files cannot be read or do not fit together.
    """
    file = Path(ground_truth)
    plain = load_ground_truth(file)
    truth = read_truth(plain)
    digest = truth_digest(truth, plain)
    named = name_benchmark(dataset, digest, file)
    searching = as_rows(Path(queries), "the query array", truth.queries)
    searched = as_rows(Path(database), "the database array", truth.database)
    further = None if distractors is None else as_rows(Path(distractors), "the distractor array")
    show = progress or (lambda _label: nullcontext(lambda _done, _total: None))
    with show("ranking") as advance:
        report = measure(searching, searched, truth, further, normalise=normalise, progress=advance)
    return RevisitedEvaluation(
        report=report,
        dataset=named,
        ground_truth=describe_truth(file, digest),
        cropped=cropped,
        settings={"dim": searched.dim, "bytes": searched.dim * searched.dtype.itemsize},
        distractors=_describe_distractors(further),
    )


def _open_distractors(path: Path, encoder: Encoder, out: Path | None) -> Rows | Catalog:
    """Look at distractors: descriptors that fit the model, or pictures to encode into `out`."""
    if is_encoded(path):
        rows = as_rows(path, "the distractor array")
        settings = rows.settings or {}
        if settings["identity"] != encoder.identity:
            raise IdentityMismatch(
                f"{path} was encoded with {settings['model']}, not with {encoder.model.label}.",
                "Give distractors of the same model, size and scales.",
            )
        return rows
    if path.suffix.lower() == ".npy":
        rows = as_rows(path, "the distractor array")
        if rows.dim != encoder.dim:
            raise EvaluationError(
                f"{path} has descriptors of {rows.dim} numbers, {encoder.model.label} makes {encoder.dim}.",
                "Give distractors of the same model.",
            )
        return rows
    catalog = read_catalog(path)
    if out is None:
        raise UsageError(f"{path} holds pictures to encode.", "Name a folder for their descriptors (--out).")
    return catalog


def _encode(
    catalog: Catalog, encoder: Encoder, out: Path | None, show: Progress
) -> tuple[NDArray[np.float32], list[bytes]]:
    """Encode every image of the catalog; give descriptors and digests of the files in its order."""
    if out is not None:
        with show("encoding") as advance:
            summary = encode_catalog(catalog, encoder, out / "encoded", progress=advance)
        check_encoded(catalog, summary.skipped)
        encoded = read_encoded(out / "encoded")
        place = {key: at for at, key in enumerate(encoded.catalog.ids)}
        rows = [place[key] for key in catalog.ids]
        return encoded.descriptors[rows], [encoded.stamps[row].digest for row in rows]
    found: list[NDArray[np.float32]] = []
    digests: list[bytes] = []
    skipped: list[tuple[Item, str]] = []
    with show("encoding") as advance:
        for done, (job, result) in enumerate(encode_items(encoder, catalog), start=1):
            if isinstance(result, PictureError):
                skipped.append((job.item, result.what))
            else:
                found.append(result)
                digests.append(b"" if job.stamp is None else job.stamp.digest)
            advance(done, len(catalog))
    check_encoded(catalog, skipped)
    return np.stack(found), digests


def _describe_distractors(rows: Rows | None) -> dict[str, Any] | None:
    if rows is None:
        return None
    settings = rows.settings or {}
    return {"count": len(rows), "source": rows.source, "model": settings.get("model")}
