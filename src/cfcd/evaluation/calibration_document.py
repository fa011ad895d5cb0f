"""What a report of a calibration says, and its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import cfcd
from cfcd.evaluation.calibration_plots import reliability_plot, threshold_plot
from cfcd.evaluation.document import Cell, Document, Facts, Figure, Figures, Section, Table, Text, Tile, Tiles
from cfcd.evaluation.report_files import write_report
from cfcd.gallery.calibration.fit import Pairs
from cfcd.gallery.calibration.measuring import LEAVE_ONE_OUT, Calibrated
from cfcd.gallery.calibration.thresholds import Calibration, Share, Threshold

_MOST_STEPS = 200
_REMARKS = (
    "A hit is right when its label is the query's. Shown: the lower end of a one-sided 95 % interval (Wilson "
    "1927), which counts queries instead of hits, because the hits of a query are right or wrong together. "
    "The thresholds are the lowest scores whose bound is at least what was wanted.",
    "Held out: the objects are dealt to five parts, the threshold is chosen without one of them and judged "
    "by it, for all five. That is what to expect of objects that nobody calibrated with; the precision of "
    "the hits that chose the threshold is somewhat flattered.",
    "All of this holds for searches like these, with about as many queries whose object is not in the "
    "gallery, and for a gallery of about this size: among more items, more wrong ones look right.",
)


def write_calibration(done: Calibrated, out: Path) -> list[Path]:
    """Write a report as calibration.json, calibration.md and calibration.html.

    Args:
        done: What was found.
        out: Folder for the files, made if need be.

    Returns:
        The files written.
    """
    return write_report(out, "calibration", done.calibration.to_json(), calibration_document(done))


def calibration_document(done: Calibrated) -> Document:
    """Arrange a calibration as a report."""
    found = done.calibration
    sections = (
        Section("", (Tiles(_tiles(found)),)),
        Section("Thresholds", (_thresholds(found),)),
        Section("Precision by score", (Figures((_reliability(found), _costs(done.pairs, found))),)),
        Section("How this was measured", (_facts(done), Text(_REMARKS))),
    )
    subtitle = f"{found.made['queries']:,} queries of {found.made['objects']:,} objects from {_source(found)}"
    return Document("Calibration", subtitle, sections)


def _source(found: Calibration) -> str:
    return Path(str(found.made["data"])).name


def _tiles(found: Calibration) -> tuple[Tile, ...]:
    tiles = []
    for name, threshold in (("match", found.match), ("maybe", found.maybe)):
        held = threshold.held_out
        share = threshold.above if held is None or not held.above.hits else held.above
        how = "" if share is threshold.above else ", held out"
        tiles.append(
            Tile(f"precision of {name}{how}", 100 * share.precision, 100 * share.low, 100 * share.high)
        )
        tiles.append(Tile(f"right hits from {name} on", 100 * threshold.kept))
    return tuple(tiles)


def _thresholds(found: Calibration) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, threshold in (("match", found.match), ("maybe", found.maybe)):
        held = threshold.held_out
        rows.append(
            (
                name,
                "the hits that chose it",
                f"{threshold.score:.4f}",
                f"{100 * threshold.wanted:g}",
                f"{100 * threshold.shown:.1f}",
                *_share_cells(threshold.above),
                f"{100 * threshold.kept:.1f}",
            )
        )
        if held is not None:
            for words, share, kept in (
                ("held-out objects", held.above, held.kept),
                ("held-out objects, best hits only", held.first, held.first_kept),
            ):
                rows.append(("", words, "", "", "", *_share_cells(share), f"{100 * kept:.1f}"))
    columns = (
        "verdict",
        "measured on",
        "from score",
        "wanted, %",
        "shown, %",
        "right, %",
        "95 %",
        "hits",
        "queries",
    )
    return Table((*columns, "kept, %"), tuple(rows), _failures(found.match, found.maybe), texts=2)


def _failures(*thresholds: Threshold) -> str:
    failed = sum(one.held_out.failed for one in thresholds if one.held_out is not None)
    kept = "Kept: the share of all right hits that lie above; of best hits, the share of all best hits."
    if not failed:
        return kept
    return f"{kept} {failed} times the other parts did not reach the precision; nothing counts as found then."


def _share_cells(share: Share) -> tuple[str, str, str, str]:
    if not share.hits:
        return ("none", "", "0", "0")
    ends = f"{100 * share.low:.1f} to {100 * share.high:.1f}"
    return f"{100 * share.precision:.1f}", ends, f"{share.hits:,}", f"{share.queries:,}"


def _reliability(found: Calibration) -> Figure:
    rows = tuple(
        (f"{one.low:.4f} to {one.high:.4f}", *_share_cells(one.share)) for one in reversed(found.curve)
    )
    data = Table(("score", "right, %", "95 %", "hits", "queries"), rows)
    note = "Each dot is about equally many hits of similar scores; the strokes are 95 % intervals."
    return Figure("How often a score is right", reliability_plot(found), note, data)


def _costs(pairs: Pairs, found: Calibration) -> Figure:
    steps = threshold_steps(pairs)
    shown = steps[:: max(1, len(steps) // 20)]
    data = Table(
        ("threshold", "precision above, %", "right hits kept, %"),
        tuple((f"{score:.4f}", f"{precision:.1f}", f"{kept:.1f}") for score, precision, kept in shown),
    )
    note = "A higher threshold is right more often and finds less."
    return Figure("What a threshold costs", threshold_plot(steps, found), note, data)


def threshold_steps(pairs: Pairs) -> list[tuple[float, float, float]]:
    """Give (score, precision at and above, share of right hits kept), in percent, at up to 200 scores."""
    order = np.argsort(-pairs.scores, kind="stable")
    scores, right = pairs.scores[order], np.cumsum(pairs.right[order])
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, _MOST_STEPS).round().astype(int))]
    everything = max(1, int(right[-1]))
    steps = [
        (float(scores[at]), 100 * float(right[at] / (at + 1)), 100 * float(right[at] / everything))
        for at in ends
    ]
    return steps[::-1]


def _facts(done: Calibrated) -> Facts:
    found, made = done.calibration, done.calibration.made
    if made["protocol"] == LEAVE_ONE_OUT:
        protocol = "leave-one-out: each labelled item searches all others"
    else:
        protocol = "each labelled picture searches the gallery; copies of it there are passed over"
    rows = {
        "queries": f"{made['queries']:,}, from {made['data']}",
        "protocol": protocol,
        "hits per query": f"the first {made['k']}",
        "hits": f"{made['hits']:,}, of which {made['right']:,} are right",
        "hits left out for want of a label": f"{made['unlabelled']:,}",
        "copies of queries passed over": f"{made['copies']:,}",
        "pictures that could not be read": f"{made['skipped']:,}",
        "items in the gallery": f"{found.items:,} (generation {found.generation:,})",
        "model identity": found.identity,
        "cfcd": cfcd.__version__,
    }
    return Facts(tuple(rows.items()))
