"""The whole way once: check, encode, index, evaluate and search a folder, and show what came out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfcd.catalog import read_catalog
from cfcd.check import check_catalog
from cfcd.check_report import CheckReport
from cfcd.demo.collection import build_collection
from cfcd.encoding import Encoder, encode_catalog, read_encoded
from cfcd.errors import EncodingError, EvaluationError
from cfcd.evaluation.cells import GridRow
from cfcd.evaluation.report import FolderReport
from cfcd.evaluation.rows import row_of_hits, rows_of_queries, write_grid
from cfcd.evaluation.run import evaluate, refuse_inside
from cfcd.gallery import Gallery, open_or_create

_QUERIES = 10
_HITS = 8

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class TourResult:
    """What the tour found and wrote; `report` is None where there are no labels to judge by."""

    photos: Path
    gallery: Path
    checked: CheckReport
    images: int
    labels: int
    report: FolderReport | None
    grids: tuple[Path, Path]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the result as plain data."""
        return {
            "photos": str(self.photos),
            "gallery": str(self.gallery),
            "images": self.images,
            "labels": self.labels,
            "problems": len(self.checked.problems),
            "evaluation": None if self.report is None else self.report.to_json(),
            "grids": [str(grid) for grid in self.grids],
            "seconds": round(self.seconds, 1),
        }

    def text(self, command: str = "cfcd") -> str:
        """Give three lines of summary and what to try next, with the command as the user can call it."""
        problems = len(self.checked.problems)
        objects = f" of {self.labels} objects" if self.labels else ""
        found = f"{problems} problems, see {command} check {self.photos}" if problems else "no problems found"
        if self.report is None:
            measured = (
                "nothing to measure: no object has a second picture to find"
                if self.labels
                else "no labels: put each object's pictures into a folder of its own to measure quality"
            )
        else:
            first = self.report.recall_at[1]
            measured = (
                f"mAP {self.report.mAP:.1f} %, first hit right for {first:.1f} % of "
                f"{self.report.queries} queries ({self.report.protocol}), without any training"
            )
        grid, picture = self.grids
        return "\n".join(
            (
                f"photos   {self.images} pictures{objects}; {found}",
                f"quality  {measured}",
                f"look at  {grid} (or {picture.name} beside it); all done in {self.seconds:.0f} s",
                "",
                "next:",
                f"  {command} search {self.gallery} PICTURE --grid hits.html   # with a picture of yours",
                f"  {command} search {self.gallery} PICTURE --box x1,y1,x2,y2  # with a part of it",
                f"  {command} index {self.photos} --out {self.gallery}  # after adding or deleting pictures",
            )
        )


def default_out(photos: Path | None) -> Path:
    """Name the folder for a tour's results: one for each collection, so that no tour meets another's."""
    if photos is None:
        return Path("cfcd-demo")
    photos = photos.resolve()
    return Path(f"cfcd-demo-{photos.stem if photos.is_file() else photos.name}")


def run_tour(photos: Path | None, out: Path, encoder: Encoder, progress: Progress) -> TourResult:
    """Check, encode, index, evaluate and search a collection; every step goes on where it stopped.

    Args:
        photos: Any catalog; None builds the embedded demo collection.
        out: Folder for descriptors, gallery and results.
        encoder: The model.
        progress: Makes the progress display of a step.

    Raises:
        CatalogError: There are no pictures.
        UsageError: `out` lies inside `photos`.
        EncodingError: No picture can be read, or `out` holds another collection.
        MissingExtra: The demo collection needs packages that are not installed.
    """
    start = time.monotonic()
    if photos is not None:
        refuse_inside(out, photos)
    else:
        photos = out / "photos"
        with progress("making the demo collection") as advance:
            build_collection(photos, progress=advance)
    catalog = read_catalog(photos)
    with progress("checking") as advance:
        checked = check_catalog(catalog, progress=advance)
    with progress("encoding") as advance:
        summary = encode_catalog(catalog, encoder, out / "encoded", progress=advance)
    if summary.nothing_readable:
        raise EncodingError(
            f"None of the {len(catalog)} pictures of {photos} could be read.",
            "cfcd check names what is wrong with each.",
        )
    encoded = read_encoded(out / "encoded")
    with open_or_create(out / "gallery", encoded=encoded) as gallery:
        gallery.use(encoder)
        gallery.update(encoded)
        report, rows = _results(gallery)
        images = len(gallery)
    grids = (out / "results.html", out / "results.png")
    title = f"{len(rows)} searches in {images} pictures"
    quality = "" if report is None else f", mAP {report.mAP:.1f} %"
    for grid in grids:
        write_grid(rows, grid, title=title, subtitle=f"{encoder.model.name}, no training{quality}")
    return TourResult(
        photos,
        out / "gallery",
        checked,
        images,
        len(set(catalog.labels or ()) - {None}),
        report,
        grids,
        time.monotonic() - start,
    )


def _results(gallery: Gallery) -> tuple[FolderReport | None, list[GridRow]]:
    """Evaluate where labels allow it; the queries shown are drawn by lot, not the best ones."""
    try:
        evaluation = evaluate(gallery)
    except EvaluationError:
        catalog, _ = gallery.contents()
        return None, [
            row_of_hits(item.path, gallery.search_id(item.id, _HITS), box=item.box)
            for item in (catalog[index] for index in _draw(list(catalog.ids)))
        ]
    queries = evaluation.report.per_query
    return evaluation.report, rows_of_queries(
        evaluation, [queries[at] for at in _draw([query.label for query in queries])], _HITS
    )


def _draw(labels: list[str]) -> list[int]:
    """Draw rows to show, each of another label, the same ones every time."""
    order = random.Random(0).sample(range(len(labels)), len(labels))
    shown: dict[str, int] = {}
    for at in order:
        if len(shown) < _QUERIES:
            shown.setdefault(labels[at], at)
    return sorted(shown.values())
