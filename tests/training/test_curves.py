from __future__ import annotations

import math
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cfcd.model.extras
from cfcd.errors import MissingExtra, TrainingError
from cfcd.training.curve_panels import _running_mean, fine_spans, height_of, panels_of
from cfcd.training.curves import curves_figure, draw_curves
from cfcd.training.log import MetricsLog

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

COARSE = {"Loss", "mAP, %", "Median cosine to the own class", "Learning rate", "Scale of the cosines"}
COARSE |= {"Margin, in cosine"}
FINE = {"Triplet loss", "Accepted local pairs per step"}


def run(
    coarse: int = 3, fine: int = 2, steps: int = 20, *, distillation: float = 0.5
) -> list[dict[str, Any]]:
    """Invent the log of a run with so many epochs in each phase."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range((coarse + fine) * steps):
        is_fine = number >= coarse * steps
        epoch = number // steps + 1 - (coarse if is_fine else 0)
        place = {"step": number + 1, "phase": "fine" if is_fine else "coarse", "epoch": epoch}
        row = {**place, "loss": 9 / (1 + number / 30) + random.normal(0, 0.2), "classification": 2.0}
        row |= {"distillation": distillation, "median": 0.4 + number / 1000, "scale": 32.0, "margin": 0.1}
        row |= {"lr": 0.001, "images_per_s": 44.0, "seconds": 1.0, "triplets": None, "accepted": None}
        if is_fine:
            row |= {"triplets": 0.1, "accepted": 100 + number}
        rows.append(row)
        if (number + 1) % steps == 0:
            rows += [{**place, "mAP": 75 + number / 10, "of": of} for of in ("test", "training pictures")]
    return rows


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with MetricsLog(folder, tensorboard=False) as log:
        for row in rows:
            log.write(row)
    return folder


def panels_in(figure) -> dict[str, Any]:
    return {axes.get_title("left"): axes for axes in figure.axes}


def lines_in(axes) -> list[Any]:
    """Return the lines, without dots and without those that mark epochs."""
    return [line for line in axes.lines if line.get_linestyle() == "-" and line.get_zorder() == 3]


def test_panels_are_those_the_log_has_values_for():
    assert panels_in(curves_figure(run(), "run")).keys() == COARSE | FINE
    assert panels_in(curves_figure(run(fine=0), "run")).keys() == COARSE
    rows = [{key: row[key] for key in ("step", "loss", "lr") if key in row} for row in run(fine=0)]
    assert panels_in(curves_figure(rows, "run")).keys() == {"Loss", "Learning rate"}


def test_loss_has_parts_only_where_it_is_a_sum():
    def names(rows):
        return [series.name for series in panels_of(rows)[0].series]

    assert names(run(fine=0, distillation=0.0)) == [""]
    assert names(run(fine=0)) == ["total", "classification", "distillation"]
    assert names(run(distillation=0.0)) == ["total", "classification"]


def test_lines_run_through_the_logged_values():
    panels = panels_in(curves_figure(run(), "run"))
    maps = lines_in(panels["mAP, %"])
    assert len(maps) == 2
    np.testing.assert_array_equal(maps[0].get_xdata(), [20, 40, 60, 80, 100])
    np.testing.assert_allclose(maps[0].get_ydata(), [76.9, 78.9, 80.9, 82.9, 84.9])
    (rate,) = lines_in(panels["Learning rate"])
    np.testing.assert_array_equal(rate.get_ydata(), [0.001] * 100)
    coarse, fine = lines_in(panels["Scale of the cosines"])
    assert (list(coarse.get_xdata()), list(fine.get_xdata())) == (list(range(1, 61)), list(range(61, 101)))
    (dots,) = [line for line in panels["Median cosine to the own class"].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots.get_ydata(), 0.4 + np.arange(100) / 1000)


def test_all_panels_share_the_axis_of_steps():
    panels = panels_in(curves_figure(run(), "run")).values()
    ((low, high),) = {axes.get_xlim() for axes in panels}
    assert -1 < low < 1 and 100 < high < 102
    labelled = {title for title, axes in panels_in(curves_figure(run(), "run")).items() if axes.get_xlabel()}
    assert labelled == FINE  # the lowest of each column


def test_ends_of_epochs_and_the_fine_phase_are_marked():
    axes = panels_in(curves_figure(run(3, 2), "run"))["Loss"]
    ends = [line.get_xdata()[0] for line in axes.lines if line.get_zorder() == 0.6]
    assert ends == [20.5, 40.5, 60.5, 80.5]
    (shade,) = axes.patches
    assert shade.get_x() == 60.5
    assert shade.get_x() + shade.get_width() == pytest.approx(axes.get_xlim()[1])
    assert [text.get_text() for text in axes.texts] == ["fine phase"]
    coarse = panels_in(curves_figure(run(3, 0), "run"))["Loss"]
    assert not coarse.patches and not coarse.texts


def test_hundreds_of_epochs_leave_room_between_their_lines():
    axes = panels_in(curves_figure(run(200, 0, 2), "run"))["Loss"]
    assert 10 <= sum(line.get_zorder() == 0.6 for line in axes.lines) <= 25


def test_fine_spans():
    rows = [
        {"step": step, "phase": phase}
        for step, phase in enumerate(["coarse", "fine", "fine", "coarse", "fine"])
    ]
    assert fine_spans(rows, (-1, 5)) == [(0.5, 2.5), (3.5, 5)]
    assert fine_spans(rows[1:3], (0, 3)) == [(0, 3)]
    assert fine_spans([], (0, 1)) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_running_mean_against_a_slow_one(values):
    def slow(values):
        reach = len(values) // 40
        means = []
        for i in range(len(values)):
            near = values[max(0, i - reach) : i + reach + 1]
            means.append(math.fsum(near) / len(near))
        return means

    np.testing.assert_allclose(_running_mean(np.array(values)), slow(slow(values)), atol=1e-6)


def test_wild_values_do_not_flatten_the_rest():
    rows = [{"step": step, "loss": 1e6 if step == 500 else 2 + step % 2} for step in range(1, 1001)]
    (panel,) = panels_of(rows)
    wild = _running_mean(panel.series[0].values).max()
    low, high = height_of(panel)
    assert low < 2 and wild < high < 1e5
    assert height_of(panels_of([{"step": 1, "loss": 0.0}])[0]) == (-0.1, 0.1)


def test_last_row_of_a_step_counts_and_order_does_not():
    rows = [
        {"step": 2, "loss": 5.0},
        {"step": 3, "loss": 6.0},
        {"step": 2, "loss": 4.0},
        {"step": 1, "loss": 3.0},
    ]
    (panel,) = panels_of(rows)
    assert (panel.series[0].steps.tolist(), panel.series[0].values.tolist()) == ([1, 2, 3], [3, 4, 6])


def test_both_maps_of_one_step_are_drawn_and_explained():
    rows = [*run(), {"step": 100, "phase": "fine", "epoch": 2, "mAP": 98.4, "of": "test"}]
    figure = curves_figure(rows, "run")
    line = lines_in(panels_in(figure)["mAP, %"])[0]
    np.testing.assert_array_equal(line.get_xdata()[-2:], [100, 100])
    np.testing.assert_allclose(line.get_ydata()[-2:], [84.9, 98.4])
    said = "and of the finished model"
    assert said in figure.texts[-1].get_text()
    assert said not in curves_figure(run(), "run").texts[-1].get_text()


numbers = st.none() | st.floats() | st.integers(-(10**6), 10**6) | st.just("word")
keys = st.sampled_from(
    ["loss", "classification", "triplets", "median", "scale", "accepted", "lr", "mAP", "epoch"]
)
phases = st.fixed_dictionaries(
    {"step": st.integers(0, 10**7), "phase": st.sampled_from(["coarse", "fine", None])}
)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(phases, st.dictionaries(keys, numbers)), min_size=1, max_size=6), st.text(max_size=9)
)
def test_any_log_can_be_drawn_without_a_warning(rows, title):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    every = [{**more, **place} for place, more in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = curves_figure(every, title)
        FigureCanvasAgg(figure).draw()
    assert len(figure.axes) == len(panels_of(every))


def ink(path: Path, figure) -> list[float]:
    """Return the share of painted pixels within each panel of the picture."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    assert (width, height) == tuple(int(x * figure.dpi) for x in figure.get_size_inches())
    shares = []
    for axes in figure.axes:
        box = axes.get_position()
        part = pixels[
            int((1 - box.y1) * height) : int((1 - box.y0) * height), int(box.x0 * width) : int(box.x1 * width)
        ]
        # What is coloured: grid, shade and axis are greyish or pale.
        shares.append(float((np.ptp(part.astype(int), axis=2) > 60).mean()))
    return shares


@pytest.mark.parametrize(
    "rows", [run(), run(fine=0), run()[:1]], ids=["both phases", "coarse only", "one row"]
)
def test_every_panel_of_the_picture_is_painted(tmp_path, rows):
    folder = written(tmp_path / "run", rows)
    path = draw_curves(folder)
    assert path == folder / "curves.png"
    shares = ink(path, curves_figure(rows, "run"))
    assert len(shares) >= 5
    assert min(shares) > (0.0003 if len(rows) == 1 else 0.002)


def test_picture_goes_where_it_is_wanted_and_is_the_same_each_time(tmp_path):
    folder = written(tmp_path / "run", run())
    out = tmp_path / "new" / "other.png"
    assert draw_curves(folder, out) == out
    assert out.read_bytes() == draw_curves(folder).read_bytes()
    assert sorted(entry.name for entry in folder.iterdir()) == ["curves.png", "metrics.jsonl"]


def test_run_still_being_written_can_be_drawn(tmp_path):
    folder = written(tmp_path, run()[:30])
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 31, "lo')
    assert draw_curves(folder).stat().st_size > 10_000


@pytest.mark.parametrize("rows", [[], [{"step": 3, "phase": "coarse", "loss": math.nan}]])
def test_log_without_values_is_an_error(tmp_path, rows):
    with pytest.raises(TrainingError, match="nothing to draw"):
        draw_curves(written(tmp_path, rows))
    assert not (tmp_path / "curves.png").exists()


def test_missing_matplotlib_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cfcd.model.extras, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="matplotlib"):
        draw_curves(tmp_path)


def test_drawing_needs_no_pyplot(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom cfcd.training.curves import draw_curves\n"
        "assert 'matplotlib' not in sys.modules\ndraw_curves(Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    written(tmp_path, run()[:5])
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)


def test_drawing_in_threads_touches_no_global_state(tmp_path):
    import matplotlib

    settings_before = dict(matplotlib.rcParams)
    folders = [written(tmp_path / str(i), run()[: 20 * (i + 1)]) for i in range(3)]
    alone = [draw_curves(folder).read_bytes() for folder in folders]
    threads = [threading.Thread(target=draw_curves, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(folder / "curves.png").read_bytes() for folder in folders] == alone
    assert dict(matplotlib.rcParams) == settings_before
