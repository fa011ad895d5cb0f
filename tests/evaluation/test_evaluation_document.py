"""What an evaluation leaves in its folder, from real descriptors of made-up photos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import load_model
from cfcd.evaluation import Evaluation, evaluate
from cfcd.evaluation.comparison import compare
from cfcd.evaluation.comparison_document import comparison_document
from cfcd.evaluation.document import Facts, Figures, Grid, Table, Tiles
from cfcd.evaluation.evaluation_document import evaluation_document, recall_points, settings_words
from cfcd.evaluation.evaluation_json import report_json
from cfcd.evaluation.rows import rows_of_queries, write_evaluation
from cfcd.evaluation.saved import read_saved_report
from tests.support import make_photo


@pytest.fixture
def evaluation(photos: Path) -> Evaluation:
    """An evaluation in which one query of each label fails and one file cannot be read."""
    for number, label in enumerate(("arch", "bridge", "church")):
        make_photo(20 + number).save(photos / label / "3.jpg")
    (photos / "arch" / "broken.jpg").write_bytes(b"no picture")
    return evaluate(photos, load_model(precision="fp32"))


def test_all_files_of_a_report_are_written_and_listed(evaluation: Evaluation, tmp_path: Path):
    files = write_evaluation(evaluation, tmp_path / "out", worst=4)
    names = ["report.json", "report.md", "report.html", "worst.html", "worst.png"]
    assert [file.name for file in files] == names
    assert all(file.stat().st_size > 200 for file in files)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(names)
    page = files[2].read_text("utf-8")
    assert page.count('<section class="row"') == 4
    assert page.count("<img") == 4 * 9
    value = json.loads(files[0].read_text())
    assert value["mAP"] == round(evaluation.report.mAP, 4)
    assert value["settings"] == {"long_side": 320, "scales": [1.0], "dim": 1280, "precision": "fp32"}
    assert len(value["per_query"]) == value["queries"] == 12
    text = files[1].read_text("utf-8")
    assert f"| mAP         |  {evaluation.report.mAP:.1f} |" in text
    assert "arch/broken.jpg" in text


def test_a_report_says_how_it_was_measured(evaluation: Evaluation):
    rows = rows_of_queries(evaluation, evaluation.report.worst(3))
    document = evaluation_document(evaluation, rows, report_json(evaluation)["intervals"])
    parts = [part for section in document.sections for part in section.parts]
    (facts,) = (part for part in parts if isinstance(part, Facts))
    known = dict(facts.rows)
    assert known["model"] == evaluation.model
    assert known["protocol"] == "leave-one-out: each query searches all other images"
    assert known["size"] == "long side at most 320 pixels"
    assert known["scales"] == "1"
    assert known["cropping"] == "none, whole pictures"
    assert known["descriptor"] == "1,280 numbers, 5,120 bytes in float32"
    assert known["average precision"].endswith("(rule standard)")
    assert known["pictures left out"] == "1"
    (tiles,) = (part for part in parts if isinstance(part, Tiles))
    assert [tile.name for tile in tiles.tiles] == ["mAP", "R@1", "R@5", "R@10", "mAP@R", "R-precision"]
    first = tiles.tiles[0]
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.value < first.high
    (figures,) = (part for part in parts if isinstance(part, Figures))
    assert len(figures.figures) == 3
    (grid,) = (part for part in parts if isinstance(part, Grid))
    assert grid.rows == tuple(rows)


def test_boxes_are_stated(evaluation: Evaluation):
    boxes = [(0.0, 0.0, 5.0, 5.0), *[None] * (len(evaluation.catalog) - 1)]
    boxed = replace(evaluation, catalog=replace(evaluation.catalog, boxes=boxes))
    document = evaluation_document(boxed, [], report_json(boxed)["intervals"])
    (facts,) = (p for s in document.sections for p in s.parts if isinstance(p, Facts))
    assert dict(facts.rows)["cropping"] == "to its box: 1 of 12 pictures"
    assert not [p for s in document.sections for p in s.parts if isinstance(p, Grid)]


def test_long_lists_are_cut_and_that_is_said(evaluation: Evaluation, photos: Path):
    item = read_catalog(photos)[0]
    many = replace(evaluation, skipped=tuple((item, "broken") for _ in range(70)))
    document = evaluation_document(many, [], report_json(many)["intervals"])
    table = document.sections[-1].parts[0]
    assert isinstance(table, Table)
    assert (len(table.rows), table.note) == (50, "20 more are in report.json.")


def test_a_written_report_can_be_compared_with_itself(evaluation: Evaluation, tmp_path: Path):
    write_evaluation(evaluation, tmp_path / "out", worst=2)
    report = read_saved_report(tmp_path / "out")
    comparison = compare(report, report)
    (protocol,) = comparison.protocols
    assert protocol.measures[0].a.mean == pytest.approx(evaluation.report.mAP, abs=1e-5)
    assert [m.a.mean for m in protocol.measures[1:]] == pytest.approx(
        [evaluation.report.recall_at[k] for k in (1, 5, 10)]
    )
    figures = [p for s in comparison_document(comparison).sections for p in s.parts if isinstance(p, Figures)]
    assert len(figures[0].figures) == 3
    assert report.pictures is not None
    for query in report.queries:
        for key in (query.id, *(hit[0] for hit in query.top)):
            file = report.pictures.file(key)
            assert file is not None
            assert file.is_file()


def test_points_of_recall():
    assert recall_points([1, 3, None, 3], 4) == ((1.0, 25.0), (2.0, 25.0), (3.0, 75.0), (4.0, 75.0))
    deep = recall_points([500, None], 1000)
    assert len(deep) <= 201
    assert (deep[0], deep[-1]) == ((1.0, 0.0), (1000.0, 50.0))
    assert [share for k, share in deep if k == 490] == [0.0]
    assert [share for k, share in deep if k == 500] == [50.0]


def test_settings_in_words():
    assert settings_words({}) == {}
    assert settings_words({"long_side": None, "scales": [0.70710678, 1.0]}) == {
        "size": "as it is",
        "scales": "0.7071, 1",
    }
