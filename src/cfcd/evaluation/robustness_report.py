"""What a measured robustness says: mAP by disturbance and level, as data and as text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from cfcd.catalog import Item
from cfcd.encoding.encoder import Reading
from cfcd.evaluation.disturbances import Disturbance
from cfcd.evaluation.document import change_words
from cfcd.evaluation.intervals import Interval, bootstrap_mean
from cfcd.evaluation.run import Evaluation
from cfcd.pictures import rescaled

LEAST_SIDE = 1024  # pixels


@dataclass(frozen=True)
class View:
    """Open query pictures as they are before a disturbance.

    Attributes:
        long_side: Limit in pixels, None for the size of the file; larger pictures are shrunk to it. Noise
            and JPEG blocks mean little without a size, and so models that take up to `LEAST_SIDE`
            pixels all get the same disturbed pictures.
        reading: How files are read.
    """

    long_side: int | None
    reading: Reading

    def load(self, item: Item) -> Image.Image:
        """Open one picture, cropped to its box, as RGB.

        Raises:
            PictureError: It cannot be read.
        """
        picture = self.reading.load(item.path, box=item.box, long_side=self.long_side)
        ratio = 1.0 if self.long_side is None else self.long_side / max(picture.size)
        return picture if ratio >= 1 else rescaled(picture, ratio, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Level:
    """Hold what the queries found at one level.

    Attributes:
        aps: Average precision of every query in percent.
        first_right: Whether the first image found is right, for every query.
    """

    aps: tuple[float, ...]
    first_right: tuple[bool, ...]

    @property
    def mean(self) -> float:
        """Give the mean over the queries, in percent."""
        return math.fsum(self.aps) / len(self.aps)


@dataclass(frozen=True)
class Result:
    """Hold a disturbance and what the queries found at each of its levels, from 1."""

    disturbance: Disturbance
    levels: tuple[Level, ...]

    @property
    def aps(self) -> tuple[float, ...]:
        """Give every query's mean over the levels, in percent."""
        return tuple(
            math.fsum(values) / len(values)
            for values in zip(*(level.aps for level in self.levels), strict=True)
        )

    @property
    def mean(self) -> float:
        """Give the mean over levels and queries, in percent."""
        return math.fsum(level.mean for level in self.levels) / len(self.levels)


@dataclass(frozen=True)
class RobustnessReport:
    """Hold a measured robustness.

    Attributes:
        evaluation: The evaluation of all queries, undisturbed.
        queries: Ids of the queries that were disturbed.
        clean: What these found undisturbed.
        results: One for each disturbance.
        view: How the pictures were opened before they were disturbed.
    """

    evaluation: Evaluation
    queries: tuple[str, ...]
    clean: Level
    results: tuple[Result, ...]
    view: View

    @property
    def aps(self) -> tuple[float, ...]:
        """Give every query's mean over all disturbances and levels, in percent."""
        columns = zip(*(result.aps for result in self.results), strict=True)
        return tuple(math.fsum(values) / len(values) for values in columns)

    @property
    def mean(self) -> float:
        """Give the mean over all disturbances of their means, in percent."""
        return math.fsum(result.mean for result in self.results) / len(self.results)

    def sampled(self) -> str:
        """Say which queries were disturbed."""
        most = self.evaluation.report.queries
        if len(self.queries) == most:
            return f"all {most:,} queries"
        return f"{len(self.queries):,} of {most:,} queries, spread evenly over the collection"

    def to_json(self) -> dict[str, Any]:
        """Give what `json.dumps` takes: mAP and change by disturbance and level, and every query."""
        report, evaluation = self.evaluation.report, self.evaluation.to_json()
        mean, clean = bootstrap_mean(self.aps), bootstrap_mean(self.clean.aps)
        return {
            "mAP": round(self.mean, 4),
            "clean_mAP": round(self.clean.mean, 4),
            "change": round(self.mean - self.clean.mean, 4),
            "intervals": {"level": 0.95, "mAP": _ends(mean), "clean_mAP": _ends(clean)},
            "protocol": report.protocol,
            "ap_rule": report.ap_rule,
            "disturbed_queries": len(self.queries),
            "all_queries": report.queries,
            "gallery": report.gallery,
            "mAP_of_all_queries": round(report.mAP, 4),
            "disturbed_at_long_side": self.view.long_side,
            "model": self.evaluation.model,
            "settings": evaluation["settings"],
            "data": str(self.evaluation.catalog.source),
            "disturbances": [
                {
                    "name": result.disturbance.name,
                    "measure": result.disturbance.measure,
                    "strengths": list(result.disturbance.strengths),
                    "labels": list(result.disturbance.labels),
                    "mAP": [round(level.mean, 4) for level in result.levels],
                    "change": [round(level.mean - self.clean.mean, 4) for level in result.levels],
                    "mean_mAP": round(result.mean, 4),
                    "mean_change": round(result.mean - self.clean.mean, 4),
                }
                for result in self.results
            ],
            "queries": [
                {
                    "id": key,
                    "clean": round(self.clean.aps[at], 4),
                    **{
                        result.disturbance.name: [round(level.aps[at], 4) for level in result.levels]
                        for result in self.results
                    },
                }
                for at, key in enumerate(self.queries)
            ],
            "skipped": evaluation["skipped"],
            "unusable_rows": evaluation["unusable_rows"],
        }

    def text(self) -> str:
        """Give an aligned table for people: mAP by disturbance and level, its mean and the change."""
        most = max(len(result.levels) for result in self.results)
        rows = [("disturbance", *(f"level {n}" for n in range(1, most + 1)), "mean", "change")]
        for result in self.results:
            cells = [
                f"{label:<5} {level.mean:5.1f}"
                for label, level in zip(result.disturbance.labels, result.levels, strict=True)
            ]
            cells += [""] * (most - len(cells))
            change = change_words(result.mean - self.clean.mean)
            rows.append((result.disturbance.name, *cells, f"{result.mean:.1f}", change))
        change = change_words(self.mean - self.clean.mean)
        rows.append(("all", *[""] * most, f"{self.mean:.1f}", change))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if at > most else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        report = self.evaluation.report
        head = (
            f"clean mAP {self.clean.mean:.1f}, disturbed {self.mean:.1f}   (percent)",
            f"{report.protocol}: {self.sampled()}, disturbed, against {report.gallery:,} clean images",
            "",
        )
        return "\n".join((*head, *lines))


def _ends(interval: Interval) -> list[float]:
    return [round(interval.low, 4), round(interval.high, 4)]
