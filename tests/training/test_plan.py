from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.errors import UsageError
from cfcd.training.plan import EpochPlan, check_shares, learning_rate, plan_coarse, plan_fine
from cfcd.training.recipe import PhaseRecipe
from cfcd.training.tuples import TupleSampler

SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(1, 60), st.integers(1, 20), SEEDS, st.integers(0, 100))
def test_full_batches_of_as_different_pictures_as_there_are(
    images: int, batch: int, seed: int, epoch: int
) -> None:
    plan = plan_coarse(images, batch, seed=seed, epoch=epoch)
    assert plan.images.shape == plan.slots.shape == (len(plan), batch)
    assert len(plan) == max(1, images // batch)
    counts = Counter(plan.images.ravel().tolist())
    assert set(counts) <= set(range(images))
    if images >= batch:
        assert set(counts.values()) == {1}
    else:
        # One batch: every picture, as often as any other or once more.
        assert len(counts) == images
        assert max(counts.values()) - min(counts.values()) <= 1
    assert plan.slots.ravel().tolist() == list(range(plan.images.size))


def test_every_picture_once_where_batches_come_out_even() -> None:
    plan = plan_coarse(24, 8, seed=0, epoch=0)
    assert len(plan) == 3
    assert sorted(plan.images.ravel().tolist()) == list(range(24))


def test_what_is_left_over_changes_from_epoch_to_epoch() -> None:
    seen = [set(plan_coarse(10, 4, seed=0, epoch=epoch).images.ravel().tolist()) for epoch in range(20)]
    assert all(len(some) == 8 for some in seen)
    assert set.union(*seen) == set(range(10))


def test_seed_and_epoch_decide_the_order() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(plan_coarse(40, 8, seed=seed, epoch=epoch).images.ravel().tolist())

    assert order(3, 5) == order(3, 5)
    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_the_order_is_even() -> None:
    """Each picture comes first about as often as any other: chi-squared, 9 degrees, the 0.999 quantile."""
    firsts = Counter(int(plan_coarse(10, 2, seed=1, epoch=epoch).images[0, 0]) for epoch in range(1000))
    assert sum((firsts[picture] - 100) ** 2 / 100 for picture in range(10)) < 27.9


def sampler() -> TupleSampler:
    labels = np.repeat(np.arange(5), 5)
    return TupleSampler(labels, np.roll(labels, 1), seed=4, tuple_size=4)


@pytest.mark.parametrize("batch", [4, 8, 12])
def test_fine_steps_are_whole_tuples(batch: int) -> None:
    plan = plan_fine(sampler(), batch, epoch=2)
    drawn = sampler().epoch(2, processes=batch // 4).images
    assert plan.images.shape == (-(-25 // batch), batch)
    assert [
        step[start : start + 4].tolist() for step in plan.images for start in range(0, batch, 4)
    ] == drawn.tolist()
    assert plan.slots.ravel().tolist() == list(range(plan.images.size))
    labels = plan.images.reshape(-1, 4) // 5
    assert (labels[:, 0] == labels[:, 1]).all()
    assert (labels[:, 2:] != labels[:, :1]).all()


@given(st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(1, 50), SEEDS)
def test_processes_share_a_step_without_rest(processes: int, images: int, seed: int) -> None:
    plan = plan_coarse(images, 12, seed=seed, epoch=0)
    shares = [plan.share(processes, process) for process in range(processes)]
    assert all(share.images.shape == (len(plan), 12 // processes) for share in shares)
    np.testing.assert_array_equal(np.concatenate([share.images for share in shares], 1), plan.images)
    np.testing.assert_array_equal(np.concatenate([share.slots for share in shares], 1), plan.slots)


def test_a_share_of_the_fine_phase_is_whole_tuples() -> None:
    plan = plan_fine(sampler(), 8, epoch=0)
    second = plan.share(2, 1)
    assert second.images.tolist() == sampler().epoch(0, processes=2).images[1::2].tolist()
    assert second.slots[0].tolist() == [4, 5, 6, 7]


def test_steps_that_are_done_are_left_out() -> None:
    plan = plan_coarse(20, 4, seed=0, epoch=0)
    rest = plan.after(3)
    assert rest.images.tolist() == plan.images[3:].tolist()
    assert rest.slots.tolist() == [[12, 13, 14, 15], [16, 17, 18, 19]]
    assert (len(plan.after(0)), len(plan.after(5))) == (5, 0)
    assert isinstance(rest, EpochPlan)


@pytest.mark.parametrize(
    ("step", "rate"),
    [  # 8 steps, 4 of them rising from 0.2: times (1 + cos(pi step / 8)) / 2
        (0, 0.4),
        (1, 0.6 * 0.9619397662556434),
        (2, 0.8 * 0.8535533905932737),
        (3, 0.6913417161825449),
        (4, 0.5),
        (6, 0.1464466094067262),
        (7, 0.0380602337443566),
    ],
)
def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine(step: int, rate: float) -> None:
    phase = PhaseRecipe(epochs=1, batch=2, lr=3.0, warmup=0.5, warmup_from=0.2)
    assert learning_rate(phase, step, 8) == pytest.approx(3 * rate, rel=1e-12)


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    phase = PhaseRecipe(epochs=1, batch=2, lr=0.01)
    assert learning_rate(phase, 0, 1) == 0.01
    rates = [learning_rate(phase, step, 20) for step in range(20)]
    assert rates == sorted(rates, reverse=True)
    assert rates[10] == pytest.approx(0.005)
    assert rates[-1] > 0


@pytest.mark.parametrize(("steps", "share"), [(1, 0.01), (25, 0.25), (100, 1.0), (400, 1.0)])
def test_short_phases_learn_slower_in_proportion(steps: int, share: float) -> None:
    phase = PhaseRecipe(epochs=1, batch=2, lr=0.5, warmup=0.3)
    slower = replace(phase, full_lr_steps=100)
    for step in range(steps):
        assert learning_rate(slower, step, steps) == pytest.approx(share * learning_rate(phase, step, steps))


def test_a_warm_up_of_less_than_a_step_is_none() -> None:
    phase = PhaseRecipe(epochs=1, batch=2, lr=1.0, warmup=0.01, warmup_from=0.1)
    assert learning_rate(phase, 0, 50) == 1.0


@pytest.mark.parametrize("shares", [(32, 1, 1, 1), (32, 2, 2, 8), (32, 4, 1, 8), (12, 3, 4, 1)])
def test_batches_that_split_evenly(shares: tuple[int, int, int, int]) -> None:
    check_shares("fine", *shares)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((32, 3, 1), "coarse.batch 32 does not split over 3 processes and 1 accumulated parts. "),
        ((32, 4, 3), "coarse.batch 32 does not split over 4 processes and 3 accumulated parts. "),
        ((32, 8, 1, 8), "over 8 processes and 1 accumulated parts in tuples of 8. "),
    ],
)
def test_batches_that_do_not_are_refused(shares: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_shares("coarse", *shares)
    assert words in str(caught.value)
    assert str(caught.value).endswith(f"Make it a multiple of {int(np.prod(shares[1:]))}.")
