"""The plots of a calibration: precision by score, and what a threshold costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cfcd.evaluation.plots import Curve, Frame, dot, legend, line, polyline, px, svg, text
from cfcd.gallery.calibration.thresholds import Bin, Calibration

_PERCENT = (0, 20, 40, 60, 80, 100)
_NARROW = 150.0  # pixels from the left edge, in which the words beside a line have no room


def reliability_plot(calibration: Calibration) -> str:
    """Draw the precision of hits of similar scores with its 95 % interval, and both thresholds."""
    bins = calibration.curve
    frame, ticks = _scores(bins[0].low, bins[-1].high)
    parts = frame.axes(ticks, _PERCENT, "score", "right hits, %", upright=False)
    parts += _thresholds(frame, calibration)
    for one in bins:
        x = frame.x(_middle(one))
        low, high = frame.y(100 * one.share.low), frame.y(100 * one.share.high)
        parts.append(f'<path class="axis" d="M{px(x)} {px(low)}V{px(high)}"/>')
    curve = Curve("", tuple((_middle(one), 100 * one.share.precision) for one in bins))
    parts.append(polyline(frame, curve))
    for one in bins:
        said = (
            f"score {one.low:.3f} to {one.high:.3f}: {one.share.right:,} of {one.share.hits:,} hits right, "
            f"{100 * one.share.precision:.1f} %"
        )
        parts.append(dot(frame, _middle(one), 100 * one.share.precision, curve, said))
    return svg("Precision by score", parts)


def threshold_plot(steps: Sequence[tuple[float, float, float]], calibration: Calibration) -> str:
    """Draw, over a threshold, the precision above it and the share of right hits it keeps.

    Args:
        steps: (score, precision, share kept), both in percent, scores ascending, at least one.
        calibration: The thresholds to mark.
    """
    frame, ticks = _scores(steps[0][0], steps[-1][0])
    parts = frame.axes(ticks, _PERCENT, "threshold", "%", upright=False)
    parts += _thresholds(frame, calibration)
    curves = (
        Curve("precision above", tuple((score, precision) for score, precision, _ in steps), "a"),
        Curve("right hits kept", tuple((score, kept) for score, _, kept in steps), "b"),
    )
    parts += [polyline(frame, curve) for curve in curves]
    return svg("Precision and right hits kept, by threshold", [*parts, *legend(frame, curves)])


def _scores(low: float, high: float) -> tuple[Frame, list[float]]:
    """Make the axis of scores, from a round number below to one above, and its ticks."""
    step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 8)
    start, stop = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    ticks = [round(at * step, 2) for at in range(start, stop + 1)]
    return Frame.of((ticks[0], ticks[-1])), ticks


def _thresholds(frame: Frame, calibration: Calibration) -> list[str]:
    """Mark where match and maybe begin."""
    parts = []
    marks = (("match", calibration.match, 12), ("maybe", calibration.maybe, 27))
    for name, threshold, height in marks:
        x = frame.x(threshold.score)
        parts.append(line(x, frame.y(100), x, frame.bottom, "mean"))
        side, anchor = (5, "start") if x < _NARROW else (-5, "end")  # the words stay within the axes
        words = f"{name} {threshold.score:.3f}"
        parts.append(text(x + side, frame.y(100) + height, words, anchor, "strong"))
    return parts


def _middle(one: Bin) -> float:
    return (one.low + one.high) / 2
