from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cfcd.errors import EvaluationError
from cfcd.evaluation import ClassResult, FolderReport, QueryResult


def query(name: str, label: str, ap: float) -> QueryResult:
    return QueryResult(name, label, ap, 1, 2, (("hit.jpg", 0.5, True),))


def make_report() -> FolderReport:
    return FolderReport(
        protocol="leave-one-out",
        queries=3,
        gallery=1200,
        skipped_queries=1,
        mAP=50.0,
        mAP_at_R=40.123456789,
        r_precision=45.0,
        recall_at={1: 66.6666666, 5: 100.0, 10: 100.0},
        per_class=(ClassResult("bridge", 1, 90.0, 100.0), ClassResult("tower", 2, 30.0, 50.0)),
        per_query=(query("b1", "bridge", 90.0), query("t1", "tower", 30.0), query("t2", "tower", 30.0)),
    )


def test_json_holds_the_agreed_keys():
    value = json.loads(json.dumps(make_report().to_json()))
    assert value == {
        "mAP": 50.0,
        "mAP@R": 40.1235,
        "R-precision": 45.0,
        "R@1": 66.6667,
        "R@5": 100.0,
        "R@10": 100.0,
        "protocol": "leave-one-out",
        "ap_rule": "standard",
        "queries": 3,
        "gallery": 1200,
        "skipped_queries": 1,
        "classes": 2,
        "per_class": [
            {"label": "bridge", "queries": 1, "mAP": 90.0, "R@1": 100.0},
            {"label": "tower", "queries": 2, "mAP": 30.0, "R@1": 50.0},
        ],
    }


def test_summary_is_aligned_and_worst_first():
    assert make_report().summary() == (
        "mAP 50.0   mAP@R 40.1   R-precision 45.0   R@1 66.7   R@5 100.0   R@10 100.0   (percent)\n"
        "leave-one-out: 3 queries against 1,200 images; 1 query without label or right image left out\n"
        "\n"
        "class (worst first)  queries    mAP    R@1\n"
        "tower                      2   30.0   50.0\n"
        "bridge                     1   90.0  100.0"
    )


def test_summary_says_how_many_classes_it_hides():
    assert make_report().summary(max_classes=1).endswith("... and 1 better class")
    assert "class" not in make_report().summary(max_classes=0)


def test_summary_is_safe_on_a_terminal_and_aligns_wide_letters():
    classes = (ClassResult("\x1b[31mred\n", 1, 10.0, 0.0), ClassResult("大きな橋" + "x" * 60, 2, 70.0, 0.0))
    lines = replace(make_report(), per_class=classes).summary().splitlines()
    assert "\x1b" not in lines[4]
    assert lines[4].startswith("\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER} ")
    assert len(lines[3]) == len(lines[4]) == len(lines[5]) + 4  # four letters two cells wide


def test_worst_queries_come_worst_first_and_ties_in_order():
    report = make_report()
    assert [q.id for q in report.worst(5)] == ["t1", "t2", "b1"]
    assert [q.id for q in report.worst(1)] == ["t1"]


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "k-fold"},
        {"queries": 4},
        {"gallery": 0},
        {"skipped_queries": -1},
        {"mAP": 51.0},
        {"mAP_at_R": 101.0},
        {"mAP_at_R": float("nan")},
        {"r_precision": 40.0},
        {"r_precision": 101.0},
        {"recall_at": {1: 90.0, 5: 80.0, 10: 100.0}},
        {"recall_at": {1: 90.0, 5: 95.0}},
        {"per_class": ()},
        {"per_query": ()},
    ],
)
def test_contradictory_parts_are_refused(change):
    with pytest.raises(EvaluationError, match="A report must be such that"):
        replace(make_report(), **change)


def test_a_report_cannot_be_changed():
    with pytest.raises(AttributeError):
        make_report().mAP = 99.0
