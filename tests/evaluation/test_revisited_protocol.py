"""The protocols on arrays: the authors' figures, a slow reference, and what is refused."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.catalog.revisited import load_ground_truth
from cfcd.errors import CatalogError, CfcdError, EvaluationError
from cfcd.evaluation.revisited_protocol import revisited

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
NAMES = ("easy", "medium", "hard")


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def make_truth(images: int, gnd: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "imlist": [f"image{at}" for at in range(images)],
        "qimlist": [f"query{at}" for at in range(len(gnd))],
        "gnd": gnd,
    }


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    file = GOLDEN / "roxford5k_expected.json"
    if not file.exists():
        pytest.skip("the golden values (shared/golden beside the repository) are not here")
    return dict(json.loads(file.read_text()))


@pytest.fixture(scope="module")
def golden(expected: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Make the descriptors by the rule written beside the golden values."""
    truth = load_ground_truth(GOLDEN / "gnd_roxford5k.pkl")
    rng = np.random.default_rng(expected["seed"])
    queries = rng.standard_normal((len(truth["qimlist"]), 64)).astype(np.float32)
    database = rng.standard_normal((len(truth["imlist"]), 64)).astype(np.float32)
    for query, entry in zip(queries, truth["gnd"], strict=True):
        database[entry["easy"]] += np.float32(0.8) * query
        database[entry["hard"]] += np.float32(0.3) * query
    return tuple(rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, database))


def test_every_figure_of_the_authors_evaluator(expected, golden) -> None:
    report = revisited(*golden, GOLDEN / "gnd_roxford5k.pkl")
    assert [result.protocol for result in report.protocols] == list(NAMES)
    for name in NAMES:
        wanted, found = expected[name], report[name]
        assert found.mAP / 100 == pytest.approx(wanted["mAP"], abs=1e-9)
        assert list(found.precision_at) == [1, 5, 10]
        for value, one in zip(found.precision_at.values(), wanted["mP@1,5,10"], strict=True):
            assert value / 100 == pytest.approx(one, abs=1e-9)
        aps = [None if (ap := query.ap[name]) is None else ap / 100 for query in report.per_query]
        assert [ap is None for ap in aps] == [ap is None for ap in wanted["AP"]]
        assert [ap for ap in aps if ap is not None] == pytest.approx(
            [ap for ap in wanted["AP"] if ap is not None], abs=1e-9
        )
    assert report["easy"].without_positives == ("balliol_000187", "hertford_000082")
    assert report["easy"].queries == 68
    assert report["medium"].without_positives == ()


def test_files_and_distractors_in_first_place(expected, golden, tmp_path) -> None:
    """The same from files in another memory order; copies of the queries push every image from the top."""
    queries, database = golden
    np.save(tmp_path / "q.npy", queries)
    np.save(tmp_path / "x.npy", np.asfortranarray(database))
    report = revisited(tmp_path / "q.npy", str(tmp_path / "x.npy"), str(GOLDEN / "gnd_roxford5k.pkl"))
    assert report["hard"].mAP / 100 == pytest.approx(expected["hard"]["mAP"], abs=1e-9)
    more = revisited(queries, database, GOLDEN / "gnd_roxford5k.pkl", distractors=queries)
    assert more.distractors == 70
    assert more["medium"].precision_at[1] == 0
    assert 0 < more["medium"].mAP < report["medium"].mAP


# The protocol as its authors' evaluator walks it, on a full stable sort.
def slow(scores: np.ndarray, entry: dict[str, list[int]], name: str, ks: tuple[int, ...]):
    right = {"easy": entry["easy"], "medium": entry["easy"] + entry["hard"], "hard": entry["hard"]}[name]
    junk = {
        "easy": entry["junk"] + entry["hard"],
        "medium": entry["junk"],
        "hard": entry["junk"] + entry["easy"],
    }[name]
    if not right:
        return None
    kept = [row for row in np.argsort(-scores, kind="stable").tolist() if row not in junk]
    places = [place for place, row in enumerate(kept) if row in right]
    ap = 0.0
    for found, place in enumerate(places):
        before = 1.0 if place == 0 else found / place
        ap += (before + (found + 1) / (place + 1)) / 2 / len(right)
    precisions = []
    for k in ks:
        depth = min(max(places) + 1, k)
        precisions.append(sum(place < depth for place in places) / depth)
    return ap, precisions, places


_ROWS = st.lists(st.sampled_from([0.5, -0.5]), min_size=4, max_size=4)


@st.composite
def benchmarks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    images = draw(st.integers(2, 25))
    gnd = []
    for _ in range(draw(st.integers(1, 4))):
        kinds = draw(
            st.lists(st.sampled_from(["easy", "hard", "junk", ""]), min_size=images, max_size=images)
        )
        gnd.append(
            {kind: [row for row, one in enumerate(kinds) if one == kind] for kind in ("easy", "hard", "junk")}
        )
    tables = [
        np.array(draw(st.lists(_ROWS, min_size=size, max_size=size)), np.float32)
        for size in (len(gnd), images, draw(st.integers(1, 20)))
    ]
    return (*tables, make_truth(images, gnd))


@given(benchmarks(), st.booleans(), st.sampled_from([1, 4, 64]))
@settings(max_examples=100, deadline=None)
def test_crowded_rankings_are_judged_as_by_the_slow_reference(case, with_distractors, block) -> None:
    """Four numbers of ±0.5 each: scores are 0, ±0.5 or ±1, so that nearly all images tie."""
    queries, database, distractors, truth = case
    searched = np.concatenate([database, distractors]) if with_distractors else database
    wanted = {
        name: [
            slow(searched @ query, entry, name, (1, 3))
            for query, entry in zip(queries, truth["gnd"], strict=True)
        ]
        for name in NAMES
    }
    options = {"distractors": distractors if with_distractors else None, "block": block, "ks": (1, 3)}
    if all(one is None for one in wanted["medium"]):
        with pytest.raises(EvaluationError, match="has a right image"):
            revisited(queries, database, truth, **options)
        return
    report = revisited(queries, database, truth, **options)
    for name in NAMES:
        for query, one in zip(report.per_query, wanted[name], strict=True):
            if one is None:
                assert query.ap[name] is query.precision_at[name] is query.ranks[name] is None
            else:
                assert query.ap[name] == pytest.approx(100 * one[0], abs=1e-9)
                assert list(query.precision_at[name].values()) == pytest.approx([100 * p for p in one[1]])
                assert list(query.ranks[name]) == one[2]
        counted = [one for one in wanted[name] if one is not None]
        assert report[name].queries == len(counted)
        if counted:
            assert report[name].mAP == pytest.approx(100 * np.mean([one[0] for one in counted]))
        else:
            assert math.isnan(report[name].mAP)


@pytest.fixture
def small() -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    rng = np.random.default_rng(0)
    gnd = [{"easy": [0, 3], "hard": [5], "junk": [1]}, {"easy": [], "hard": [2], "junk": []}]
    return unit(rng, 2, 8), unit(rng, 9, 8), make_truth(9, gnd)


def test_protocols_ks_and_rule_are_as_asked(small) -> None:
    report = revisited(*small, protocols=("hard",), ks=(2,), ap_rule="standard")
    (result,) = report.protocols
    assert (result.protocol, list(result.precision_at), report.ap_rule) == ("hard", [2], "standard")
    ranks = [query.ranks["hard"] for query in report.per_query]
    assert [query.ap["hard"] for query in report.per_query] == pytest.approx(
        [100 / (places[0] + 1) for places in ranks]
    )


def test_the_best_images_are_named(small) -> None:
    queries, database, truth = small
    twin = np.stack([database[1], queries[0], queries[0]])
    report = revisited(queries, database, truth, distractors=twin, top=12)
    hits = report.per_query[0].top
    assert [name for name, *_ in hits][:2] == ["distractor 1", "distractor 2"]
    assert hits[0][1] == pytest.approx(1)
    names = [name for name, *_ in hits]
    assert len(names) == 12
    assert names.index("image1") + 1 == names.index("distractor 0")  # a tie: the database comes first
    kinds = {name: right for name, _, right in hits}
    assert (kinds["image0"], kinds["image5"], kinds["image1"], kinds["image7"]) == (True, True, None, False)
    assert kinds["distractor 1"] is False


def test_the_report_for_programs_and_people(small) -> None:
    report = revisited(*small)
    value = json.loads(json.dumps(report.to_json()))
    assert list(value["protocols"]) == list(NAMES)
    assert value["protocols"]["easy"]["without_positives"] == ["query1"]
    assert value["per_query"][1]["ap"]["easy"] is None
    assert value["per_query"][0]["ap"]["easy"] == report.per_query[0].ap["easy"]
    assert (value["queries"], value["database"], value["distractors"], value["dim"]) == (2, 9, 0, 8)
    lines = report.text().splitlines()
    assert lines[0] == "2 queries against 9 images (percent)"
    assert lines[2].split() == ["mAP", "mP@1", "mP@5", "mP@10", "queries"]
    assert lines[3].split()[0] == "easy"
    assert lines[3].split()[1] == f"{report['easy'].mAP:.2f}"
    assert lines[-1] == "easy: left out, nothing to find for query1"


def test_a_protocol_nobody_counts_under_has_no_mean(small) -> None:
    queries, database, truth = small
    truth["gnd"][0]["easy"] = []
    report = revisited(queries, database, truth)
    assert report["easy"].queries == 0
    assert report.to_json()["protocols"]["easy"]["mAP"] is None
    assert report.text().splitlines()[3].split() == ["easy", "-", "-", "-", "-", "0"]


def test_reports_whose_parts_contradict_are_refused(small) -> None:
    from dataclasses import replace

    report = revisited(*small)
    with pytest.raises(EvaluationError, match="do not agree"):
        replace(report, protocols=(replace(report["hard"], mAP=report["hard"].mAP + 1),))
    with pytest.raises(EvaluationError, match="do not agree"):
        replace(report, per_query=report.per_query[:1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_tensors(small, dtype) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    queries, database, truth = small
    kind = getattr(torch, dtype)
    report = revisited(torch.tensor(queries).to(kind), torch.tensor(database, requires_grad=True), truth)
    assert report["medium"].mAP == pytest.approx(revisited(queries, database, truth)["medium"].mAP)


def test_arrays_need_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\nfrom cfcd.evaluation.revisited_protocol import revisited\n"
        "revisited(np.eye(1), np.eye(1), {'imlist': ['a'], 'qimlist': ['b'], 'gnd': [{'easy': [0]}]})\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_distractors_from_an_encoded_folder(small, tmp_path: Path) -> None:
    """Shards of uneven sizes; of a row that is there twice the newest counts."""
    from cfcd.catalog import Item
    from cfcd.encoding.rows import FileStamp
    from cfcd.encoding.shards import write_settings, write_shard

    queries, database, truth = small
    rows = unit(np.random.default_rng(9), 30, 8)
    settings = {"dim": 8, "identity": "x", "model": "m"}
    folder = tmp_path / "encoded"
    folder.mkdir()
    write_settings(folder, settings)

    def shard(number: int, names: range, values: np.ndarray) -> None:
        items = [Item(f"i{at}", tmp_path / f"{at}.jpg") for at in names]
        write_shard(folder, number, items, [FileStamp(1, 1, b"")] * len(items), values)

    shard(0, range(17), np.concatenate([queries, queries, rows[4:17]]))  # the first four are out of date
    shard(1, range(4), rows[:4])
    shard(5, range(17, 30), rows[17:])
    found = revisited(queries, database, truth, distractors=folder, block=4)
    wanted = revisited(queries, database, truth, distractors=rows)
    assert found.distractors == 30
    assert [query.ap for query in found.per_query] == [query.ap for query in wanted.per_query]
    shorter = revisited(queries, database, truth, distractors=[folder, rows[:3]])
    assert shorter.distractors == 33


def changed(truth: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {**truth, **parts}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: changed(t, imlist=[*t["imlist"][:-1], "image0"]), "names 'image0' twice in imlist"),
        (lambda t: changed(t, qimlist=["query0", "query0"]), "names 'query0' twice in qimlist"),
        (lambda t: changed(t, qimlist=["query0"]), "names 1 queries and has 2 entries"),
        (lambda t: changed(t, qimlist=[], gnd=[]), "empty qimlist"),
        (lambda t: {"imlist": ["a"]}, "lacks imlist, qimlist or gnd"),
        (lambda t: changed(t, gnd=[{"easy": [9]}, {"easy": []}]), "'query0' counts row 9 as easy"),
        (lambda t: changed(t, gnd=[{"easy": [-1]}, {"easy": []}]), "'query0' counts row -1 as easy"),
        (lambda t: changed(t, gnd=[{"easy": [1], "junk": [1]}, {"easy": []}]), "'query0' lists row 1 twice"),
        (lambda t: changed(t, gnd=[{"easy": [1, 1]}, {"easy": []}]), "'query0' lists row 1 twice"),
        (lambda t: changed(t, gnd=[{"easy": ["1"]}, {"easy": []}]), "easy images of 'query0' are no list"),
        (lambda t: changed(t, gnd=[{"easy": [True]}, {"easy": []}]), "easy images of 'query0' are no list"),
        (lambda t: changed(t, gnd=[{"easy": 1}, {"easy": []}]), "easy images of 'query0' are no list"),
        (lambda t: changed(t, gnd=[{"ok": [1]}, {"ok": [2]}]), "'query0' has neither easy nor hard"),
        (lambda t: changed(t, gnd=[{"easy": []}, {"junk": [1]}]), "None of the 2 queries has a right image"),
    ],
)
def test_ground_truths_that_contradict_themselves(small, change, message) -> None:
    queries, database, truth = small
    with pytest.raises(EvaluationError, match=message):
        revisited(queries, database, change(truth))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, x: (q[:1], x), "The query array has 1 descriptors, and the ground truth names 2 images"),
        (lambda q, x: (q, x[:8]), "The database array has 8 descriptors, and the ground truth names 9"),
        (lambda q, x: (q.T, x.T), r"shape \(8, 2\): its 2 descriptors stand in columns"),
        (lambda q, x: (q, x.T), r"shape \(8, 9\): its 9 descriptors stand in columns"),
        (lambda q, x: (q[0], x), r"shape \(8,\) and type float32: no table of descriptors"),
        (lambda q, x: ((q * 100).astype(int), x), "type int64: no table of descriptors"),
        (lambda q, x: (q, x.astype(complex)), "type complex128: no table of descriptors"),
        (lambda q, x: (q, np.array([["a"] * 8] * 9)), "no table of descriptors"),
        (lambda q, x: (q[:, :4], x), "The queries have 4 numbers each, and the database array 8"),
        (lambda q, x: (q, 2 * x), r"'image0' \(row 0 of the database array\) has length 2, not 1"),
        (lambda q, x: (q[:, :0], x), "holds no descriptors"),
    ],
)
def test_arrays_that_do_not_fit(small, change, message) -> None:
    queries, database, truth = small
    with pytest.raises(EvaluationError, match=message):
        revisited(*change(queries, database), truth)


def test_a_row_that_is_not_finite_is_named_by_its_image(small) -> None:
    queries, database, truth = small
    database[4, 2] = np.nan
    with pytest.raises(EvaluationError, match=r"'image4' \(row 4 of the database array\) is not finite"):
        revisited(queries, database, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocols": ("easy", "harder")}, "'harder' is unknown"),
        ({"protocols": ()}, "named once"),
        ({"protocols": ("easy", "easy")}, "named once"),
        ({"ks": (0,)}, "no number of images"),
        ({"top": 0}, "no number of images"),
        ({"ap_rule": "area"}, "'area' is unknown"),
        ({"distractors": np.zeros((0, 8), np.float32)}, "The distractor array holds no descriptors"),
        ({"distractors": []}, "The distractor array is an empty list"),
        ({"distractors": [np.eye(8), np.eye(7)]}, "mixes descriptors of 7 and 8 numbers"),
        ({"distractors": np.eye(7)}, "The queries have 8 numbers each, and the distractor array 7"),
        ({"distractors": "nowhere.npy"}, "nowhere.npy cannot be read as descriptors: No such file"),
        ({"distractors": Path(__file__).parent}, "is no folder of descriptors"),
    ],
)
def test_options_that_cannot_be(small, options, message) -> None:
    with pytest.raises(EvaluationError, match=message):
        revisited(*small, **options)


def test_files_that_are_no_rows(small, tmp_path: Path) -> None:
    queries, database, truth = small
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", database)
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "cut.npy", database)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-9])
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(database))
    for name in ("objects.npy", "archive.npz", "text.npy", "empty.npy", "cut.npy", "pickle.npy"):
        with pytest.raises(CfcdError, match=name) as caught:
            revisited(queries, tmp_path / name, truth)
        assert "numpy.save" in caught.value.mend


def test_foreign_pickles_are_refused(small, tmp_path: Path) -> None:
    queries, database, truth = small
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps({**truth, "gnd": [np.arange(3)]}))
    with pytest.raises(CatalogError, match="not a pickle of plain data"):
        revisited(queries, database, tmp_path / "gnd.pkl")


def test_ground_truth_of_numpy_rows_is_taken(small) -> None:
    """What researchers hold in memory after loading it their own way."""
    queries, database, truth = small
    entries = [
        {kind: np.array(rows, dtype=np.int32) for kind, rows in entry.items()} for entry in truth["gnd"]
    ]
    found = revisited(queries, database, {**truth, "gnd": entries})
    assert found == revisited(queries, database, truth)
