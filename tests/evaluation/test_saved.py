"""Reports on disk: what is written can be read again, and what is no report is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cfcd.catalog import Item
from cfcd.catalog.table import Catalog
from cfcd.errors import EvaluationError
from cfcd.evaluation import ClassResult, Evaluation, FolderReport, QueryResult
from cfcd.evaluation.evaluation_json import report_json, write_report_json
from cfcd.evaluation.saved import Pictures, read_saved_report


def make_evaluation(root: Path, **changes: Any) -> Evaluation:
    queries = (
        QueryResult("a/1.jpg", "a", 100.0, 1, 1, (("a/2.jpg", 0.9, True), ("b/1.jpg", 0.1, False))),
        QueryResult("a/2.jpg", "a", 50.0, 2, 1, (("b/1.jpg", 0.8, False), ("a/1.jpg", 0.7, True))),
        QueryResult("b/1.jpg", "b", 25.0, None, 2, ()),
    )
    report = FolderReport(
        protocol="leave-one-out",
        queries=3,
        gallery=3,
        skipped_queries=0,
        mAP=175 / 3,
        mAP_at_R=40.0,
        r_precision=50.0,
        recall_at={1: 100 / 3, 5: 200 / 3, 10: 200 / 3},
        per_class=(ClassResult("a", 2, 75.0, 50.0), ClassResult("b", 1, 25.0, 0.0)),
        per_query=queries,
        precision_at=tuple(100.0 - i for i in range(101)),
    )
    items = [Item(id=key, path=root / key, label=key[0]) for key in ("a/1.jpg", "a/2.jpg", "b/1.jpg")]
    catalog = Catalog.from_items(items, source=root, root=root, kind="folder")
    return replace(Evaluation(report, catalog, "model@1", ()), **changes)


def saved_at(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value) if not isinstance(value, str) else value)
    return path


def test_what_is_written_is_read(tmp_path: Path):
    write_report_json(tmp_path / "report.json", report_json(make_evaluation(tmp_path / "photos")))
    report = read_saved_report(tmp_path)
    assert report == read_saved_report(tmp_path / "report.json")
    assert (report.model, report.names) == ("model@1", ("",))
    assert report.facts["mAP"] == 58.3333
    assert report.facts["precision_at_recall"][:2] == [100.0, 99.0]
    assert "per_query" not in report.facts
    first, _, last = report.queries
    assert (first.id, first.label, first.ap, first.rank_of_first) == ("a/1.jpg", "a", {"": 100.0}, {"": 1})
    assert (first.positives, first.top[1]) == ({"": 1}, ("b/1.jpg", 0.1, False))
    assert (last.rank_of_first, last.top) == ({"": None}, ())
    assert report.pictures is not None
    assert report.pictures.file("b/1.jpg") == tmp_path / "photos" / "b" / "1.jpg"


def test_a_report_is_one_line_per_query_and_says_how_sure_it_is(tmp_path: Path):
    value = report_json(make_evaluation(tmp_path))
    low, high = value["intervals"]["mAP"]
    assert 25 <= low < 58.3333 < high <= 100
    assert set(value["intervals"]) == {"level", "resamples", "mAP", "R@1", "R@5", "R@10"}
    write_report_json(tmp_path / "r.json", value)
    lines = (tmp_path / "r.json").read_text().splitlines()
    assert sum('"rank_of_first"' in line for line in lines) == 3
    assert json.loads("\n".join(lines)) == json.loads(json.dumps(value))
    with pytest.raises(ValueError, match="JSON"):
        write_report_json(tmp_path / "r.json", {"mAP": float("nan")})
    assert json.loads((tmp_path / "r.json").read_text())["mAP"] == 58.3333


def test_only_paths_that_differ_from_ids_and_boxes_are_listed(tmp_path: Path):
    rows = [
        Item(id="one", path=tmp_path / "data" / "x.jpg", label="a", box=(1.0, 2.0, 3.0, 4.0)),
        Item(id="elsewhere", path=tmp_path / "other" / "y.jpg", label="a"),
        Item(id="unused", path=Path("/far/away.jpg"), label="a"),
    ]
    catalog = Catalog.from_items(rows, source=tmp_path, root=tmp_path / "data", kind="table")
    queries = (QueryResult("one", "a", 50.0, 2, 1, (("elsewhere", 0.5, False),)),)
    base = make_evaluation(tmp_path)
    report = replace(
        base.report, per_query=queries, queries=1, mAP=50.0, per_class=(ClassResult("a", 1, 50.0, 0.0),)
    )
    value = report_json(replace(base, report=report, catalog=catalog))
    assert value["pictures"] == {
        "root": str(tmp_path),
        "paths": {"one": "data/x.jpg", "elsewhere": "other/y.jpg"},
        "boxes": {"one": [1.0, 2.0, 3.0, 4.0]},
    }
    assert make_evaluation(tmp_path).report.per_query[0].top
    assert report_json(make_evaluation(tmp_path))["pictures"]["paths"] == {}


def test_the_digest_follows_the_data_and_not_their_order(tmp_path: Path):
    evaluation = make_evaluation(tmp_path)
    digest = report_json(evaluation)["data"]["digest"]
    turned = evaluation.catalog.select([2, 0, 1])
    moved = replace(evaluation.catalog, root=tmp_path / "elsewhere", source=tmp_path / "x")
    other = replace(evaluation.catalog, labels=["a", "a", "a"])
    assert report_json(replace(evaluation, catalog=turned))["data"]["digest"] == digest
    assert report_json(replace(evaluation, catalog=moved))["data"]["digest"] == digest
    assert report_json(replace(evaluation, catalog=other))["data"]["digest"] != digest


def test_pictures_never_leave_their_root(tmp_path: Path):
    pictures = Pictures(tmp_path / "photos", {"a": "../secret.jpg", "b": "/etc/passwd", "c": "x/../y.jpg"})
    assert pictures.file("a") is None
    assert pictures.file("b") is None
    assert pictures.file("../../up.jpg") is None
    assert pictures.file("c") == tmp_path / "photos" / "y.jpg"
    assert pictures.file("sub/z.jpg") == tmp_path / "photos" / "sub" / "z.jpg"


def test_several_average_precisions_and_ranks(tmp_path: Path):
    rows = [
        {
            "id": "q1",
            "AP": {"easy": 90.0, "hard": None},
            "precision": {"easy": {"P@1": 100.0}, "hard": None},
            "ranks": {"easy": [2, 5], "hard": None},
        },
        {
            "id": "q2",
            "AP": {"easy": 10.0, "hard": 5},
            "precision": {"easy": {"P@1": 0.0}, "hard": {"P@1": 0}},
            "ranks": {"easy": [0], "hard": []},
        },
    ]
    report = read_saved_report(saved_at(tmp_path / "r.json", {"per_query": rows}))
    assert report.names == ("easy", "hard")
    first, second = report.queries
    assert (first.ap, first.rank_of_first, first.positives) == ({"easy": 90.0}, {"easy": 3}, {"easy": 2})
    assert second.rank_of_first == {"easy": 1, "hard": None}
    assert second.precision == {"easy": {"P@1": 0.0}, "hard": {"P@1": 0}}
    assert first.ranks == {"easy": (2, 5)}
    assert report.model == "unnamed"
    assert report.pictures is None


def test_measures_of_the_only_protocol_stand_straight(tmp_path: Path):
    value = {"per_query": [{"id": "q", "ap": 5, "precision": {"P@1": 50}}]}
    assert read_saved_report(saved_at(tmp_path / "r.json", value)).queries[0].precision == {"": {"P@1": 50}}


def row(**changes: Any) -> dict[str, Any]:
    return {"per_query": [{"id": "q", "ap": 50.0, **changes}]}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ([], "has no list per_query"),
        ({"per_query": {}}, "has no list per_query"),
        ({"per_query": []}, "has no list per_query"),
        ({"per_query": [3]}, "has no id in per_query, entry 1"),
        ({"per_query": [{"id": "a", "ap": 1}, {"id": 2}]}, "has no id in per_query, entry 2"),
        ({"per_query": [{"id": "a"}]}, "has no ap"),
        ({"per_query": [{"id": "a", "ap": None}]}, "has no average precision"),
        ({"per_query": [{"id": "a", "ap": 1}, {"id": "a", "ap": 1}]}, "names the query 'a' twice"),
        (row(ap="high"), "no percentage"),
        (row(ap=101), "no percentage"),
        (row(ap=-1), "no percentage"),
        (row(ap=True), "no percentage"),
        ('{"per_query": [{"id": "a", "ap": NaN}]}', "no percentage"),
        ('{"per_query": [{"id": "a", "ap": 1e999}]}', "no percentage"),
        (row(ap={"easy": []}), "no percentage"),
        (row(precision={"easy": 5, "hard": []}), "no percentage"),
        (row(precision={"easy": {"P@1": "x"}}), "no percentage"),
        (row(rank_of_first=0), "cannot be"),
        (row(rank_of_first=1.5), "cannot be"),
        (row(positives=-1), "cannot be"),
        (row(ranks=[3, 3]), "cannot be"),
        (row(ranks=[-1]), "cannot be"),
        (row(top=[["x", 1.0]]), "has a hit"),
        (row(top="abc"), "has a hit"),
        (row(top=[["x", "y", True]]), "has a hit"),
        (row(top=[["x", 1.0, "yes"]]), "has a hit"),
        ({**row(), "pictures": 3}, "where its pictures are"),
        ({**row(), "pictures": {"root": "/", "paths": {"a": 1}}}, "where its pictures are"),
        ({**row(), "pictures": {"root": "/", "boxes": {"a": [1, 2, 3]}}}, "where its pictures are"),
        ({**row(), "pictures": {"paths": {}}}, "where its pictures are"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, value: Any, why: str):
    with pytest.raises(EvaluationError) as caught:
        read_saved_report(saved_at(tmp_path / "r.json", value))
    assert why in caught.value.what
    assert "r.json" in caught.value.what


def test_a_report_of_robustness_is_named(tmp_path: Path):
    (tmp_path / "robustness.json").write_text("{}")
    with pytest.raises(EvaluationError, match="--robustness"):
        read_saved_report(tmp_path)


def test_a_missing_report_is_named(tmp_path: Path):
    with pytest.raises(EvaluationError, match="There is no report") as caught:
        read_saved_report(tmp_path)
    assert "cfcd evaluate --out" in caught.value.mend


def test_no_picture_or_binary_is_read_as_a_report(tmp_path: Path):
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EvaluationError, match="is no JSON"):
        read_saved_report(tmp_path / "r.json")


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cfcd.evaluation.saved._MOST_BYTES", 10)
    with pytest.raises(EvaluationError, match="over 10 bytes"):
        read_saved_report(saved_at(tmp_path / "r.json", row()))
