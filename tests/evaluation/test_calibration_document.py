from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cfcd.evaluation.calibration_document import threshold_steps, write_calibration
from cfcd.evaluation.calibration_plots import reliability_plot
from cfcd.gallery.calibration.fit import Pairs, fit_threshold, reliability_curve
from cfcd.gallery.calibration.measuring import Calibrated
from cfcd.gallery.calibration.thresholds import Calibration

MADE = {"data": "/photos/<b>.csv", "protocol": "labelled pictures", "k": 10, "queries": 900, "objects": 30,
    "hits": 900, "right": 0, "unlabelled": 3, "copies": 2, "skipped": 1}  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    rng = np.random.default_rng(3)
    scores = rng.random(900)
    right = scores + 0.2 * rng.standard_normal(900) > 0.5
    return Pairs(scores, right, np.arange(900), np.arange(900) % 30, np.ones(900, bool))


@pytest.fixture(scope="module")
def done(pairs: Pairs) -> Calibrated:
    match, maybe = fit_threshold(pairs, 0.9), fit_threshold(pairs, 0.6)
    curve = reliability_curve(pairs)
    return Calibrated(Calibration("model", 4, "00", 1234, match, maybe, curve, MADE), pairs, ())


def test_the_report_says_the_same_in_all_files(done: Calibrated, tmp_path: Path) -> None:
    files = write_calibration(done, tmp_path / "report")
    assert [file.name for file in files] == ["calibration.json", "calibration.md", "calibration.html"]
    assert json.loads(files[0].read_text())["match"]["score"] == done.calibration.match.score
    score = f"{done.calibration.match.score:.4f}"
    held = done.calibration.match.held_out
    assert held is not None
    for file in files[1:]:
        text = file.read_text()
        assert score in text
        assert f"{100 * held.above.precision:.1f}" in text
        assert "1,234 (generation 4)" in text
    page = files[2].read_text()
    assert page.count('<svg class="plot"') == 2
    assert "<b>" not in page


def test_steps_are_counted_right(pairs: Pairs) -> None:
    steps = threshold_steps(pairs)
    assert len(steps) == 200
    assert steps == sorted(steps)
    for score, precision, kept in steps[::17]:
        above = pairs.scores >= score
        assert precision == pytest.approx(100 * pairs.right[above].mean())
        assert kept == pytest.approx(100 * pairs.right[above].sum() / pairs.right.sum())


def test_every_bin_is_a_dot_and_both_thresholds_are_marked(done: Calibrated) -> None:
    drawn = reliability_plot(done.calibration)
    assert drawn.count('class="dot a"') == len(done.calibration.curve)
    assert f"match {done.calibration.match.score:.3f}" in drawn
    assert f"maybe {done.calibration.maybe.score:.3f}" in drawn
    heights = [float(y) for y in re.findall(r'<circle class="dot a" cx="[\d.]+" cy="([\d.]+)"', drawn)]
    assert heights[0] > heights[-1]  # low scores are seldom right, and y points down
    assert all(0 <= height <= 320 for height in heights)


def test_one_score_for_all_can_be_drawn() -> None:
    same = Pairs(np.full(60, 0.7), np.ones(60, bool), np.arange(60), np.arange(60), np.ones(60, bool))
    found = fit_threshold(same, 0.9)
    calibration = Calibration("m", 1, "", 5, found, found, reliability_curve(same), MADE)
    assert 'class="dot a"' in reliability_plot(calibration)
