"""Plots are read back as XML: what is drawn stands where its value belongs."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.evaluation import plots
from cfcd.evaluation.plots import Curve

NASTY = '<script>alert("x")</script>&\x00\x1b[31m'


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def of_class(svg: str, tag: str, name: str) -> list[ElementTree.Element]:
    return [one for one in drawn(svg).iter(tag) if name in one.get("class", "").split()]


def place(svg: str, text: str, axis: str) -> float:
    """Find the pixel of a tick by its text."""
    ticks = [t for t in of_class(svg, "text", "tick") if t.text == text]
    ends = {"x": "middle", "y": "end"}
    return next(float(t.get(axis, "")) for t in ticks if t.get("text-anchor") == ends[axis])


def points(svg: str, role: str) -> list[tuple[float, float]]:
    (line,) = of_class(svg, "polyline", role)
    return [(float(x), float(y)) for x, y in (p.split(",") for p in line.get("points", "").split())]


def test_a_precision_curve_lies_on_its_ticks():
    svg = plots.precision_recall_plot([Curve("", tuple((float(r), 100.0 - r) for r in range(101)))])
    found = points(svg, "a")
    assert len(found) == 101
    for recall in (0, 20, 60, 100):
        x, y = found[recall]
        assert x == pytest.approx(place(svg, f"{recall}", "x"), abs=0.02)
        assert y == pytest.approx(place(svg, f"{100 - recall}", "y") - 4, abs=0.02)
    dots = of_class(svg, "circle", "dot")
    assert len(dots) == 11
    assert dots[3].findtext("title") == "recall 30 %: 70.0 %"


def test_two_curves_are_told_apart_and_named():
    flat = tuple((float(r), 50.0) for r in range(101))
    svg = plots.precision_recall_plot([Curve("A", flat), Curve("B", flat, "b")])
    assert [t.text for t in of_class(svg, "text", "strong")] == ["A", "B"]
    assert len(of_class(svg, "polyline", "a")) == len(of_class(svg, "polyline", "b")) == 2


def test_recall_over_k_is_logarithmic():
    svg = plots.recall_plot([Curve("", tuple((float(k), 40.0 + k / 2) for k in range(1, 101)))])
    found = points(svg, "a")
    assert found[0][0] == pytest.approx(place(svg, "1", "x"), abs=0.02)
    assert found[9][0] == pytest.approx(place(svg, "10", "x"), abs=0.02)
    assert found[99][0] - found[9][0] == pytest.approx(found[9][0] - found[0][0], abs=0.02)
    assert [d.findtext("title") for d in of_class(svg, "circle", "dot")] == [
        "R@1: 40.5 %",
        "R@5: 42.5 %",
        "R@10: 45.0 %",
    ]


@given(st.floats(0, 100), st.floats(0, 100), st.integers(2, 3000))
def test_recall_curves_stay_within_their_axes(a: float, b: float, last: int):
    low, high = sorted((a, b))
    svg = plots.recall_plot([Curve("", ((1.0, low), (float(last), high)))])
    top, bottom = place(svg, "100", "y") - 4, float(of_class(svg, "line", "axis")[0].get("y1", ""))
    assert all(top - 0.1 <= y <= bottom + 0.1 for _, y in points(svg, "a"))


@pytest.mark.parametrize(
    ("least", "floor", "step"),
    [
        (0, 0, 20),
        (1, 0, 20),
        (33.3, 20, 20),
        (50.9, 40, 20),
        (51, 50, 10),
        (78, 75, 5),
        (97.6, 90, 2),
        (100, 90, 2),
    ],
)
def test_axes_begin_at_a_tick_below_all_values(least: float, floor: int, step: int):
    assert plots._floor(least) == (floor, step)


def test_a_perfect_recall_of_one_image_can_be_drawn():
    svg = plots.recall_plot([Curve("", ((1.0, 100.0),))])
    assert len(points(svg, "a")) == 1


def test_bars_are_sorted_and_as_high_as_their_values():
    svg = plots.sorted_bars_plot([("low", 10.0), ("high", 90.0), ("middle", 40.0)])
    bars = of_class(svg, "rect", "bar")
    heights = [float(bar.get("height", "")) for bar in bars]
    assert heights == pytest.approx([heights[0], heights[0] * 4 / 9, heights[0] / 9], abs=0.02)
    assert [g.findtext("title") for g in drawn(svg).iter("g") if g.find("title") is not None] == [
        "high: AP 90.0 %",
        "middle: AP 40.0 %",
        "low: AP 10.0 %",
    ]
    assert "mean 46.7" in [t.text for t in of_class(svg, "text", "strong")]
    (mean,) = of_class(svg, "line", "mean")
    bottom = place(svg, "0", "y") - 4
    assert bottom - float(mean.get("y1", "")) == pytest.approx(heights[0] * 46.667 / 90, abs=0.05)


def test_many_queries_share_bars():
    svg = plots.sorted_bars_plot([(f"q{i}", 100 * i / 9999) for i in range(10_000)])
    bars = of_class(svg, "rect", "bar")
    assert len(bars) == 240
    titles = [g.findtext("title") for g in drawn(svg).iter("g") if g.find("title") is not None]
    assert titles[0] == "queries 1 to 41: AP 100.0 to 99.6 %"
    assert titles[-1] is not None
    assert titles[-1].startswith("queries 9959 to 10000")
    assert len(svg) < 100_000
    # The bars leave no room between them and end at the axis.
    lefts = [float(bar.get("x", "")) for bar in bars]
    wide = [float(bar.get("width", "")) for bar in bars]
    assert all(a + w >= b for a, w, b in zip(lefts, wide, lefts[1:], strict=False))


def test_a_scatter_tells_who_is_better():
    pairs = [("up", 20.0, 80.0), ("down", 60.0, 40.0), ("same", 50.0, 50.0), ("same too", 50.0, 50.0)]
    svg = plots.scatter_plot(pairs)
    (up,), (down,), (even,) = (of_class(svg, "circle", role) for role in ("b", "a", "even"))
    assert up.findtext("title") == "up: 20.0 to 80.0, +60.0"
    assert float(up.get("cx", "")) == pytest.approx(place(svg, "20", "x"), abs=0.02)
    assert float(up.get("cy", "")) == pytest.approx(place(svg, "80", "y") - 4, abs=0.02)
    assert down.findtext("title") == "down: 60.0 to 40.0, -20.0"
    assert even.findtext("title") == "2 queries near 50 to 50"
    assert float(even.get("r", "")) > float(up.get("r", ""))
    texts = [t.text for t in of_class(svg, "text", "strong")]
    assert texts == ["B better: 1", "A better: 1"]
    # The axes are a square, or the diagonal would mislead.
    (line,) = of_class(svg, "line", "even")
    x_1, y_1, x_2, y_2 = (float(line.get(name, "")) for name in ("x1", "y1", "x2", "y2"))
    assert x_2 - x_1 == pytest.approx(y_1 - y_2, abs=0.02)


def test_a_scatter_of_very_many_queries_stays_small():
    pairs = [(f"q{i}", i % 101 * 1.0, i // 101 % 101 * 1.0) for i in range(30_000)]
    svg = plots.scatter_plot(pairs)
    assert len(of_class(svg, "circle", "spot")) < 3000
    assert len(svg) < 600_000


@pytest.mark.parametrize(
    ("value", "options", "start", "wide"),
    [
        (25.0, {}, 0, 25),
        (130.0, {}, 0, 100),
        (5.0, {"most": 10.0, "signed": True}, 50, 25),
        (-10.0, {"most": 10.0, "signed": True}, 0, 50),
        (0.0, {"most": 0.0, "signed": True}, 50, 0),
    ],
)
def test_small_bars(value: float, options: dict, start: float, wide: float):
    rect = list(drawn(plots.bar(value, **options)).iter("rect"))[1]
    assert (float(rect.get("x", "")), float(rect.get("width", ""))) == (start, wide)


def test_an_interval_is_drawn_from_end_to_end():
    _, mean, band, tip = drawn(plots.interval(75, 70, 82)).iter("rect")
    assert (mean.get("width"), band.get("x"), band.get("width")) == ("70", "70", "12")
    assert float(tip.get("x", "")) + float(tip.get("width", "")) / 2 == pytest.approx(75)


@pytest.mark.parametrize(
    "svg",
    [
        plots.sorted_bars_plot([(NASTY, 50.0)]),
        plots.scatter_plot([(NASTY, 50.0, 60.0)]),
        plots.precision_recall_plot([Curve(NASTY, tuple((float(r), 1.0) for r in range(101)))]),
        plots.recall_plot([Curve(NASTY, ((1.0, 0.0), (5.0, 1.0)))]),
    ],
)
def test_no_text_becomes_markup_and_nothing_is_fetched(svg: str):
    root = drawn(svg)  # NUL or an open tag would be no XML
    assert not [
        one
        for one in root.iter()
        if one.tag not in {"svg", "g", "rect", "line", "text", "circle", "title", "polyline", "path"}
    ]
    assert '<script>alert("x")</script>&' in "".join(root.itertext())
    assert not re.search(r"href|url\(|\son\w+=|style=", svg)


def test_every_class_of_a_plot_has_its_colour():
    """A class that no style sheet knows would be drawn black, unseen on a dark page."""
    css = "".join(
        (Path(plots.__file__).parent / name).read_text("utf-8") for name in ("grid.css", "page.css")
    )
    pairs = [("x", 1.0, 2.0), ("y", 2.0, 1.0), ("z", 1.0, 1.0)]
    curve = Curve("A", tuple((float(r + 1), 1.0) for r in range(101)))
    svgs = [
        plots.precision_recall_plot([curve]),
        plots.recall_plot([curve]),
        plots.sorted_bars_plot([("x", 1.0)]),
        plots.scatter_plot(pairs),
        plots.bar(1.0, signed=True),
        plots.bar(-1.0, signed=True),
        plots.bar(1.0),
        plots.interval(50, 40, 60),
    ]
    names = {name for svg in svgs for found in re.findall(r'class="([^"]*)"', svg) for name in found.split()}
    assert not [name for name in names - {"tick", "name"} if f".{name}" not in css]
