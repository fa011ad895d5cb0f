"""Reports read back from disk, to be compared."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from cfcd.errors import EvaluationError

REPORT_FILE = "report.json"

_MOST_BYTES = 1 << 30
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
    """Hold how one query did, by the name of the protocol, "" for the only one.

    Attributes:
        id: The query.
        label: Its label, if it has one.
        ap: Average precision in percent; a protocol without right images is left out.
        precision: Further measures in percent, such as P@1.
        rank_of_first: 1-based rank of the first right image, None if none was ranked; empty if not known.
        positives: How many right images there are.
        ranks: 0-based ranks of all right images, increasing; empty if not known.
        top: (id, score, right or wrong) of the best hits, best first.
    """

    id: str
    label: str | None
    ap: Mapping[str, float]
    precision: Mapping[str, Mapping[str, float]]
    rank_of_first: Mapping[str, int | None]
    positives: Mapping[str, int]
    ranks: Mapping[str, tuple[int, ...]]
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


def read_saved_report(path: str | Path) -> SavedReport:
    """Read a report for a comparison: of `cfcd evaluate --out`, or any JSON with the same rows.

    What is needed is `per_query`: a list of objects with `id` and `ap` (or `AP`) in percent. Where a query
    has several average precisions, such as easy, medium and hard, `ap` maps names to numbers, null where one
    is not defined. `label`, `rank_of_first`, `positives`, `ranks`, `precision` and `top` are used if there.

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
        if (file.parent / "robustness.json").exists():
            raise EvaluationError(
                f"{file.parent} holds a report of --robustness, which has no single queries to compare.",
                "Name a folder that cfcd evaluate --out has written without --robustness.",
            ) from error
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
    if "ap" not in row and "AP" not in row:
        raise _unusable(file, f"has no ap in {where}")
    aps = {name: ap for name, ap in _named(row.get("ap", row.get("AP"))).items() if ap is not None}
    precision = {name: at for name, at in _measures(row.get("precision")).items() if at is not None}
    if not all(map(_is_percent, aps.values())) or not all(
        isinstance(at, dict) and all(map(_is_percent, at.values())) for at in precision.values()
    ):
        raise _unusable(file, f"has a measure that is no percentage in {where}")
    ranks = {name: tuple(places) for name, places in _named(row.get("ranks")).items() if _is_list(places)}
    firsts = _named(row["rank_of_first"]) if "rank_of_first" in row else {}
    positives = {name: count for name, count in _named(row.get("positives")).items() if count is not None}
    if not (
        all(first is None or _is_count(first, 1) for first in firsts.values())
        and all(_is_count(count, 0) for count in positives.values())
        and all(_is_rising(places) for places in ranks.values())
    ):
        raise _unusable(file, f"has a rank or a count that cannot be in {where}")
    label = row.get("label")
    return SavedQuery(
        id=row["id"],
        label=None if label is None else str(label),
        ap={name: float(ap) for name, ap in aps.items()},
        precision=precision,
        rank_of_first=firsts or {name: places[0] + 1 if places else None for name, places in ranks.items()},
        positives=positives or {name: len(places) for name, places in ranks.items()},
        ranks=ranks,
        top=_top(row.get("top", []), file, where),
    )


def _named(value: Any) -> dict[str, Any]:
    return {str(name): one for name, one in value.items()} if isinstance(value, dict) else {"": value}


def _measures(value: Any) -> dict[str, Any]:
    """Put measures that are given straight away under the only protocol."""
    straight = isinstance(value, dict) and all(_is_number(one) for one in value.values())
    return {"": value} if straight else _named(value)


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_percent(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 100 + 1e-6


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_rising(places: tuple[Any, ...]) -> bool:
    return all(_is_count(place, 0) for place in places) and all(a < b for a, b in pairwise(places))


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _unusable(file: Path, why: str) -> EvaluationError:
    return EvaluationError(f"{file} {why}.", "Compare reports as cfcd evaluate --out writes them.")
