"""Comparisons of two runs: only of the same data, every difference B - A, and the pictures found again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.errors import EvaluationError
from cfcd.evaluation.comparison import compare, p_words
from cfcd.evaluation.comparison_document import comparison_document, comparison_text, write_comparison
from cfcd.evaluation.document import Figures, Grid, Table, Text
from cfcd.evaluation.intervals import bootstrap_mean, paired_difference
from cfcd.evaluation.saved import Pictures, SavedQuery, SavedReport
from tests.support import make_photo

NASTY = "<script>alert(1)</script>|"


def query(key: str, ap: float | Mapping[str, float], rank: int | None = 1, **more: Any) -> SavedQuery:
    aps = ap if isinstance(ap, Mapping) else {"": ap}
    plain: dict[str, Any] = {
        "label": key[0],
        "precision": {},
        "rank_of_first": dict.fromkeys(aps, rank),
        "positives": dict.fromkeys(aps, 2),
        "ranks": {},
        "top": (),
    }
    return SavedQuery(key, ap=aps, **plain | more)


def saved(queries: Sequence[SavedQuery], name: str = "a", **facts: Any) -> SavedReport:
    names = tuple(dict.fromkeys(n for q in queries for n in q.ap))
    known = {"model": f"model-{name}", "protocol": "leave-one-out", "ap_rule": "standard", "gallery": 9}
    return SavedReport(Path(name) / "report.json", known | facts, names, tuple(queries), None)


A = [
    query("a1", 50.0, 2),
    query("a2", 60.0),
    query("b1", 90.0),
    query("b2", 30.0, 7),
    query("b3", 20.0, None),
]
B = [query("a1", 70.0, 1), query("a2", 50.0), query("b1", 90.0), query("b2", 80.0, 1), query("b3", 25.0, 12)]


def test_every_difference_is_b_minus_a():
    (protocol,) = compare(saved(A), saved(B, "b")).protocols
    mean, at_1, at_5, at_10 = protocol.measures
    assert [m.name for m in protocol.measures] == ["mAP", "R@1", "R@5", "R@10"]
    assert (mean.a.mean, mean.b.mean, mean.queries) == (50.0, 63.0, 5)
    assert mean.difference == paired_difference([50, 60, 90, 30, 20], [70, 50, 90, 80, 25])
    assert mean.a == bootstrap_mean([50, 60, 90, 30, 20])
    assert (mean.difference.wins, mean.difference.losses, mean.difference.ties) == (3, 1, 1)
    assert [(m.a.mean, m.b.mean) for m in (at_1, at_5, at_10)] == [(40, 80), (60, 80), (80, 80)]
    assert protocol.pairs[0] == ("a1", 50.0, 70.0)


def test_classes_and_changed_queries_are_in_order():
    (protocol,) = compare(saved(A), saved(B, "b")).protocols
    assert [(c.label, c.queries, c.a, c.b) for c in protocol.classes] == [
        ("b", 3, pytest.approx(140 / 3), 65.0),
        ("a", 2, 55.0, 60.0),
    ]
    assert [key for key, _, _ in protocol.changed(2, better=True)] == ["b2", "a1"]
    assert [key for key, _, _ in protocol.changed(9, better=False)] == ["a2"]
    assert protocol.changed(0, better=True) == []


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=20))
def test_swapping_the_reports_mirrors_everything(rows: list[tuple[int, int]]):
    a = saved([query(f"q{i}", float(r[0])) for i, r in enumerate(rows)])
    b = saved([query(f"q{i}", float(r[1])) for i, r in enumerate(rows)], "b")
    (there,), (back,) = compare(a, b).protocols, compare(b, a).protocols
    first, second = there.measures[0].difference, back.measures[0].difference
    assert (first.mean, first.p, first.wins) == (pytest.approx(-second.mean), second.p, second.losses)
    assert first.low == pytest.approx(-second.high, abs=1e-9)
    gained, lost = there.changed(99, better=True), back.changed(99, better=False)
    assert [(key, b, a) for key, a, b in gained] == lost
    assert len(gained) + len(there.changed(99, better=False)) + first.ties == len(rows)


def test_other_queries_are_named_and_compared_on_the_common_ones_when_asked():
    with pytest.raises(EvaluationError) as caught:
        compare(saved(A), saved([*B[1:], query("c9", 1.0)], "b"))
    assert "Only in A: 1 query, 'a1'." in caught.value.what
    assert "Only in B: 1 query, 'c9'." in caught.value.what
    assert "--common" in caught.value.mend
    comparison = compare(saved(A), saved([*B[1:], query("c9", 1.0)], "b"), common=True)
    assert [key for key, _, _ in comparison.protocols[0].pairs] == ["a2", "b1", "b2", "b3"]
    assert len(comparison.notes) == 2
    with pytest.raises(EvaluationError, match="no query in common"):
        compare(saved(A), saved([query("c9", 1.0)], "b"), common=True)


def test_the_order_of_the_queries_does_not_matter():
    straight, turned = compare(saved(A), saved(B, "b")), compare(saved(A), saved(B[::-1], "b"))
    assert straight.protocols == turned.protocols


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: saved([replace(B[0], label="x"), *B[1:]]), "With another label: 1 query, 'a1'."),
        (
            lambda b: saved([replace(B[0], positives={"": 3}), *B[1:]]),
            "With another number of right images: 1 query, 'a1'.",
        ),
        (lambda b: saved(B, gallery=10), "Size of the gallery: 9 in A, 10 in B"),
        (lambda b: saved(B, distractors=5), "Size of the distractors: None in A, 5 in B"),
    ],
)
def test_other_data_are_noticed(change: Any, why: str):
    with pytest.raises(EvaluationError, match="not of the same data") as caught:
        compare(saved(A), change(B))
    assert why in caught.value.what
    assert why in " ".join(compare(saved(A), change(B), common=True).notes)


def test_another_ground_truth_is_noticed():
    a, b = (saved(rows, ground_truth={"digest": digest}) for rows, digest in ((A, "1"), (B, "2")))
    with pytest.raises(EvaluationError, match="The answers differ"):
        compare(a, b)


def test_unknown_cropping_is_mentioned():
    known, unknown = saved(A, cropped=True), saved(B, cropped=None)
    assert compare(known, known).notes == compare(unknown, unknown).notes == ()
    (note,) = compare(known, unknown).notes
    assert "cropped is known of one report only" in note


def test_another_gallery_of_the_same_size_is_noticed():
    a, b = (saved(queries, data={"digest": digest}) for queries, digest in ((A, "1"), (B, "2")))
    with pytest.raises(EvaluationError, match="galleries hold other images or labels"):
        compare(a, b)
    assert compare(a, saved(B, data={"digest": "1"})).notes == ()
    assert compare(a, saved(B)).notes == ()


@pytest.mark.parametrize("fact", ["protocol", "ap_rule"])
def test_other_measures_are_refused_whatever_is_asked(fact: str):
    with pytest.raises(EvaluationError, match=f"{fact} .* B with 'other'"):
        compare(saved(A), saved(B, **{fact: "other"}), common=True)


def test_one_table_per_protocol():
    a = [query("q1", {"easy": 90.0, "hard": 10.0}), query("q2", {"hard": 30.0})]
    b = [query("q1", {"easy": 80.0, "hard": 20.0}), query("q2", {"hard": 50.0})]
    easy, hard = compare(saved(a), saved(b, "b")).protocols
    assert (easy.name, easy.measures[0].name, easy.measures[0].queries) == ("easy", "mAP easy", 1)
    assert (hard.measures[0].name, hard.measures[0].difference.mean) == ("mAP hard", 15.0)
    with pytest.raises(EvaluationError, match="B has ''"):
        compare(saved(a), saved(B))


def test_further_measures_take_the_place_of_recall():
    def with_precision(value: float) -> SavedQuery:
        return query("q1", 50.0, precision={"": {"P@10": value, "P@5": value / 2}})

    (protocol,) = compare(saved([with_precision(40)]), saved([with_precision(60)], "b")).protocols
    assert [(m.name, m.difference.mean) for m in protocol.measures] == [
        ("mAP", 0.0),
        ("mP@5", 10.0),
        ("mP@10", 20.0),
    ]


def test_reports_without_ranks_or_labels_have_their_mean_only():
    bare = [query("q", 50.0, label=None, rank_of_first={}, positives={})]
    (protocol,) = compare(saved(bare), saved(bare, "b")).protocols
    assert ([m.name for m in protocol.measures], protocol.classes) == (["mAP"], ())


def test_a_verdict_says_what_may_be_chance():
    comparison = compare(saved(A), saved(B, "b"))
    assert comparison.verdict(comparison.protocols[0]).startswith(
        "mAP changes by +13.0 from A to B, which may be chance"
    )
    a = [query(f"q{i}", 50.0) for i in range(40)]
    b = [query(f"q{i}", 60.0 + i / 13) for i in range(40)]
    better, worse = compare(saved(a), saved(b)), compare(saved(b), saved(a))
    assert better.verdict(better.protocols[0]) == (
        "B is better: mAP changes by +11.5 (95 % interval +11.2 to +11.8, p < 0.001, 40 queries)."
    )
    assert worse.verdict(worse.protocols[0]).startswith("A is better: mAP changes by -11.5 ")
    same = compare(saved(A), saved(A))
    assert same.verdict(same.protocols[0]).startswith("A and B have the same average precision on each of 5")
    assert (p_words(0.0001), p_words(0.0314)) == ("< 0.001", "= 0.031")


def test_plain_data_hold_everything_and_no_nan():
    value = compare(saved(A), saved(B, "b")).to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    (protocol,) = value["protocols"]
    assert value["a"] == {"report": str(Path("a/report.json")), "model": "model-a"}
    assert protocol["measures"][0]["difference"]["mean"] == 13.0
    assert protocol["classes"][0]["change"] == 18.3333
    assert protocol["queries"][0] == ["a1", 50.0, 70.0]


def test_text_is_aligned():
    lines = comparison_text(compare(saved(A), saved(B, "b"))).splitlines()
    assert lines[0] == f"A  model-a  ({Path('a/report.json')})"
    assert lines[3].split()[:4] == ["measure,", "%", "A", "B"]
    assert len({len(line) for line in lines[3:8]}) == 1
    assert lines[4].endswith("3 / 1 / 1")


def test_the_document_shows_curves_over_the_same_queries_only():
    curve = [100.0 - r for r in range(101)]

    def titles(b: SavedReport, **options: Any) -> list[str]:
        document = comparison_document(compare(saved(A, precision_at_recall=curve), b, **options))
        figures = [p for s in document.sections for p in s.parts if isinstance(p, Figures)]
        return [figure.title for part in figures for figure in part.figures]

    every = ["Average precision of every query", "Precision over recall", "Recall at k"]
    assert titles(saved(B, precision_at_recall=curve)) == every
    assert titles(saved(B, precision_at_recall=curve[1:])) == [every[0], every[2]]
    assert titles(saved(B, precision_at_recall=["x"] * 101)) == [every[0], every[2]]
    assert titles(saved(B[1:], precision_at_recall=curve), common=True) == [every[0], every[2]]


def test_curves_come_from_ranks_where_there_are_ranks():
    a = [query("q", {"easy": 1.0}, ranks={"easy": (0, 1)})]
    b = [query("q", {"easy": 2.0}, ranks={"easy": (0, 3)})]
    document = comparison_document(compare(saved(a), saved(b)))
    (figures,) = (p for s in document.sections for p in s.parts if isinstance(p, Figures))
    data = next(f.data for f in figures.figures if f.title == "Precision over recall")
    assert data.columns == ("recall, %", "A", "B")
    assert data.rows[5] == ("50", "100.0", "100.0")
    assert data.rows[10] == ("100", "100.0", "50.0")


def test_strange_settings_are_left_out_and_not_trusted():
    odd = {"long_side": "x" * 3, "scales": 7, "dim": None}
    document = comparison_document(compare(saved(A, settings=odd), saved(B, settings=[])))
    tables = [
        p for s in document.sections if s.title == "The two runs" for p in s.parts if isinstance(p, Table)
    ]
    assert "scales" not in [row[0] for row in tables[0].rows]
    good = {"long_side": 320, "scales": [1.0, 0.7071], "dim": 512}
    document = comparison_document(compare(saved(A, settings=good), saved(B)))
    tables = [
        p for s in document.sections if s.title == "The two runs" for p in s.parts if isinstance(p, Table)
    ]
    assert ("scales", "1, 0.7071", "") in tables[0].rows


def test_settings_that_differ_are_said():
    def run(name: str, **made: Any) -> SavedReport:
        known = {"long_side": 320, "scales": [1.0], "dim": 512, "precision": "fp32"}
        return saved(A, name, model="m", data={"source": "photos"}, settings=known | made)

    comparison = compare(run("a"), run("b", long_side=64, precision="auto"))
    differing = {
        "size": ["long side at most 320 pixels", "long side at most 64 pixels"],
        "precision": ["fp32", "auto: bf16 where the device has it"],
    }
    assert comparison.to_json()["differing"] == differing
    text = comparison_text(comparison)
    for name, (a, b) in differing.items():
        assert f"\n  {name}: A {a}; B {b}" in text
    runs = next(s for s in comparison_document(comparison).sections if s.title == "The two runs")
    assert runs.parts[0] == Text(("They differ in: size, precision.",))
    same = compare(run("a"), run("b"))
    assert same.to_json()["differing"] == {}
    assert "differ in nothing" in comparison_text(same)


def test_few_queries_are_warned_of():
    text = [
        p
        for s in comparison_document(compare(saved(A), saved(B))).sections
        for p in s.parts
        if isinstance(p, Text)
    ]
    assert "fewer than 20" in " ".join(line for part in text for line in part.paragraphs)


def with_hits(report: SavedReport, pictures: Pictures | None) -> SavedReport:
    top = (("a1", 0.9, True), ("gone", 0.8, False), ("../outside", 0.7, None))
    return replace(report, queries=tuple(replace(q, top=top) for q in report.queries), pictures=pictures)


def test_pictures_are_found_again_and_missing_ones_are_grey(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    make_photo(1).save(tmp_path / "photos" / "a1.jpg")
    make_photo(2).save(tmp_path / "outside.jpg")
    pictures = Pictures(tmp_path / "photos", {"a1": "a1.jpg", "../outside": "../outside.jpg"})
    comparison = compare(with_hits(saved(A), pictures), with_hits(saved(B, "b"), pictures))
    document = comparison_document(comparison)
    grids = {s.title: s.parts[0] for s in document.sections if isinstance(s.parts[0], Grid)}
    assert list(grids) == ["Gained most from A to B", "Lost most from A to B"]
    rows = grids["Gained most from A to B"].rows
    assert [(row.query.caption, row.note) for row in rows[:2]] == [("b2", "A: AP 30.0"), ("b2", "B: AP 80.0")]
    first, gone, outside = rows[0].hits
    assert (first.picture, first.caption) == (tmp_path / "photos" / "a1.jpg", "a")
    assert (gone.caption, gone.correct) == ("gone", False)
    assert outside.picture is None
    files = write_comparison(comparison, tmp_path / "out", changed=1)
    assert [file.name for file in files] == ["comparison.json", "comparison.md", "comparison.html"]
    page = files[2].read_text("utf-8")
    # Two queries, twice each: one hit is there, the query itself, "gone" and "outside" are not.
    assert page.count("<img") == 4 * 1
    assert page.count('class="reason"') == 4 * 3


def test_moved_pictures_are_found_below_another_root(tmp_path: Path):
    make_photo(1).save(tmp_path / "a1.jpg")
    somewhere = Pictures(tmp_path / "former", {"a1": "a1.jpg"})
    comparison = compare(with_hits(saved(A), somewhere), with_hits(saved(B, "b"), None))
    document = comparison_document(comparison, changed=1, root=tmp_path)
    grid = next(s.parts[0] for s in document.sections if isinstance(s.parts[0], Grid))
    assert [row.hits[0].picture for row in grid.rows] == [tmp_path / "a1.jpg", tmp_path / "a1"]


def test_reports_without_hits_have_no_grid():
    document = comparison_document(compare(saved(A), saved(B)))
    assert not [part for s in document.sections for part in s.parts if isinstance(part, Grid)]


def test_nasty_names_stay_text(tmp_path: Path):
    a = [query(NASTY, 50.0, label=NASTY, top=((NASTY, 0.5, True),)), query("x", 10.0)]
    b = [query(NASTY, 60.0, label=NASTY, top=((NASTY, 0.5, True),)), query("x", 5.0)]
    files = write_comparison(compare(saved(a, model=NASTY), saved(b, NASTY, model=NASTY)), tmp_path)
    assert "<script" not in files[2].read_text("utf-8")
    text = files[1].read_text("utf-8")
    assert "<script" not in text
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if NASTY[:7] in line}) <= 1


def test_very_many_classes_are_cut_and_that_is_said():
    a = [query(f"q{i}", 50.0, label=f"c{i}") for i in range(300)]
    b = [query(f"q{i}", i / 3, label=f"c{i}") for i in range(300)]
    document = comparison_document(compare(saved(a), saved(b)))
    table = next(s.parts[0] for s in document.sections if s.title.startswith("Classes"))
    assert isinstance(table, Table)
    assert len(table.rows) == 200
    assert table.rows[0][0] == "c299"
    assert table.rows[-1][0] == "c0"
    assert table.note == "100 classes with smaller changes are in comparison.json."
    assert math.isclose(
        sum(c.change for c in compare(saved(a), saved(b)).protocols[0].classes),
        sum(i / 3 - 50 for i in range(300)),
    )
