"""What an evaluation on a miniature of Revisited Oxford leaves in its folder."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cfcd.encoding import load_model
from cfcd.evaluation.document import Bar, Document, Facts, Figures, Grid, Table, Text, Tiles
from cfcd.evaluation.revisited_document import revisited_document, write_revisited
from cfcd.evaluation.revisited_evaluation import RevisitedEvaluation
from cfcd.evaluation.revisited_run import evaluate_files, evaluate_images
from tests.evaluation.revisited_miniature import make_distractors, make_miniature


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> RevisitedEvaluation:
    """An evaluation from images, with distractors whose names are not known."""
    folder = tmp_path_factory.mktemp("revisited")
    make_miniature(folder / "roxford5k")
    make_distractors(folder / "more", 3)
    encoder = load_model(precision="fp32", long_side=96)
    return evaluate_images(
        "roxford5k",
        folder / "roxford5k",
        encoder,
        crop=False,
        distractors=folder / "more",
        out=folder / "out",
    )


def parts_of(document: Document, kind: type) -> list:
    return [part for section in document.sections for part in section.parts if isinstance(part, kind)]


def test_the_files_say_what_was_found(evaluation: RevisitedEvaluation, tmp_path: Path) -> None:
    files = write_revisited(evaluation, tmp_path / "report", worst=2)
    assert [file.name for file in files] == ["report.json", "report.md", "report.html"]
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(evaluation.to_json()))
    page = files[2].read_text("utf-8")
    assert page.count('<section class="row"') == 2
    # A distractor has no picture: of 2 queries with 8 hits each those that are known are shown.
    hits = [hit for query in worst(evaluation)[:2] for hit in query.top[:8]]
    known = sum(not name.startswith("distractor ") for name, _, _ in hits)
    assert 0 < known < 16
    assert page.count("<img") == 2 + known
    assert f"{evaluation.report['hard'].mAP:.2f}" in files[1].read_text("utf-8")


def worst(evaluation: RevisitedEvaluation) -> list:
    return sorted(evaluation.report.per_query, key=lambda query: query.ap["medium"])


def test_every_protocol_has_its_figures(evaluation: RevisitedEvaluation) -> None:
    document = revisited_document(evaluation, 3)
    (tiles,) = parts_of(document, Tiles)
    assert [tile.name for tile in tiles.tiles] == ["mAP, easy", "mAP, medium", "mAP, hard"]
    for tile, result in zip(tiles.tiles, evaluation.report.protocols, strict=True):
        assert tile.low <= tile.value == result.mAP <= tile.high
    curves, bars = parts_of(document, Figures)
    titles = ["Easy", "Medium", "Hard"]
    assert [figure.title for figure in curves.figures] == titles == [figure.title for figure in bars.figures]
    protocols, queries = parts_of(document, Table)
    # query3 has no easy image.
    assert [row[-2:] for row in protocols.rows] == [("3", "1"), ("4", "0"), ("4", "0")]
    assert [row[0] for row in queries.rows] == [query.id for query in worst(evaluation)]
    (row,) = (row for row in queries.rows if row[0] == "query3")
    assert row[1] == ""
    assert isinstance(row[2], Bar)
    (grid,) = parts_of(document, Grid)
    assert [row.query.caption for row in grid.rows] == [query.id for query in worst(evaluation)[:3]]


def test_curves_are_means_over_the_ranks(evaluation: RevisitedEvaluation) -> None:
    curves = parts_of(revisited_document(evaluation, 0), Figures)[0]
    for figure, result in zip(curves.figures, evaluation.report.protocols, strict=True):
        slow = []
        for query in evaluation.report.per_query:
            places = query.ranks[result.protocol]
            if places:
                precisions = [(n + 1) / (place + 1) for n, place in enumerate(places)]
                slow.append(
                    [max(precisions[max(0, -(-r * len(places) // 100) - 1) :]) for r in range(0, 101, 10)]
                )
        shown = [row[1] for row in figure.data.rows]
        assert shown == [f"{value:.1f}" for value in 100 * np.mean(slow, axis=0)]


def test_conditions_and_warnings_are_stated(evaluation: RevisitedEvaluation) -> None:
    document = revisited_document(evaluation, 0)
    (facts,) = parts_of(document, Facts)
    assert dict(facts.rows)["queries"] == "not cropped"
    (text,) = parts_of(document, Text)
    assert [f"Mind: {warning}." for warning in evaluation.warnings] == list(text.paragraphs[:-1])
    assert "too narrow" in text.paragraphs[-1]
    assert parts_of(document, Grid) == []


def test_descriptors_alone_make_a_report_without_pictures(tmp_path: Path) -> None:
    make_miniature(tmp_path / "data")
    rng = np.random.default_rng(0)
    for name, rows in (("q", 4), ("x", 12)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((rows, 6)).astype(np.float32))
    truth = tmp_path / "data" / "gnd_roxford5k.pkl"
    found = evaluate_files(tmp_path / "q.npy", tmp_path / "x.npy", truth, normalise=True)
    document = revisited_document(found, 5)
    assert parts_of(document, Grid) == []
    assert "not known" in document.subtitle
    assert len(write_revisited(found, tmp_path / "out", 5)) == 3


def test_a_protocol_without_queries_shows_nothing(evaluation: RevisitedEvaluation) -> None:
    queries = [query for query in evaluation.report.per_query if query.ap["easy"] is None]
    nothing = replace(evaluation.report["easy"], mAP=math.nan, queries=0, without_positives=("query3",))
    report = replace(evaluation.report, protocols=(nothing,), per_query=tuple(queries))
    document = revisited_document(replace(evaluation, report=report), 5)
    assert parts_of(document, Tiles)[0].tiles == ()
    assert parts_of(document, Table)[0].rows == (("easy", "", "", "", "", "0", "1"),)
    assert parts_of(document, Grid) == []
