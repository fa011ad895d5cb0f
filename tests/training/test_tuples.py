from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_tuples import slow_epoch

from cfcd.errors import TrainingError
from cfcd.training import TupleSampler
from cfcd.training.pools import Pools

Data = tuple[list[int], list[int]]
Drawn = list[tuple[int, list[int]]]


@st.composite
def data(draw: st.DrawFn) -> Data:
    """Up to seven classes, one of them with two images or more, predicted anyhow, in any order."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=7).filter(lambda sizes: max(sizes) > 1))
    labels = [3 * c - 2 for c, size in enumerate(sizes) for _ in range(size)]
    labels = draw(st.permutations(labels))
    guess = st.sampled_from([*sorted(set(labels)), 1000])
    return labels, [draw(guess) if draw(st.booleans()) else label for label in labels]


# Class 4 has no image predicted right, classes from 5 on have one image each; 99 is no class.
CONFUSED: Data = (
    [0] * 10 + [1] * 8 + [2] * 6 + [3] * 3 + [4] * 2 + [*range(5, 19)],
    [0] * 4
    + [1] * 5
    + [2]
    + [1] * 3
    + [0] * 5
    + [2, 2, 0, 0, 1, 1]
    + [3, 3, 0]
    + [0, 1]
    + [99, *range(6, 19)],
)
FIRST_EPOCH = [
    [26, 24, 7, 3, 36, 42, 32, 30],
    [27, 28, 8, 6, 2, 0, 23, 25],
    [18, 22, 9, 38, 29, 37, 11, 34],
    [1, 4, 20, 31, 39, 21, 33, 35],
    [4, 2, 15, 16, 27, 10, 26, 33],
    [25, 24, 5, 31, 32, 38, 39, 42],
]  # of CONFUSED with seed 1
FEW: Data = ([0] * 6 + [1] * 3 + [2] * 2, [0, 0, 0, 1, 1, 2, 1, 1, 0, 2, 0])


def as_list(sampler: TupleSampler, epoch: int) -> Drawn:
    drawn = sampler.epoch(epoch)
    return list(zip(drawn.passes.tolist(), drawn.images.tolist(), strict=True))


def features(drawn: Drawn, data: Data) -> Iterable[tuple[str, Hashable]]:
    """What is compared of an epoch: one value per feature and epoch, so that the values are independent."""
    labels, predicted = data
    for t, (_, (a, p, *negatives)) in enumerate(drawn):
        c = labels[a]
        from_fp = sum(predicted[n] == c for n in negatives)
        confused = sum(labels[n] == predicted[a] for n in negatives)
        yield f"anchor and positive {t}", (a, p)
        yield f"kinds of negatives {t}", (predicted[a] == c, from_fp, confused)
        yield f"kinds of negatives of an image {t}", (a, from_fp, confused)
        yield f"classes of negatives {t}", (c, *sorted(labels[n] for n in negatives))
        yield f"first negatives {t}", (c, predicted[a] == c, min(negatives))
        yield f"last negatives {t}", (c, predicted[a] == c, max(negatives))
        yield f"repeated negatives {t}", (c, *sorted(Counter(negatives).values()))
    yield "passes", tuple(number for number, _ in drawn)


def largest_difference(ones: Iterable[Drawn], others: Iterable[Drawn], data: Data) -> tuple[float, str]:
    """Compare two equally large samples of epochs by chi-squared; give the most extreme feature.

    The statistic is turned into a standard normal one by the Wilson-Hilferty cube root.
    """
    counts: dict[str, tuple[Counter[Hashable], Counter[Hashable]]] = defaultdict(
        lambda: (Counter(), Counter())
    )
    for side, sample in enumerate((ones, others)):
        for drawn in sample:
            for name, value in features(drawn, data):
                counts[name][side][value] += 1
    worst = (-math.inf, "")
    for name, (one, other) in counts.items():
        cells: dict[Hashable, list[int]] = defaultdict(lambda: [0, 0])
        for value in one.keys() | other.keys():
            rare = one[value] + other[value] < 25
            cell = cells["rare" if rare else value]
            cell[0] += one[value]
            cell[1] += other[value]
        if len(cells) > 1:
            k = len(cells) - 1
            statistic = sum((x - y) ** 2 / (x + y) for x, y in cells.values())
            z = ((statistic / k) ** (1 / 3) - 1 + 2 / (9 * k)) / math.sqrt(2 / (9 * k))
            worst = max(worst, (z, name))
    return worst


def slow_epochs(data: Data, seed: int, count: int, **chances: object) -> list[Drawn]:
    rng = np.random.default_rng(seed)
    return [slow_epoch(*data, rng, **chances) for _ in range(count)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def slow_confused() -> list[Drawn]:
    return slow_epochs(CONFUSED, 1, 3000)


def test_selection_probabilities_are_those_of_the_method(slow_confused: list[Drawn]) -> None:
    sampler = TupleSampler(*CONFUSED, seed=5)
    z, name = largest_difference([as_list(sampler, epoch) for epoch in range(3000)], slow_confused, CONFUSED)
    assert z < 4, name


def test_selection_probabilities_where_images_are_too_few() -> None:
    sampler = TupleSampler(*FEW, seed=5)
    ours = [as_list(sampler, epoch) for epoch in range(3000)]
    z, name = largest_difference(ours, slow_epochs(FEW, 1, 3000), FEW)
    assert z < 4, name


@pytest.mark.parametrize(
    "chances", [{"after_right": 1 / 3}, {"after_wrong": (1 / 2, 1 / 2)}, {"after_wrong": (1 / 3, 1 / 3)}]
)
def test_the_comparison_would_notice_others(slow_confused: list[Drawn], chances: dict[str, object]) -> None:
    z, _ = largest_difference(slow_confused[:1500], slow_epochs(CONFUSED, 2, 1500, **chances), CONFUSED)
    assert z > 4


def test_shares_of_hard_negatives() -> None:
    # Pools so full that none runs dry in the first half of a pass.
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(150), 60)
    predicted = np.where(rng.random(len(labels)) < 0.5, rng.integers(0, 150, len(labels)), labels)
    sampler = TupleSampler(labels, predicted, seed=1)
    images = np.concatenate([sampler.epoch(epoch).images[: len(labels) // 16] for epoch in range(8)])
    c, guess = labels[images[:, 0]], predicted[images[:, 0]]
    from_fp = predicted[images[:, 2:]] == c[:, None]
    confused = labels[images[:, 2:]] == guess[:, None]
    right = c == guess
    assert from_fp[right].mean() == pytest.approx(1 / 2, abs=0.015)
    assert from_fp[~right].mean() == pytest.approx(1 / 3, abs=0.015)
    assert confused[~right].mean() == pytest.approx(1 / 3, abs=0.015)
    # A positive of a wrong anchor is always one that was predicted right, of a right one only by chance.
    assert (predicted[images[~right, 1]] == c[~right]).all()
    assert 0.4 < (predicted[images[right, 1]] == c[right]).mean() < 0.6


@settings(deadline=None, max_examples=300)
@given(data(), st.integers(0, 3), st.integers(1, 4), st.sampled_from([3, 5, 8]))
def test_tuples_are_what_they_should_be_on_any_data(
    data: Data, epoch: int, processes: int, size: int
) -> None:
    labels, predicted = data
    drawn = TupleSampler(labels, predicted, seed=7, tuple_size=size).epoch(epoch, processes)
    assert drawn.images.dtype == np.int64
    assert drawn.images.shape == (math.ceil(len(labels) / (processes * size)) * processes, size)
    assert drawn.passes[0] == 0
    assert set(np.diff(drawn.passes)) <= {0, 1}

    unused = Counter(labels)
    used: set[int] = set()
    for number, (now, (a, p, *negatives)) in enumerate(
        zip(drawn.passes.tolist(), drawn.images.tolist(), strict=True)
    ):
        if number and now != drawn.passes[number - 1]:
            assert pass_may_end(unused, labels, size)
            unused, used = Counter(labels), set()
        c = labels[a]
        assert labels[p] == c
        assert p != a
        assert all(labels[n] != c for n in negatives)
        outside = sum(label != c for label in labels)
        times = Counter(negatives)
        assert len(times) == min(size - 2, outside)
        assert max(times.values()) - min(times.values()) <= 1
        assert not used & {a, p, *negatives}
        used |= {a, p, *negatives}
        unused -= Counter(labels[i] for i in {a, p, *negatives})


def pass_may_end(unused: Counter[int], labels: Sequence[int], size: int) -> bool:
    """Whether no class has a pair left, or one that has lacks unused images outside it."""
    pairs = [c for c in unused if unused[c] >= 2]
    return not pairs or any(
        unused.total() - unused[c] < min(size - 2, sum(label != c for label in labels)) for c in pairs
    )


@settings(deadline=None, max_examples=50)
@given(data(), st.integers(0, 5), st.integers(1, 5))
def test_an_epoch_for_several_processes_has_equal_blocks(data: Data, epoch: int, processes: int) -> None:
    sampler = TupleSampler(*data, seed=3)
    whole = sampler.epoch(epoch, processes).images
    assert len(whole) == processes * math.ceil(len(data[0]) / (8 * processes))
    alone = sampler.epoch(epoch).images
    assert np.array_equal(whole[: len(alone)], alone)


def test_blocks_of_a_pass_share_no_image() -> None:
    labels = np.repeat(np.arange(64), 8)
    images = TupleSampler(labels, labels).epoch(0, 4).images
    assert images.shape == (64, 8)
    blocks = images.reshape(4, 16, 8)[:, :12]
    assert len(np.unique(blocks)) == 4 * 12 * 8


def test_seed_and_epoch_decide_everything() -> None:
    labels, predicted = CONFUSED
    sampler = TupleSampler(labels, predicted, seed=1)
    first, second = sampler.epoch(0).images, sampler.epoch(1).images
    assert np.array_equal(first, sampler.epoch(0).images)  # drawing leaves nothing behind
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, TupleSampler(labels, predicted, seed=2).epoch(0).images)
    # Resuming on another machine or version continues the same run.
    assert first.tolist() == FIRST_EPOCH


def test_names_of_classes_do_not_matter() -> None:
    labels, predicted = map(np.array, CONFUSED)
    names = np.arange(100) * 1_000_003 - 7
    renamed = TupleSampler(names[labels], names[predicted]).epoch(0).images
    assert np.array_equal(renamed, TupleSampler(labels, predicted).epoch(0).images)


def test_a_predicted_class_without_images_is_no_class() -> None:
    labels = np.repeat(np.arange(10), 6) * 10
    wrong = np.arange(len(labels)) % 2 == 0
    epochs = [
        TupleSampler(labels, np.where(wrong, nothing, labels)).epoch(0).images
        for nothing in (-3, 55, 89, 1000)
    ]
    assert all(np.array_equal(epochs[0], other) for other in epochs)


def test_refilling_costs_what_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    refilled = []
    refill = Pools.refill

    def counted(pools: Pools, used: Sequence[int]) -> None:
        refilled.append(len(used))
        refill(pools, used)

    monkeypatch.setattr(Pools, "refill", counted)
    drawn = TupleSampler(labels := [0, 0, *range(1, 200)], labels).epoch(0)
    assert len(refilled) == drawn.passes[-1] == len(drawn.images) - 1
    assert sum(refilled) <= drawn.images.size


@pytest.mark.parametrize(
    ("sizes", "once", "least"),
    [([12] * 40, 0.96, 14), ([60, 40, 30, 20] + [10] * 20 + [3] * 40 + [2] * 40, 0.88, 4)],
    ids=["balanced", "long-tailed"],
)
def test_an_epoch_uses_every_image_about_once(sizes: list[int], once: float, least: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    predicted = np.where(np.arange(len(labels)) % 7 == 0, (labels + 1) % len(sizes), labels)
    sampler = TupleSampler(labels, predicted)
    times = [np.bincount(sampler.epoch(epoch).images.ravel(), minlength=len(labels)) for epoch in range(20)]
    assert np.mean(np.array(times) == 1) > once
    assert np.max(times) <= 2
    # Over 20 epochs no image is left behind.
    assert np.min(np.sum(times, axis=0)) >= least


@pytest.mark.parametrize(
    "sizes", [(2, 1), (1, 2), (2, 2), (3, 1), (3, 3), (2, 1, 1), (500, 1), (2, *[1] * 500)]
)
@pytest.mark.parametrize("wrong", [False, True])
def test_tiny_and_lopsided_data_come_to_an_end(sizes: tuple[int, ...], wrong: bool) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    predicted = (labels + 1) % len(sizes) if wrong else labels
    images = TupleSampler(labels, predicted).epoch(0, processes=3).images
    assert images.shape == (3 * math.ceil(len(labels) / 24), 8)
    assert (labels[images[:, 1]] == labels[images[:, 0]]).all()
    assert (labels[images[:, 2:]] != labels[images[:, :1]]).all()


@pytest.mark.parametrize(
    ("labels", "predicted", "size", "message"),
    [
        ([0, 0, 0], [0, 0, 0], 8, "images of two classes, but these 3 images have 1"),
        ([], [], 8, "these 0 images have 0"),
        ([0, 1, 2], [0, 0, 0], 8, "Each of the 3 classes has one image"),
        ([0, 0, 1], [0, 0], 8, "3 labels but 2 predicted"),
        ([0.0, 0.5], [0, 0], 8, "labels are a 1-dimensional array of float64"),
        ([0, 0], [[0], [0]], 8, "predicted classes are a 2-dimensional array"),
        ([0, 0, 1], [0, 0, 1], 2, "no negative"),
    ],
)
def test_data_that_cannot_work_are_refused(
    labels: list[int], predicted: list[int], size: int, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        TupleSampler(labels, predicted, tuple_size=size)


def test_no_process_is_refused() -> None:
    with pytest.raises(TrainingError, match="0 processes"):
        TupleSampler([0, 0, 1], [0, 0, 1]).epoch(0, processes=0)
