"""The outcome of a check, as JSON and as aligned text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cfcd.catalog import Problem

_SHOWN_PER_KIND = 20
_WIDEST_FILE = 60


@dataclass(frozen=True)
class CheckReport:
    """What `check_catalog` found: counts, every problem, and notes that are no problems.

    `images` counts the rows taken over into the catalog and `usable` those without a fatal problem; `splits`
    maps each split to its rows ("" where a row has none).
    """

    source: str
    kind: str
    images: int
    usable: int
    labels: int
    splits: Mapping[str, int]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Tell whether no problem is fatal."""
        return not any(problem.fatal for problem in self.problems)

    @property
    def counts(self) -> dict[str, int]:
        """Count the problems of each kind, fatal kinds first, the most frequent first."""
        counts = Counter(problem.kind for problem in self.problems)
        fatal = {problem.kind for problem in self.problems if problem.fatal}
        return dict(sorted(counts.items(), key=lambda entry: (entry[0] not in fatal, -entry[1], entry[0])))

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; each problem has kind, fatal, message, file and row."""
        return {
            "source": self.source,
            "kind": self.kind,
            "ok": self.ok,
            "images": self.images,
            "usable": self.usable,
            "labels": self.labels,
            "splits": dict(self.splits),
            "fatal": sum(problem.fatal for problem in self.problems),
            "warnings": sum(not problem.fatal for problem in self.problems),
            "counts": self.counts,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """Return the report as text, at most 20 lines for each kind of problem."""
        facts = [f"{self.images:,} images", f"{self.labels:,} labels" if self.labels else "no labels"]
        if self.splits:
            facts.append("splits " + ", ".join(f"{name or 'none'} {n:,}" for name, n in self.splits.items()))
        lines = [f"{self.source} ({self.kind})", "  " + ", ".join(facts)]
        lines += [f"  {note}" for note in self.notes]
        for kind in self.counts:
            lines += ["", *_section(kind, [found for found in self.problems if found.kind == kind])]
        return "\n".join(map(_printable, [*lines, "", self._verdict()]))

    def _verdict(self) -> str:
        warnings = sum(not problem.fatal for problem in self.problems)
        fatal = len(self.problems) - warnings
        if not self.problems:
            return "no problems"
        counts = f"{_plural(fatal, 'fatal problem')}, {_plural(warnings, 'warning')}"
        return f"{counts}; {self.usable:,} usable images"


def _section(kind: str, found: Sequence[Problem]) -> list[str]:
    shown = found[:_SHOWN_PER_KIND]
    rows = ["" if problem.row is None else f"row {problem.row}" for problem in shown]
    files = [problem.file or "" for problem in shown]
    row_width = max(map(len, rows))
    file_width = min(max(map(len, files)), _WIDEST_FILE)
    lines = [f"{'fatal' if found[0].fatal else 'warning'}: {kind} ({len(found):,})"]
    for problem, row, file in zip(shown, rows, files, strict=True):
        cells = [row.ljust(row_width)] * bool(row_width) + [file.ljust(file_width)] * bool(file_width)
        lines.append("  " + "  ".join((*cells, problem.message)))
    if len(found) > len(shown):
        lines.append(f"  ... and {len(found) - len(shown):,} more (--json lists all)")
    return lines


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _printable(line: str) -> str:
    """Escape what a terminal would obey: names of files and labels may hold anything."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
