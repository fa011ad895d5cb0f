"""Evaluate a collection from its pictures, an encoded folder or a gallery."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Catalog, Item, Problem, read_catalog
from cfcd.catalog.benchmarks import USUAL_RECALLS
from cfcd.encoding.bulk import encode_catalog, encode_items
from cfcd.encoding.encoder import Encoder, load_model
from cfcd.encoding.shards import Encoded, is_encoded, read_encoded
from cfcd.errors import EvaluationError, PictureError, UsageError
from cfcd.evaluation.folder import evaluate_descriptors
from cfcd.evaluation.report import RECALLS, FolderReport
from cfcd.gallery import Gallery
from cfcd.gallery.opening import gallery_class, is_gallery

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """A report with what it was made from: the rows that count, the model, what was skipped.

    `settings` say how the pictures were encoded: long_side (pixels or None), scales, dim, precision.
    """

    report: FolderReport
    catalog: Catalog
    model: str
    skipped: tuple[tuple[Item, str], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the report, the model and the skipped pictures as plain data."""
        skipped = [{"id": item.id, "path": str(item.path), "reason": reason} for item, reason in self.skipped]
        return {
            **self.report.to_json(),
            "model": self.model,
            "settings": dict(self.settings),
            "skipped": skipped,
            "unusable_rows": unusable_rows(self.catalog.problems),
        }


def evaluate(
    data: str | Path | Catalog | Encoded | Gallery,
    model: str | Path | Encoder | None = None,
    *,
    root: Path | None = None,
    out: str | Path | None = None,
    recalls: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure how well descriptors find pictures with the same label.

    A catalog with queries and gallery (columns or splits, such as test and train) searches the one in
    the other; any other catalog is evaluated leave-one-out.

    Args:
        data: Pictures or their catalog, an encoded folder, or a gallery (a folder, or milvus://...).
        model: The model to encode with, "imagenet-lite0" by default; only for pictures, the others
            carry descriptors already.
        root: Folder that relative paths in a table start from, instead of the table's own.
        out: Folder that keeps the descriptors, so that an interrupted evaluation goes on.
        recalls: Give R@k for these k beside 1, 5 and 10; by default the ones usual for the benchmark that
            `data` is the files of, see `cfcd.catalog.benchmarks`.
        progress: Called with (done, total) pictures to encode.

    Raises:
        EvaluationError: There is nothing to evaluate: no labels, no query with a positive.
        UsageError: A model for data that carry descriptors.
        EncodingError: `out` holds another collection.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        if is_gallery(path):
            with gallery_class(path)(path) as gallery:
                return evaluate(gallery, model, recalls=recalls)
        data = read_encoded(path) if is_encoded(path) else read_catalog(path, root=root)
    if isinstance(data, Catalog):
        encoder = model if isinstance(model, Encoder) else load_model(model or "imagenet-lite0")
        chosen = _select(data)
        catalog, descriptors, skipped = _encode(chosen, encoder, out, progress)
        report = _report(catalog, descriptors, recalls)
        made = encoder.model.config.preprocessing
        settings = _settings(made.long_side, made.scales, encoder.dim, encoder.options[1])
        return Evaluation(report, catalog, encoder.model.label, skipped, settings)
    if model is not None:
        raise UsageError(
            "The data hold descriptors already, so --model, --size and --scales have no effect.",
            "Leave them out, or give the pictures.",
        )
    if isinstance(data, Encoded):
        report = _report(data.catalog, data.descriptors, recalls)
        stored = data.settings["preprocessing"]
        precision = data.settings.get("precision", "auto")
        settings = _settings(stored["long_side"], stored["scales"], data.descriptors.shape[1], precision)
        return Evaluation(report, data.catalog, str(data.settings["model"]), (), settings)
    catalog, descriptors = data.contents()
    report = _report(catalog, descriptors, recalls)
    settings = _settings(data.long_side, data.scales, data.dim, None)  # a gallery may hold both precisions
    return Evaluation(report, catalog, data.model_label, (), settings)


def unusable_rows(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """List the rows of a catalog that had to be left out, as plain data."""
    return [{"file": p.file, "row": p.row, "reason": p.message} for p in problems if p.fatal]


def holds_descriptors(path: Path) -> bool:
    """Tell whether a path is a gallery or an encoded folder, which need no model."""
    return is_encoded(path) or is_gallery(path)


def refuse_inside(out: Path, data: Path) -> None:
    """Refuse to write result pictures into a folder of pictures, where the next run would find them.

    Raises:
        UsageError: `out` lies in the folder `data`, or is it.
    """
    if data.is_dir() and not holds_descriptors(data) and out.resolve().is_relative_to(data.resolve()):
        raise UsageError(
            f"--out {out} lies inside {data}, whose pictures would include the results next time.",
            "Name a folder outside of it with --out.",
        )


def _settings(
    long_side: int | None, scales: Sequence[float], dim: int, precision: str | None
) -> dict[str, Any]:
    settings = {"long_side": long_side, "scales": list(scales), "dim": dim}
    return settings if precision is None else settings | {"precision": precision}


def _select(catalog: Catalog) -> Catalog:
    """Leave out rows that are neither query nor gallery, such as a validation split."""
    sides = catalog.query_gallery()
    return catalog if sides is None else catalog.select(sorted({*sides[0], *sides[1]}))


def _encode(
    catalog: Catalog, encoder: Encoder, out: str | Path | None, progress: Progress | None
) -> tuple[Catalog, NDArray[np.float32], tuple[tuple[Item, str], ...]]:
    if not catalog.has_labels:
        raise EvaluationError(
            f"{catalog.source} has no labels, so right and wrong cannot be told apart.",
            "Put the pictures of each object into a folder of their own, or give a CSV with path and label.",
        )
    if out is not None:
        summary = encode_catalog(catalog, encoder, out, progress=progress)
        if summary.nothing_readable:
            raise _nothing_readable(catalog)
        # The folder holds the pictures of the catalog that could be read, in an order of its own.
        encoded = read_encoded(out)
        place = {key: at for at, key in enumerate(encoded.catalog.ids)}
        kept = [at for at, key in enumerate(catalog.ids) if key in place]
        rows = [place[catalog.ids[at]] for at in kept]
        return catalog.select(kept), encoded.descriptors[rows], summary.skipped
    kept, rows_found, skipped = [], [], []
    if progress:
        progress(0, len(catalog))
    for at, (job, result) in enumerate(encode_items(encoder, catalog)):
        if isinstance(result, PictureError):
            skipped.append((job.item, result.what))
        else:
            kept.append(at)
            rows_found.append(result)
        if progress:
            progress(at + 1, len(catalog))
    if not kept:
        raise _nothing_readable(catalog)
    return catalog.select(kept), np.stack(rows_found), tuple(skipped)


def _nothing_readable(catalog: Catalog) -> EvaluationError:
    return EvaluationError(
        f"None of the {len(catalog)} pictures of {catalog.source} could be read.",
        "cfcd check names what is wrong with each.",
    )


def _report(
    catalog: Catalog, descriptors: NDArray[np.float32], recalls: Sequence[int] | None
) -> FolderReport:
    sides = catalog.query_gallery()
    queries, gallery = sides or (None, None)
    labels = catalog.labels or [None] * len(catalog)
    return evaluate_descriptors(
        descriptors,
        labels,
        catalog.ids,
        queries=queries,
        gallery=gallery,
        recalls=USUAL_RECALLS.get(catalog.kind, RECALLS) if recalls is None else recalls,
    )
