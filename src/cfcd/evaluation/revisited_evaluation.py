"""A report on Revisited Oxford or Paris with everything that its figures depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cfcd.catalog import Catalog, Item, Problem
from cfcd.evaluation.revisited_data import BENCHMARKS
from cfcd.evaluation.revisited_report import RevisitedReport
from cfcd.evaluation.run import unusable_rows

_CROPS = {True: "cropped to their boxes", False: "not cropped", None: "cropping not known from descriptors"}
Skipped = tuple[tuple[Item, str], ...]


@dataclass(frozen=True)
class RevisitedEvaluation:
    """A report with everything that its figures depend on.

    Attributes:
        report: The figures.
        dataset: "roxford5k", "rparis6k", or None when the ground truth is neither.
        ground_truth: Its file, and whether its contents are the published ones.
        cropped: Whether queries were cropped to their boxes; None when the descriptors do not tell.
        settings: dim, bytes (per descriptor); where known, scales, long_side (pixels or None), precision.
        model: Label of the model, None when unknown.
        identity: Its identity.
        images: What is known of the images, see `describe_release`; None when evaluated from descriptors.
        distractors: Source and model of the distractors; None without any.
        catalog: The images, None when evaluated from descriptors.
        skipped: Pictures among the distractors that could not be read.
        problems: What is wrong with the table of the distractors.
    """

    report: RevisitedReport
    dataset: str | None
    ground_truth: Mapping[str, Any]
    cropped: bool | None
    settings: Mapping[str, Any]
    model: str | None = None
    identity: str | None = None
    images: Mapping[str, Any] | None = None
    distractors: Mapping[str, Any] | None = None
    catalog: Catalog | None = None
    skipped: Skipped = ()
    problems: tuple[Problem, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what keeps the figures from being compared with published ones without a second thought."""
        said = []
        if self.dataset is not None:
            said.append(BENCHMARKS[self.dataset].overlap)
        if not self.ground_truth["published"]:
            said.append("the ground truth is not the published one")
        if self.cropped is False:
            said.append("the queries were not cropped, which raises the figures by 2 to 8 points")
        if self.cropped is None:
            said.append("whether the queries were cropped is not known from descriptors")
        if self.skipped:
            said.append(f"distractors that could not be read and are missing: {len(self.skipped):,}")
        if rows := unusable_rows(self.problems):
            said.append(f"rows of the distractors that cannot be used and are missing: {len(rows):,}")
        return tuple(said)

    @property
    def protocol(self) -> str:
        """Name the protocol: figures of two names cannot be compared."""
        return "revisited, queries not cropped" if self.cropped is False else "revisited"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data, the single queries last."""
        figures = self.report.to_json()
        per_query = figures.pop("per_query")
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            **figures,
            "model": self.model,
            "identity": self.identity,
            "settings": dict(self.settings),
            "cropped": self.cropped,
            "ground_truth": dict(self.ground_truth),
            "data": None if self.images is None else dict(self.images),
            "distractor_source": None if self.distractors is None else dict(self.distractors),
            "warnings": list(self.warnings),
            "skipped": [
                {"id": item.id, "path": str(item.path), "reason": reason} for item, reason in self.skipped
            ],
            "unusable_rows": unusable_rows(self.problems),
            "pictures": None if self.catalog is None else _pictures(self.catalog, self.cropped is True),
            "per_query": per_query,
        }

    @property
    def title(self) -> str:
        """Name what was evaluated on."""
        return self.dataset or "a ground truth of neither roxford5k nor rparis6k"

    def facts(self) -> dict[str, str]:
        """Say, in words by name, under which conditions the figures came about."""
        settings, truth = self.settings, self.ground_truth
        rows = {
            "protocol": f"{self.protocol}, average precision by the rule {self.report.ap_rule}",
            "queries": _CROPS[self.cropped],
            "model": self.model or "not known from descriptors",
            "descriptors": f"{settings['dim']:,} numbers, {settings['bytes']:,} bytes each",
        }
        if "scales" in settings:
            side = settings["long_side"]
            scales = ", ".join(f"{scale:g}" for scale in settings["scales"])
            rows["scales"] = f"{scales} of " + (
                "the original size" if side is None else f"at most {side} pixels"
            )
        published = "as published" if truth["published"] else "not as published"
        rows["ground truth"] = f"{truth['file']}, {published}"
        if self.images is not None:
            rows["images"] = f"all {self.images['images']:,} named are there"
            if further := self.images["further_images"]:
                rows["images"] += f"; {further:,} further"
            rows["release"] = f"{self.images['release']} (digest {self.images['digest'][:12]})"
        if self.distractors is not None:
            known = self.distractors["model"] or "a model that is not known"
            rows["distractors"] = f"{self.distractors['source']}, by {known}"
        return rows

    def text(self) -> str:
        """Return the table and the conditions as aligned text."""
        rows = self.facts()
        width = max(map(len, rows))
        facts = [f"{name:<{width}}  {value}" for name, value in rows.items()]
        notes = [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([f"{self.title}: {self.report.text()}", "", *facts, *notes])


def _pictures(catalog: Catalog, cropped: bool) -> dict[str, Any]:
    """Say where images and queries lie, by their names in the ground truth."""
    names = [key.removeprefix("query:") for key in catalog.ids]
    boxes = catalog.boxes or [None] * len(catalog)
    return {
        "root": str(catalog.root),
        "paths": dict(zip(names, catalog.paths, strict=True)),
        "boxes": {
            name: list(box) for name, box in zip(names, boxes, strict=True) if cropped and box is not None
        },
    }
