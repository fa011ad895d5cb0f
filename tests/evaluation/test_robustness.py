"""Robustness: the same numbers as by hand, whatever the protocol, and files that say them."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder, encode_catalog, load_model
from cfcd.errors import EvaluationError, PictureError, UsageError
from cfcd.evaluation import plots, robustness
from cfcd.evaluation.disturbances import DISTURBANCES, Disturbance, disturb
from cfcd.evaluation.document import change_words
from cfcd.evaluation.robustness import evaluate_robustness
from cfcd.evaluation.robustness_document import example_query, write_robustness
from cfcd.evaluation.run import evaluate
from tests.support import make_photo

TWO = (
    Disturbance("rotation", "turn", (45, 180), ("45°", "180°"), DISTURBANCES[1].apply),
    Disturbance("noise", "sigma", (80,), ("80",), DISTURBANCES[6].apply),
)


def describe(pixels: np.ndarray) -> np.ndarray:
    """Describe an (H, W, 3) picture by its colours at 3 x 3 places."""
    small = Image.fromarray(pixels).resize((3, 3), Image.Resampling.BOX)
    row = np.asarray(small, np.float32).ravel() - 100
    return row / np.linalg.norm(row)


class Stub:
    """Run no network."""

    device, precision, batch = "stub", "fp32", 4

    def submit(self, pixels: np.ndarray) -> Future[np.ndarray]:
        future: Future[np.ndarray] = Future()
        rows = np.zeros((len(pixels), 1280), np.float32)
        rows[:, :27] = [describe(one) for one in pixels]
        future.set_result(rows)
        return future


@pytest.fixture
def encoder() -> Encoder:
    made = load_model(precision="fp32", long_side=64)
    made.runtime = Stub()
    return made


@pytest.fixture
def hard(photos: Path) -> Path:
    """Photos of which some are unlike their label, so that the measure is not 100."""
    for number, label in enumerate(("arch", "bridge", "church")):
        make_photo(20 + number).save(photos / label / "3.png")
        (photos / label / "3.jpg").unlink()
    return photos


def by_hand(
    rows: np.ndarray, labels: list[str], ids: list[str], gallery: list[str], query: str
) -> tuple[float, bool]:
    """Give AP and whether the first is right, from one ranking without the query's own picture."""
    gallery = [key for key in gallery if key != query]
    scores = {key: float(rows[0] @ rows[1 + ids.index(key)]) for key in gallery}
    right = [
        labels[ids.index(key)] == labels[ids.index(query)]
        for key in sorted(gallery, key=lambda key: -scores[key])
    ]
    precisions = [sum(right[: place + 1]) / (place + 1) for place, good in enumerate(right) if good]
    return 100 * sum(precisions) / len(precisions), right[0]


@pytest.mark.parametrize("sides", [False, True])
def test_the_report_equals_an_evaluation_by_hand(hard: Path, encoder: Encoder, sides: bool) -> None:
    data = hard
    if sides:
        rows = [
            f"{file.parent.name}/{file.name},{file.parent.name},{'test' if file.stem in '03' else 'train'}"
            for file in sorted(hard.glob("*/*.*"))
        ]
        data = hard / "catalog.csv"
        data.write_text("\n".join(["path,label,split", *rows]))
    report = evaluate_robustness(data, encoder, disturbances=TWO)
    catalog = read_catalog(data)
    ids, labels = list(catalog.ids), [str(label) for label in catalog.labels or ()]
    found = catalog.query_gallery()
    queries = ids if found is None else [ids[at] for at in found[0]]
    gallery = ids if found is None else [ids[at] for at in found[1]]
    assert list(report.queries) == queries
    assert len(queries) == (6 if sides else 12)
    pictures = {item.id: report.view.load(item) for item in catalog}
    clean = [encoder.encode(pictures[key])[0] for key in ids]
    levels = [(None, 0), (TWO[0], 1), (TWO[0], 2), (TWO[1], 1)]
    measured = [report.clean, *report.results[0].levels, *report.results[1].levels]
    for (disturbance, level), one in zip(levels, measured, strict=True):
        for at, key in enumerate(queries):
            picture = pictures[key]
            if disturbance is not None:
                picture = disturb(picture, disturbance, level, key)
            row = encoder.encode(picture)[0]
            ap, first = by_hand(np.stack([row, *clean]), labels, ids, gallery, key)
            assert one.aps[at] == pytest.approx(ap, abs=1e-6)
            assert one.first_right[at] == first
        assert one.mean == pytest.approx(np.mean(one.aps))
    assert report.clean.mean == pytest.approx(evaluate(data, encoder).report.mAP, abs=1e-6)
    assert report.clean.mean > report.mean
    rotation, noise = (result.mean for result in report.results)
    assert rotation == pytest.approx((measured[1].mean + measured[2].mean) / 2)
    assert report.mean == pytest.approx((rotation + noise) / 2)
    assert np.mean(report.aps) == pytest.approx(report.mean)


def test_a_sample_is_spread_evenly_and_counted(hard: Path, encoder: Encoder, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = evaluate_robustness(
        hard,
        encoder,
        queries=3,
        disturbances=TWO,
        out=tmp_path / "out",
        progress=lambda *counts: seen.append(counts),
    )
    assert [key.split("/")[0] for key in report.queries] == ["arch", "bridge", "church"]
    assert seen == [(done, 12 + 3 * 3) for done in range(12 + 3 * 3 + 1)]
    assert "3 of 12 queries, spread evenly" in report.text()
    whole = evaluate_robustness(hard, encoder, disturbances=TWO, out=tmp_path / "out")
    for at, key in enumerate(report.queries):
        assert report.aps[at] == whole.aps[whole.queries.index(key)]
    assert "all 12 queries" in whole.text()


def test_queries_without_a_right_image_are_left_out(hard: Path, encoder: Encoder) -> None:
    (hard / "alone").mkdir()
    make_photo(50).save(hard / "alone" / "0.jpg")
    (hard / "arch" / "0.jpg").write_bytes(b"no picture")
    report = evaluate_robustness(hard, encoder, disturbances=TWO)
    assert len(report.queries) == 11
    assert "alone/0.jpg" not in report.queries
    assert [one["id"] for one in report.to_json()["skipped"]] == ["arch/0.jpg"]


def test_pictures_are_disturbed_at_a_size_that_models_share(tmp_path: Path) -> None:
    make_photo(0, (1600, 800)).save(tmp_path / "large.png")
    make_photo(0, (90, 40)).save(tmp_path / "small.png")
    large, small = read_catalog(tmp_path)
    sizes = {}
    for side in (64, 512, 1400):
        view = robustness._view(load_model(long_side=side, scales=(1.0,)))
        assert view.load(small).size == (90, 40)
        sizes[side] = view.load(large).size
    assert sizes == {64: (1024, 512), 512: (1024, 512), 1400: (1400, 700)}


def test_text_json_and_files_say_the_same(hard: Path, encoder: Encoder, tmp_path: Path) -> None:
    report = evaluate_robustness(hard, encoder, disturbances=TWO)
    saved = report.to_json()
    lines = report.text().splitlines()
    assert lines[0].startswith(f"clean mAP {report.clean.mean:.1f}, disturbed {report.mean:.1f}")
    row = next(line for line in lines if line.startswith("rotation"))
    first, second = (level.mean for level in report.results[0].levels)
    assert row.split()[1:5] == ["45°", f"{first:.1f}", "180°", f"{second:.1f}"]
    rotation = saved["disturbances"][0]
    assert rotation["mAP"] == pytest.approx([first, second], abs=1e-4)
    changes = [first - report.clean.mean, second - report.clean.mean]
    assert rotation["change"] == pytest.approx(changes, abs=1e-4)
    assert row.split()[-1] == change_words(report.results[0].mean - report.clean.mean)
    assert row.split()[-1].startswith("-")
    assert saved["queries"][1]["rotation"] == pytest.approx(
        [level.aps[1] for level in report.results[0].levels], abs=1e-4
    )
    files = write_robustness(report, tmp_path / "out")
    assert [file.name for file in files] == ["robustness.json", "robustness.md", "robustness.html"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(f.name for f in files)
    assert json.loads(files[0].read_text("utf-8")) == saved
    text = files[1].read_text("utf-8")
    assert f"{first:.1f} ({first - report.clean.mean:+.1f})" in text
    page = files[2].read_text("utf-8")
    assert page.count('<svg class="plot"') == 2
    assert page.count("<img") == 2 + 3  # the query in either row, and every level
    assert "<script" not in page


def test_the_example_is_a_query_that_was_found(hard: Path, encoder: Encoder) -> None:
    report = evaluate_robustness(hard, encoder, disturbances=TWO)
    assert any(report.clean.first_right)
    assert report.clean.first_right[example_query(report)]


def test_levels_are_drawn_where_their_values_belong() -> None:
    svg = plots.levels_plot([("clean", 80.0), ("<1>", 50.0), ("2", 0.0)], "a & b")
    root = ElementTree.fromstring(svg)
    ticks = {t.text: float(t.get("y", "")) - 4 for t in root.iter("text") if t.get("text-anchor") == "end"}
    dots = list(root.iter("circle"))
    assert [dot.findtext("title") for dot in dots] == ["clean: 80.0 %", "<1>: 50.0 %", "2: 0.0 %"]
    assert float(dots[1].get("cy", "")) == pytest.approx(ticks["50"], abs=0.02)
    assert float(dots[2].get("cy", "")) == pytest.approx(ticks["0"], abs=0.02)
    words = {t.text: t.get("x") for t in root.iter("text") if t.get("text-anchor") == "middle"}
    assert words["<1>"] == dots[1].get("cx")
    assert "a & b" in words


def test_what_cannot_be_disturbed_is_refused(hard: Path, encoder: Encoder, tmp_path: Path) -> None:
    encode_catalog(read_catalog(hard), encoder, tmp_path / "encoded")
    with pytest.raises(UsageError, match="only pictures can be disturbed"):
        evaluate_robustness(tmp_path / "encoded", encoder)
    for options in ({"queries": 0}, {"disturbances": ()}):
        with pytest.raises(UsageError, match="nothing to disturb"):
            evaluate_robustness(hard, encoder, **options)
    (tmp_path / "flat").mkdir()
    make_photo(0).save(tmp_path / "flat" / "a.jpg")
    with pytest.raises(EvaluationError, match="no labels"):
        evaluate_robustness(tmp_path / "flat", encoder)


def test_a_query_that_vanishes_is_named(hard: Path, encoder: Encoder) -> None:
    def vanish(done: int, total: int) -> None:
        if done == 12:
            (hard / "bridge" / "1.jpg").unlink(missing_ok=True)

    with pytest.raises(PictureError, match=r"bridge/1\.jpg"):
        evaluate_robustness(hard, encoder, disturbances=TWO, progress=vanish)


def test_an_interrupted_run_keeps_what_was_encoded(hard: Path, encoder: Encoder, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate_robustness(hard, encoder, disturbances=TWO, out=out, progress=interrupt)
    again = evaluate_robustness(hard, encoder, disturbances=TWO, out=out)
    assert again == evaluate_robustness(hard, encoder, disturbances=TWO)
