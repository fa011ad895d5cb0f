"""`report.json`: an evaluation as plain data, with all that a later comparison needs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cfcd.catalog import Catalog
from cfcd.evaluation.intervals import RESAMPLES, bootstrap_mean
from cfcd.evaluation.report import QueryResult
from cfcd.evaluation.run import Evaluation
from cfcd.files import atomic_write

_ONE_PER_LINE = ("per_class", "per_query", "skipped", "queries", "classes")


def report_json(evaluation: Evaluation) -> dict[str, Any]:
    """Give an evaluation as plain data with intervals, every query, and where the pictures are."""
    report = evaluation.report
    measures = {"mAP": [q.ap for q in report.per_query]} | {
        f"R@{k}": _recalls(report.per_query, k) for k in sorted(report.recall_at)
    }
    intervals = {name: bootstrap_mean(values) for name, values in measures.items()}
    summary = evaluation.to_json()
    return {
        **summary,
        "intervals": {
            "level": 0.95,
            "resamples": RESAMPLES,
            **{name: [round(i.low, 4), round(i.high, 4)] for name, i in intervals.items()},
        },
        "data": {
            "source": str(evaluation.catalog.source),
            "images": len(evaluation.catalog),
            "digest": _digest(evaluation.catalog),
        },
        "precision_at_recall": [round(p, 4) for p in report.precision_at],
        "pictures": _pictures_json(
            evaluation.catalog, {key for q in report.per_query for key in (q.id, *(hit[0] for hit in q.top))}
        ),
        "per_query": [
            {
                "id": q.id,
                "label": q.label,
                "ap": round(q.ap, 6),
                "rank_of_first": q.rank_of_first,
                "positives": q.positives,
                "top": [[key, round(score, 6), correct] for key, score, correct in q.top],
            }
            for q in report.per_query
        ],
    }


def _recalls(queries: Sequence[QueryResult], k: int) -> list[float]:
    """Give 100 for each query with a right image among the first k, 0 for the others."""
    return [100.0 * (q.rank_of_first is not None and q.rank_of_first <= k) for q in queries]


def write_report_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a report with one line for each query, class and skipped picture; NaN is refused."""
    parts = []
    for name, content in value.items():
        if name in _ONE_PER_LINE and isinstance(content, list) and content:
            rows = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in content)
            text = f"[\n{rows}\n  ]"
        else:
            text = json.dumps(content, allow_nan=False)
        parts.append(f"  {json.dumps(name)}: {text}")
    with atomic_write(path) as file:
        file.write(("{\n" + ",\n".join(parts) + "\n}\n").encode())


def _pictures_json(catalog: Catalog, wanted: set[str]) -> dict[str, Any]:
    """List files and boxes of these ids; a file that lies at its id under the root needs no entry."""
    at = {key: place for place, key in enumerate(catalog.ids) if key in wanted}
    files = {key: catalog.file(place) for key, place in at.items()}
    root = Path(os.path.normpath(catalog.root))
    if not all(file.is_relative_to(root) for file in files.values()):
        root = Path(os.path.commonpath([file.parent for file in files.values()]))
    inside = {key: file.relative_to(root).as_posix() for key, file in files.items()}
    boxes = catalog.boxes or [None] * len(catalog)
    return {
        "root": str(root),
        "paths": {key: path for key, path in inside.items() if path != key},
        "boxes": {key: list(box) for key, place in at.items() if (box := boxes[place]) is not None},
    }


def _digest(catalog: Catalog) -> str:
    """Hash ids and labels in the order of the ids: equal for the same data, whatever way they were read."""
    labels = catalog.labels or [None] * len(catalog)
    digest = hashlib.sha256()
    for pair in sorted(zip(catalog.ids, labels, strict=True), key=lambda pair: pair[0]):
        digest.update(json.dumps(pair).encode())
    return digest.hexdigest()
