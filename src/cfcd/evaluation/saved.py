"""`report.json`: an evaluation on disk, with all that a later comparison needs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfcd.errors import EvaluationError
from cfcd.evaluation.intervals import RESAMPLES, bootstrap_mean
from cfcd.files import atomic_write

if TYPE_CHECKING:
    from cfcd.catalog import Catalog
    from cfcd.evaluation.run import Evaluation

REPORT_FILE = "report.json"

_MOST_BYTES = 1 << 30
_ONE_PER_LINE = ("per_class", "per_query", "skipped")
Box = tuple[float, float, float, float]
Top = tuple[tuple[str, float, bool | None], ...]


@dataclass(frozen=True)
class Pictures:
    """Say where the pictures of a report are: below `root`, at their ids unless `paths` says otherwise."""

    root: Path
    paths: Mapping[str, str] = field(default_factory=dict)
    boxes: Mapping[str, Box] = field(default_factory=dict)

    def file(self, key: str) -> Path | None:
        """Give the file of an id, or None for one that would lie outside of the root."""
        path = Path(os.path.normpath(self.root / self.paths.get(key, key)))
        return path if path.is_relative_to(os.path.normpath(self.root)) else None


@dataclass(frozen=True)
class SavedQuery:
    """Hold how one query did: measures by name, "" for the only one; average precisions in percent."""

    id: str
    label: str | None
    ap: Mapping[str, float]
    rank_of_first: Mapping[str, int | None]
    positives: Mapping[str, int]
    top: Top


@dataclass(frozen=True)
class SavedReport:
    """Hold what a comparison needs of a report.

    Attributes:
        path: The file it came from.
        facts: Everything in it but the single queries.
        names: Names of its average precisions, such as easy, medium, hard; one "" if there is only one.
        queries: The counted queries.
        pictures: Where their pictures are, None if it does not say.
    """

    path: Path
    facts: Mapping[str, Any]
    names: tuple[str, ...]
    queries: tuple[SavedQuery, ...]
    pictures: Pictures | None

    @property
    def model(self) -> str:
        """Name what made the descriptors."""
        return str(self.facts.get("model") or "unnamed")


def report_json(evaluation: Evaluation) -> dict[str, Any]:
    """Give an evaluation as plain data with intervals, every query, and where the pictures are."""
    report = evaluation.report
    measures = {"mAP": [q.ap for q in report.per_query]} | {
        f"R@{k}": recalls(report.per_query, k) for k in sorted(report.recall_at)
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


def recalls(queries: Sequence[Any], k: int) -> list[float]:
    """Give 100 for each query with a right image among the first k, 0 for the others."""
    return [100.0 * (q.rank_of_first is not None and q.rank_of_first <= k) for q in queries]


def write_report_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a report with one line for each query, class and skipped picture; NaN is refused."""
    parts = []
    for name, content in value.items():
        if name in _ONE_PER_LINE and content:
            rows = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in content)
            text = f"[\n{rows}\n  ]"
        else:
            text = json.dumps(content, allow_nan=False)
        parts.append(f"  {json.dumps(name)}: {text}")
    with atomic_write(path) as file:
        file.write(("{\n" + ",\n".join(parts) + "\n}\n").encode())


def read_saved_report(path: str | Path) -> SavedReport:
    """Read a report for a comparison: of `cfcd evaluate --out`, or any JSON with the same rows.

    What is needed is `per_query`: a list of objects with `id` and `ap` in percent. Where a query has several
    average precisions, `ap` maps names to numbers, null where one is not defined.

    Args:
        path: The file, or the folder with `report.json`.

    Raises:
        EvaluationError: There is no such file, or it holds something else.
    """
    file = Path(path)
    file = file / REPORT_FILE if file.is_dir() else file
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise _unusable(file, f"has over {_MOST_BYTES:,} bytes")
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise EvaluationError(
            f"There is no report {file}.", "Name a folder that cfcd evaluate --out has written."
        ) from error
    except (ValueError, RecursionError) as error:
        raise _unusable(file, f"is no JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("per_query"), list) or not value["per_query"]:
        raise _unusable(file, "has no list per_query")
    queries = tuple(_query(row, file, number) for number, row in enumerate(value["per_query"], start=1))
    seen: set[str] = set()
    for query in queries:
        if query.id in seen:
            raise _unusable(file, f"names the query {query.id!r} twice")
        seen.add(query.id)
    names = tuple(dict.fromkeys(name for query in queries for name in query.ap))
    if not names:
        raise _unusable(file, "has no average precision")
    facts = {name: content for name, content in value.items() if name != "per_query"}
    return SavedReport(file, facts, names, queries, _pictures(value.get("pictures"), file))


def _query(row: Any, file: Path, number: int) -> SavedQuery:
    where = f"per_query, entry {number}"
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise _unusable(file, f"has no id in {where}")
    if "ap" not in row:
        raise _unusable(file, f"has no ap in {where}")
    aps = {name: ap for name, ap in _named(row["ap"]).items() if ap is not None}
    if not all(_is_number(ap) and 0 <= ap <= 100 + 1e-6 for ap in aps.values()):
        raise _unusable(file, f"has an ap that is no percentage in {where}")
    ranks, positives = _named(row.get("rank_of_first")), _named(row.get("positives"))
    ranked = all(rank is None or _is_count(rank, 1) for rank in ranks.values())
    if not (ranked and all(count is None or _is_count(count, 0) for count in positives.values())):
        raise _unusable(file, f"has a rank or a count that is not a whole number in {where}")
    label = row.get("label")
    return SavedQuery(
        row["id"],
        None if label is None else str(label),
        {name: float(ap) for name, ap in aps.items()},
        ranks if "rank_of_first" in row else {},
        {name: count for name, count in positives.items() if count is not None},
        _top(row.get("top", []), file, where),
    )


def _named(value: Any) -> dict[str, Any]:
    return {str(name): one for name, one in value.items()} if isinstance(value, dict) else {"": value}


def _top(value: Any, file: Path, where: str) -> Top:
    hits = []
    for hit in value if isinstance(value, list) else [None]:
        if (
            not isinstance(hit, list)
            or len(hit) != 3
            or not isinstance(hit[0], str)
            or not _is_number(hit[1])
            or not (hit[2] is None or isinstance(hit[2], bool))
        ):
            raise _unusable(file, f"has a hit that is not [id, score, right or wrong] in {where}")
        hits.append((hit[0], float(hit[1]), hit[2]))
    return tuple(hits)


def _pictures(value: Any, file: Path) -> Pictures | None:
    if value is None:
        return None
    paths, boxes = (value.get(name, {}) if isinstance(value, dict) else None for name in ("paths", "boxes"))
    if (
        not isinstance(paths, dict)
        or not isinstance(boxes, dict)
        or not isinstance(value.get("root"), str)
        or not all(isinstance(path, str) for path in paths.values())
        or not all(isinstance(b, list) and len(b) == 4 and all(map(_is_number, b)) for b in boxes.values())
    ):
        raise _unusable(file, "does not say clearly where its pictures are")
    return Pictures(Path(value["root"]), paths, {key: (b[0], b[1], b[2], b[3]) for key, b in boxes.items()})


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _unusable(file: Path, why: str) -> EvaluationError:
    return EvaluationError(f"{file} {why}.", "Compare reports as cfcd evaluate --out writes them.")
