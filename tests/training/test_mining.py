from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.errors import TrainingError
from cfcd.training import Mined, load_mined, mine, save_mined, should_mine
from cfcd.training.mining import ScoredBatch, mining_identity

LABELS = np.array([0, 0, 1, 1, 2])
PREDICTED = np.array([0, 1, 1, 2, 2])


def example(identity: str = "x") -> Mined:
    return Mined(LABELS, PREDICTED, identity)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_mining_takes_the_largest_cosine_in_any_order(n_images: int, n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cosines = rng.uniform(-1, 1, (n_images, n_classes)).astype(np.float32)
    labels = rng.integers(0, n_classes, n_images)
    order = rng.permutation(n_images)
    blocks = np.array_split(order, 3)
    mined = mine(labels, ((block, cosines[block]) for block in blocks), identity="x")
    expected = [max(range(n_classes), key=lambda c: row[c]) for row in cosines]
    assert mined.predicted.tolist() == expected
    assert mined.labels.tolist() == labels.tolist()
    by_class = mine(labels, [(block, cosines[block].argmax(axis=1)) for block in blocks])
    assert np.array_equal(by_class.predicted, mined.predicted)

    assert mined.right.tolist() == [e == label for e, label in zip(expected, labels, strict=True)]
    assert mined.accuracy == pytest.approx(np.mean(mined.right))
    for c in range(n_classes):
        trues, falses = mined.tp_fp(c)
        assert trues.tolist() == [i for i in range(n_images) if expected[i] == c and labels[i] == c]
        assert falses.tolist() == [i for i in range(n_images) if expected[i] == c and labels[i] != c]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (
            [([0, 1], [0, 0])],
            "1 of 3 images were not scored exactly once; the first is image 2, scored 0 times",
        ),
        ([([0, 1, 2], [0, 0, 0]), ([1], [0])], "image 1, scored 2 times"),
        ([([0, 1, 1], [0, 0, 0])], "the first is image 1, scored 2 times"),
        ([([0, 1, 3], [0, 0, 0])], "outside 0 to 2"),
        ([([0, 1, -1], [0, 0, 0])], "outside 0 to 2"),
        ([([0, 1, 2], [0, 0])], "3 images as 2 classes"),
        ([([0, 1, 2], [[0.1], [0.2], [np.nan]])], "not a number"),
        ([([0, 1, 2], [0.1, 0.2, 0.3])], r"shape \(3,\) and type float64"),
        ([([0, 1, 2], [[0], [0], [0]])], r"shape \(3, 1\) and type int64"),
        ([([0, 1, 2], np.zeros((3, 0)))], r"shape \(3, 0\)"),
    ],
)
def test_incomplete_or_senseless_scores_are_refused(batches: list[ScoredBatch], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        mine([0, 1, 0], batches)


def test_a_nan_is_noticed_wherever_it_is() -> None:
    for column in range(3):
        cosines = np.array([[0.1, 0.9, 0.3]])
        cosines[0, column] = np.nan
        with pytest.raises(TrainingError, match="not a number"):
            mine([0], [([0], cosines)])


def test_results_check_themselves_and_do_not_change() -> None:
    mine_ = example()
    with pytest.raises(ValueError, match="read-only"):
        mine_.predicted[0] = 3
    PREDICTED[0] = PREDICTED[0]  # the caller's own array is left alone
    for labels, predicted in (
        (LABELS, PREDICTED[:-1]),
        (LABELS, PREDICTED / 2),
        (LABELS[None], PREDICTED[None]),
    ):
        with pytest.raises(TrainingError, match="do not belong together"):
            Mined(labels, predicted, "x")


def test_identities_do_not_run_into_each_other() -> None:
    assert mining_identity("ab", "c") != mining_identity("a", "bc")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mined") / "mined.npz"
    save_mined(path, example())
    return path


def test_another_identity_is_foreign(cache: Path) -> None:
    assert load_mined(cache, LABELS, "x") is not None
    assert load_mined(cache, LABELS, "y") is None
    assert load_mined(cache.with_name("none.npz"), LABELS, "x") is None


def test_damaged_caches_are_ignored(cache: Path, tmp_path: Path) -> None:
    whole = cache.read_bytes()
    damaged = tmp_path / "mined.npz"
    rng = np.random.default_rng(0)
    spoilt = [whole[:cut] for cut in range(0, len(whole), 29)]
    for place in range(0, len(whole), 2):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        spoilt.append(bytes(changed))
    ignored = 0
    for content in spoilt:
        damaged.write_bytes(content)
        found = load_mined(damaged, LABELS, "x")
        ignored += found is None
        if found is not None:  # some bytes of a zip file, such as its dates, mean nothing
            assert np.array_equal(found.predicted, PREDICTED)
            assert np.array_equal(found.labels, LABELS)
    assert ignored > len(spoilt) // 2


def test_caches_of_other_kinds_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "mined.npz"
    for arrays in (
        {"predicted": PREDICTED, "identity": np.array("x")},
        {"labels": LABELS, "predicted": PREDICTED[:-1], "identity": np.array("x")},
        {"labels": LABELS, "predicted": PREDICTED / 2, "identity": np.array("x")},
        {"labels": LABELS, "predicted": np.array([None] * 5), "identity": np.array("x")},
        {"labels": LABELS, "predicted": PREDICTED, "identity": np.array(["x", "y"])},
        {"labels": LABELS, "predicted": PREDICTED, "identity": np.array("x"), "more": np.zeros(10**5)},
    ):
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
        assert load_mined(path, LABELS, "x") is None
    np.save(path.with_suffix(".npy"), LABELS)
    assert load_mined(path.with_suffix(".npy"), LABELS, "x") is None


def test_when_to_mine() -> None:
    assert [should_mine(epoch, 0) for epoch in range(4)] == [True, False, False, False]
    assert [should_mine(epoch, 1) for epoch in range(3)] == [True, True, True]
    assert [epoch for epoch in range(8) if should_mine(epoch, 3)] == [0, 3, 6]
