"""Thresholds: the statistics against slow references, and what is kept in a gallery."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.cli.info import info as info_command
from cfcd.encoding.shards import Encoded, FileStamp
from cfcd.errors import EvaluationError, IdentityMismatch, UsageError
from cfcd.gallery import Gallery
from cfcd.gallery.calibration.fit import (
    Pairs,
    fit_threshold,
    number_of,
    reliability_curve,
    share_of,
    wilson_bound,
)
from cfcd.gallery.calibration.measuring import calibrate
from cfcd.gallery.calibration.place import FILE
from tests.gallery.search_support import META, make_catalog, make_gallery, objects

Z = 1.6448536269514722


def make_pairs(rows: list[tuple[float, bool, int]], objects_of: int = 7) -> Pairs:
    """Pairs of (score, right, query); a query's object is its number modulo `objects_of`."""
    queries = np.array([row[2] for row in rows])
    return Pairs(
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows], bool),
        queries,
        queries % objects_of,
        np.array([row[2] not in [other[2] for other in rows[:at]] for at, row in enumerate(rows)], bool),
    )


def slow_bound(pairs: Pairs, score: float) -> float:
    above = [at for at in range(len(pairs)) if pairs.scores[at] >= score]
    n = len({int(pairs.queries[at]) for at in above})
    p = sum(bool(pairs.right[at]) for at in above) / len(above)
    return (p + Z * Z / 2 / n - Z * math.sqrt(p * (1 - p) / n + Z * Z / 4 / n / n)) / (1 + Z * Z / n)


ROWS = st.lists(
    st.tuples(st.integers(-8, 8).map(lambda n: n / 8), st.booleans(), st.integers(0, 40)),
    min_size=1,
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, wanted=st.sampled_from([0.2, 0.4, 0.5, 0.7]))
def test_the_threshold_is_the_lowest_that_the_slow_way_finds(
    rows: list[tuple[float, bool, int]], wanted: float
) -> None:
    pairs = make_pairs(rows)
    bounds = {score: slow_bound(pairs, score) for score in set(pairs.scores.tolist())}
    good = [score for score, bound in bounds.items() if bound >= wanted]
    if good and max(bounds.values()) >= wanted + 1e-9:
        found = fit_threshold(pairs, wanted)
        assert found.score == min(good)
        assert found.shown == pytest.approx(bounds[min(good)])
        above = pairs.scores >= found.score
        assert (found.above.right, found.above.hits) == (int(pairs.right[above].sum()), int(above.sum()))
        assert found.kept == pytest.approx(pairs.right[above].sum() / pairs.right.sum())
    elif max(bounds.values()) < wanted - 1e-9:
        with pytest.raises(EvaluationError):
            fit_threshold(pairs, wanted)


def test_wilson_by_the_book() -> None:
    # Brown, Cai & DasGupta (2001): 0 of n and n of n have the closed forms z2 / (n + z2) and n / (n + z2).
    assert wilson_bound(np.array([1.0]), np.array([52]), Z)[0] == pytest.approx(52 / (52 + Z * Z))
    assert wilson_bound(np.array([0.0]), np.array([10]), -Z)[0] == pytest.approx(Z * Z / (10 + Z * Z))
    # R: prop.test(45, 50, correct = FALSE)$conf.int is 0.7863977 to 0.9565240.
    share = share_of(make_pairs([(0.5, at < 45, at) for at in range(50)]))
    assert (share.low, share.high) == pytest.approx((0.7863977, 0.9565240), abs=1e-6)


def test_too_few_queries_are_refused_with_what_they_could_show() -> None:
    pairs = make_pairs([(0.9, True, at) for at in range(51)])
    with pytest.raises(EvaluationError, match=r"51 queries .* takes 52") as caught:
        fit_threshold(pairs, 0.95)
    assert "at most 0.94" in caught.value.mend
    assert fit_threshold(pairs, 0.94).score == 0.9
    many_hits_of_few = make_pairs([(0.9, True, at % 5) for at in range(1000)])
    with pytest.raises(EvaluationError, match="5 queries"):
        fit_threshold(many_hits_of_few, 0.95)


def test_a_precision_that_is_not_reached_says_what_is() -> None:
    rows = [(0.8, at % 10 != 0, at) for at in range(200)] + [(0.3, False, at) for at in range(200)]
    with pytest.raises(EvaluationError, match=r"not reached .* 0\.859 .* 200 hits of 200 queries") as caught:
        fit_threshold(make_pairs(rows), 0.95)
    assert "--precision 0.85" in caught.value.mend
    assert fit_threshold(make_pairs(rows), 0.85).score == 0.8


def test_held_out_estimate_is_by_objects() -> None:
    rng = np.random.default_rng(0)
    rows = [(float(score), bool(score + 0.3 * rng.standard_normal() > 0.5), at) for at, score in
            enumerate(rng.random(2000))]  # fmt: skip
    held = fit_threshold(make_pairs(rows, 10), 0.8).held_out
    assert held is not None
    assert (held.folds, held.failed) == (5, 0)
    assert held.above.precision == pytest.approx(0.8, abs=0.04)
    assert held.above.low < held.above.precision < held.above.high
    assert fit_threshold(make_pairs(rows, 1), 0.8).held_out is None


def test_an_object_that_is_nothing_but_right_cannot_vouch_for_the_others() -> None:
    # Object 0 is always right at high scores, object 1 at the same scores always wrong.
    rows = [(0.9, at % 2 == 0, at) for at in range(400)] + [(0.95, True, 2 * at) for at in range(200)]
    found = fit_threshold(make_pairs(rows, 2), 0.6)
    assert found.above.precision > 0.6
    assert found.held_out is not None
    assert found.held_out.failed == 1
    assert found.held_out.above.right == 0


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_the_reliability_curve_counts_every_hit_once(rows: list[tuple[float, bool, int]]) -> None:
    rows = rows * 5
    pairs = make_pairs(rows)
    curve = reliability_curve(pairs)
    assert sum(one.share.hits for one in curve) == len(rows)
    for one in curve:
        within = [row for row in rows if one.low <= row[0] <= one.high]
        assert one.share.hits == len(within)
        assert one.share.right == sum(row[1] for row in within)
    assert all(before.high < after.low for before, after in pairwise(curve))


def test_equal_names_have_equal_numbers() -> None:
    assert number_of(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


# --- galleries ---

# Drawn together, so that item n and query n show one object; the last 10 objects are not in the gallery.
EVERY, NAMES = objects(70, 6, 0.45, seed=5)
IN = [at for at in range(len(EVERY)) if at % 6 < 4 and at < 360]
ASKED = [at for at in range(len(EVERY)) if at % 6 >= 4]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return make_gallery(tmp_path / "g", EVERY[IN], [NAMES[at] for at in IN])


def encoded(rows: list[int], name: str = "query", identity: str = META["identity"]) -> Encoded:
    settings_of = {
        "identity": identity,
        "model": "made-up@0",
        "preprocessing": {"long_side": None, "scales": [1.0]},
    }
    catalog = make_catalog([NAMES[at] for at in rows], name)
    stamps = tuple(FileStamp(1, 1, b"") for _ in rows)
    lengths = np.linalg.norm(EVERY[rows], axis=1, keepdims=True)  # not quite 1 for fp16
    return Encoded(Path("/encoded"), settings_of, catalog, EVERY[rows] / lengths, stamps)


def test_calibrated_hits_have_verdicts_that_hold(gallery: Gallery) -> None:
    assert gallery.calibration is None
    done = calibrate(gallery, encoded(ASKED), precision=0.9)
    found = gallery.calibration
    assert found == done.calibration
    assert found.match.score > found.maybe.score
    assert found.made["queries"] == len(ASKED)
    assert found.made["objects"] == 70
    labels = {"match": [], "maybe": [], "none": []}
    for at in ASKED:
        for hit in gallery.search_vector(EVERY[at]):
            labels[str(hit.verdict)].append(hit.item.label == NAMES[at])
            assert hit.verdict == ("match" if hit.score >= found.match.score else
                                   "maybe" if hit.score >= found.maybe.score else "none")  # fmt: skip
    assert np.mean(labels["match"]) == pytest.approx(found.match.above.precision)
    assert np.mean(labels["match"]) > 0.9 > np.mean(labels["maybe"]) > np.mean(labels["none"])
    assert len(labels["match"]) == found.match.above.hits


def test_verdicts_of_expanded_and_combined_queries(gallery: Gallery) -> None:
    calibrate(gallery, encoded(ASKED), precision=0.9)
    plain = {hit.id: hit.verdict for hit in gallery.search_vector(EVERY[ASKED[0]], 50)}
    for hit in gallery.search_vector(EVERY[ASKED[0]], 5, expand=4):
        assert hit.verdict == plain[hit.id]
    assert gallery.search_vector(EVERY[0], 1, verdicts=False)[0].verdict is None


def test_leave_one_out_is_labelled_with_itself(gallery: Gallery) -> None:
    found = calibrate(gallery, precision=0.9).calibration
    assert found.made["protocol"] == "leave-one-out"
    assert found.made["copies"] == 0
    assert found.made["hits"] == 10 * len(IN)
    again = calibrate(gallery, encoded(IN, "again"), precision=0.9, k=11).calibration
    # The same pictures under other names are not known to be copies: each finds itself and is right.
    assert again.made["right"] == found.made["right"] + len(IN)


def test_copies_of_the_query_are_no_evidence(gallery: Gallery) -> None:
    at_home = encoded(IN, "item")  # the paths of the gallery's own pictures
    found = calibrate(gallery, at_home, precision=0.9).calibration
    assert found.made["copies"] == len(IN)
    own = calibrate(gallery, precision=0.9).calibration
    assert found.match.score == pytest.approx(own.match.score, abs=1e-4)
    assert found.match.above == own.match.above
    assert found.made["right"] == own.made["right"]


def test_hits_without_label_are_left_out(tmp_path: Path) -> None:
    labels = [NAMES[at] if at % 6 else None for at in IN]
    gallery = make_gallery(tmp_path / "g", EVERY[IN], labels)
    found = calibrate(gallery, encoded(ASKED), precision=0.9).calibration
    assert found.made["unlabelled"] > 0
    assert found.made["unlabelled"] + found.made["hits"] == 10 * len(ASKED)


def test_many_queries_are_thinned_out(gallery: Gallery) -> None:
    found = calibrate(gallery, encoded(ASKED), precision=0.8, most_queries=70).calibration
    assert (found.made["queries"], found.made["objects"]) == (70, 70)


def test_info_tells_of_it(gallery: Gallery, capsys: pytest.CaptureFixture[str]) -> None:
    info_command(str(gallery.folder))
    assert "calibration" not in capsys.readouterr().out
    assert gallery.info()["calibration"] is None
    found = calibrate(gallery, precision=0.9, maybe=0.6).calibration
    told = {
        "match": found.match.score,
        "maybe": found.maybe.score,
        "precision": 0.9,
        "precision_of_maybe": 0.6,
    }
    assert gallery.info()["calibration"] == {**told, "items": len(gallery), "outgrown": False}
    info_command(str(gallery.folder))
    told_in_words = capsys.readouterr().out
    assert f"match from {found.match.score:.3f} on (precision 0.9), maybe from" in told_in_words
    assert f"measured on {len(gallery)} items\n" in told_in_words
    more = make_catalog(["more"] * len(gallery), "more")
    gallery.add(more, EVERY[: len(more)])
    assert gallery.info()["calibration"] == {**told, "items": len(gallery) // 2, "outgrown": True}
    info_command(str(gallery.folder))
    assert "outgrown: run cfcd calibrate again" in capsys.readouterr().out


def test_it_holds_for_its_gallery_only(gallery: Gallery, tmp_path: Path) -> None:
    calibrate(gallery, precision=0.9)
    text = (gallery.folder / FILE).read_text()
    other = make_gallery(tmp_path / "other", EVERY[IN], [NAMES[at] for at in IN])
    (other.folder / FILE).write_text(text)
    assert other.calibration is None
    with Gallery(gallery.folder) as again:
        assert again.calibration is not None
        gallery.remove(["item0"])
        assert again.calibration is not None
        assert not again.calibration.is_outgrown(len(again))
        assert again.calibration.is_outgrown(2 * len(again))
        (gallery.folder / FILE).write_text(text.replace(META["identity"], "another model"))
        assert again.calibration is None
        (gallery.folder / FILE).write_text(text)
        assert again.calibration is not None
        (gallery.folder / FILE).unlink()
        assert again.search_vector(EVERY[0], 1)[0].verdict is None


def test_a_damaged_file_is_none(gallery: Gallery) -> None:
    calibrate(gallery, precision=0.9)
    data = (gallery.folder / FILE).read_bytes()
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(0, 8))
        (gallery.folder / FILE).write_bytes(damaged)
        # What changes only blanks changes nothing; anything else is noticed.
        try:
            same = json.loads(damaged) == json.loads(data)
        except ValueError:
            same = False
        assert (gallery.calibration is not None) == same
    (gallery.folder / FILE).write_bytes(data[: len(data) // 2])
    assert gallery.calibration is None


def test_what_cannot_be_calibrated(gallery: Gallery, tmp_path: Path) -> None:
    for precision, maybe in ((1.0, 0.5), (0.5, 0.6), (0.9, 0.0)):
        with pytest.raises(UsageError, match="out of range"):
            calibrate(gallery, precision=precision, maybe=maybe)
    with pytest.raises(UsageError, match="k is 0"):
        calibrate(gallery, k=0)
    with pytest.raises(IdentityMismatch):
        calibrate(gallery, encoded(ASKED, identity="another"))
    with pytest.raises(EvaluationError, match="no labelled queries"):
        calibrate(gallery, make_catalog([None, None]))
    with pytest.raises(EvaluationError, match="20 queries"):
        calibrate(gallery, encoded(ASKED[:20]))
    unlabelled = make_gallery(tmp_path / "none", EVERY[:5], [None] * 5)
    with pytest.raises(EvaluationError, match="None of 0 labelled queries"):
        calibrate(unlabelled)
    with pytest.raises(EvaluationError, match="labelled hit"):
        calibrate(unlabelled, encoded(ASKED))
    assert gallery.calibration is None
