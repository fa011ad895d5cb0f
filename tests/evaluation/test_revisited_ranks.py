"""Places of known images: those of a stable sort of all scores, whatever the blocks, parts and ties."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cfcd.errors import EvaluationError
from cfcd.evaluation import revisited_blocks
from cfcd.evaluation.revisited_blocks import Product, aligned
from cfcd.evaluation.revisited_ranks import Placed, place_known
from cfcd.evaluation.revisited_rows import as_rows


def place(
    queries: Any, database: Any, distractors: Any, known: Sequence[Sequence[int]], **options: Any
) -> list[Placed]:
    positions = [np.array(sorted(rows), np.int64) for rows in known]
    asked = [np.ones(len(rows), bool) for rows in positions]
    return place_known(
        as_rows(queries, "the queries"),
        as_rows(database, "the database"),
        None if distractors is None else as_rows(distractors, "the distractors"),
        positions,
        asked,
        **options,
    )


def slow_ranks(scores: np.ndarray, rows: Sequence[int]) -> list[int]:
    """Sort everything and look where the rows went."""
    order = np.argsort(-scores, kind="stable").tolist()
    return [order.index(row) for row in sorted(rows)]


# Rows of four numbers of which one or four are not zero: unit vectors whose products are 0, ±0.25, ±0.5 or
# ±1 in any arithmetic, so that nearly everything ties and a sort of the exact scores is the truth.
_ONE = st.tuples(st.integers(0, 3), st.sampled_from([1.0, -1.0])).map(
    lambda drawn: [drawn[1] if at == drawn[0] else 0.0 for at in range(4)]
)
_FOUR = st.lists(st.sampled_from([0.5, -0.5]), min_size=4, max_size=4)
_UNIT = st.one_of(_ONE, _FOUR)


@st.composite
def crowded(draw: st.DrawFn) -> dict[str, Any]:
    def table(least: int, most: int) -> np.ndarray:
        return np.array(draw(st.lists(_UNIT, min_size=least, max_size=most)), np.float32)

    queries, database = table(1, 4), table(1, 30)
    row = st.integers(0, len(database) - 1)
    return {
        "queries": queries,
        "database": database,
        "distractors": draw(st.none() | st.just(None).map(lambda _: table(1, 40))),
        "known": [draw(st.lists(row, max_size=10, unique=True)) for _ in queries],
        "block": draw(st.sampled_from([1, 2, 3, 7, 16, 64])),
    }


@given(crowded(), st.sampled_from([np.float16, np.float32, np.float64]))
@settings(max_examples=100, deadline=None)
def test_ties_are_placed_as_by_a_stable_sort(case, dtype):
    parts = [case["database"]] if case["distractors"] is None else [case["database"], case["distractors"]]
    scores = case["queries"].astype(float) @ np.concatenate(parts).astype(float).T
    stored = None if case["distractors"] is None else case["distractors"].astype(dtype)
    found = place(case["queries"], case["database"].astype(dtype), stored, case["known"], block=case["block"])
    for placed, all_scores, rows in zip(found, scores, case["known"], strict=True):
        assert placed.positions.tolist() == sorted(rows)
        assert placed.ranks.tolist() == slow_ranks(all_scores, rows)
        assert placed.scores.tolist() == all_scores[sorted(rows)].tolist()
        best = np.argsort(-all_scores, kind="stable")[:10]
        assert placed.best.tolist() == best.tolist()
        assert placed.best_scores.tolist() == all_scores[best].tolist()


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("dim", [24, 100])
def test_duplicates_of_any_numbers_tie_exactly(even: bool, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few descriptors, each many times at scattered places: rounding must not tell copies apart."""
    if not even:
        monkeypatch.setattr(Product, "_is_even", lambda _self: False)
    rng = np.random.default_rng(dim)
    kinds = unit(rng, 40, dim)
    of_database, of_distractors = rng.integers(0, 40, 1500), rng.integers(0, 40, 3001)
    queries = unit(rng, 5, dim)
    known = [rng.choice(1500, 60, replace=False).tolist() for _ in queries]
    found = place(queries, kinds[of_database], kinds[of_distractors], known, block=1024)
    exact = queries.astype(float) @ kinds.T.astype(float)
    gaps = np.diff(np.sort(exact, axis=1), axis=1)
    assert gaps.min() > 1e-6  # so that float32 cannot confuse two kinds
    for placed, scores, rows in zip(found, exact, known, strict=True):
        everything = scores[np.concatenate([of_database, of_distractors])]
        assert placed.ranks.tolist() == slow_ranks(everything, rows)


def test_an_uneven_library_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products whose last rows round otherwise, as those of real libraries do, are not used."""
    true = np.matmul

    def uneven(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        true(a, b, out=out)
        out[-3:] = np.nextafter(out[-3:], np.float32(9))
        return out

    queries = unit(np.random.default_rng(0), 3, 32)
    assert Product(queries, 1024).even
    monkeypatch.setattr(revisited_blocks.np, "matmul", uneven)
    product = Product(queries, 1024)
    assert not product.even
    rows = aligned((1024, 32), np.dtype(np.float32))
    rows[:] = unit(np.random.default_rng(1), 32)
    scores = product(rows, aligned(product.shape, rows.dtype))
    assert scores.shape == (3, 1024)
    assert (scores == scores[:, :1]).all()
    assert scores[:, 0] == pytest.approx(queries @ rows[0], abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_those_of_the_whole_product(dtype: type) -> None:
    """What research code computes at once; near ties then fall the same way."""
    rng = np.random.default_rng(5)
    queries, database = unit(rng, 70, 128).astype(dtype), unit(rng, 4993, 128).astype(dtype)
    known = [range(4993)] * 70
    found = place(queries, database, None, known)
    whole = database @ queries.T
    if not all((placed.scores == scores).all() for placed, scores in zip(found, whole.T, strict=True)):
        pytest.skip("the linear algebra library here rounds by the size of the product")
    for placed, scores in zip(found[:3], whole.T, strict=False):
        ranks = np.empty(4993, np.int64)
        ranks[np.argsort(-scores, kind="stable")] = np.arange(4993)
        assert (placed.ranks == ranks).all()


@given(hnp.arrays(np.float64, st.integers(0, 12), elements=st.floats(0, 1)), st.data())
def test_the_plan_for_the_crowd_changes_no_place(shares, data):
    """However many targets are compared rather than sorted for, the counts are the same."""
    from cfcd.evaluation import revisited_ranks

    low = revisited_ranks._how_many_low(-np.sort(-shares))
    assert 0 <= low <= len(shares)
    scores = np.sort(data.draw(hnp.arrays(np.float32, len(shares), elements=st.integers(-3, 3))))
    row = data.draw(hnp.arrays(np.float32, st.integers(0, 20), elements=st.integers(-3, 3)))
    wanted = [(row > score).sum() for score in scores]
    block = revisited_blocks.Block(0, len(row), ())
    for chosen in range(len(scores) + 1):
        targets = revisited_ranks._Targets(scores, np.zeros(len(scores), np.int64), chosen)
        assert revisited_ranks._above(targets, row, block).tolist() == wanted


def test_the_plan_compares_deep_targets_and_sorts_for_high_ones() -> None:
    from cfcd.evaluation.revisited_ranks import _how_many_low

    assert _how_many_low(np.array([0.5, 0.4, 0.001, 0.0])) == 2
    assert _how_many_low(np.array([0.001, 0.0])) == 0
    assert _how_many_low(np.linspace(1, 0.5, 500)) == 0


def test_only_what_is_asked_is_placed() -> None:
    rng = np.random.default_rng(0)
    queries, database = as_rows(unit(rng, 1, 8), "q"), as_rows(unit(rng, 9, 8), "d")
    (placed,) = place_known(queries, database, None, [np.array([1, 4, 6])], [np.array([False, True, False])])
    assert placed.ranks[[0, 2]].tolist() == [-1, -1]
    assert placed.ranks[1] >= 0
    assert len(placed.scores) == 3


def test_parts_files_and_types_give_the_same_places(tmp_path: Path) -> None:
    """One array, a file, many uneven parts, another memory order: the same rows, the same places."""
    rng = np.random.default_rng(2)
    queries, database, distractors = unit(rng, 6, 16), unit(rng, 300, 16), unit(rng, 5000, 16)
    known = [rng.choice(300, 20, replace=False) for _ in queries]
    wanted = [placed.ranks.tolist() for placed in place(queries, database, distractors, known)]
    np.save(tmp_path / "d.npy", distractors)
    np.save(tmp_path / "f.npy", np.asfortranarray(distractors))
    cuts = np.split(distractors, [1, 700, 701, 4100])
    for source in (
        tmp_path / "d.npy",
        str(tmp_path / "f.npy"),
        cuts,
        [tmp_path / "d.npy"],
        [cuts[0], np.concatenate(cuts[1:])],
        np.repeat(distractors, 2, axis=0)[::2],
    ):
        found = place(queries, database, source, known, block=1024)
        assert [placed.ranks.tolist() for placed in found] == wanted


def test_progress_counts_database_and_distractors() -> None:
    rng = np.random.default_rng(2)
    seen: list[tuple[int, int]] = []
    place(
        unit(rng, 2, 8),
        unit(rng, 30, 8),
        unit(rng, 50, 8),
        [[1], [2]],
        block=16,
        progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(done, 80) for done in (16, 30, 46, 62, 78, 80)]


def test_normalised_rows_are_those_divided_beforehand() -> None:
    rng = np.random.default_rng(3)
    queries, database, distractors = unit(rng, 3, 16), unit(rng, 40, 16), unit(rng, 90, 16)
    known = [range(40)] * 3
    wanted = place(queries, database, distractors, known)
    scale = rng.uniform(0.5, 3, (90, 1)).astype(np.float32)
    found = place(queries * 2, database * 3, distractors * scale, known, normalise=True, block=16)
    assert [p.ranks.tolist() for p in found] == [p.ranks.tolist() for p in wanted]
    assert found[0].scores == pytest.approx(wanted[0].scores, abs=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(
    ("side", "row", "words"),
    [
        ("queries", 1, "row 1 of the queries"),
        ("database", 17, "row 17 of the database"),
        ("distractors", 33, "row 33 of the distractors"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 0.0])
def test_bad_rows_are_named(side: str, row: int, words: str, value: float, normalise: bool) -> None:
    rng = np.random.default_rng(0)
    tables = {"queries": unit(rng, 2, 8), "database": unit(rng, 20, 8), "distractors": unit(rng, 40, 8)}
    if value == 0:
        tables[side][row] = 0
    else:
        tables[side][row, 3] = value
    kind = "is all zeros" if value == 0 else "is not finite"
    with pytest.raises(EvaluationError, match=f"{words} {kind}"):
        place(*tables.values(), [[0], [1]], block=16, normalise=normalise)


def test_rows_of_another_length_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(EvaluationError, match="row 0 of the database has length 2, not 1") as caught:
        place(unit(rng, 1, 8), 2 * unit(rng, 20, 8), None, [[0]])
    assert "normalise=True" in caught.value.mend
    half = unit(rng, 20, 8).astype(np.float16)
    place(unit(rng, 1, 8), half, half, [[0]])


def test_another_dimension_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(EvaluationError, match="The queries have 8 numbers each, and the distractors 9"):
        place(unit(rng, 1, 8), unit(rng, 3, 8), unit(rng, 3, 9), [[0]])
