from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cfcd.training.pools import Bags, Pools


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99)), max_size=40),
)
def test_bags_are_sets_that_forget_nothing(sizes: list[int], steps: list[tuple[int, int]]) -> None:
    total = sum(sizes)
    things = np.random.default_rng(0).permutation(total + 3)[:total]  # three things are in no bag
    ends = np.cumsum(sizes)
    full = [set(things[end - size : end].tolist()) for end, size in zip(ends, sizes, strict=True)]
    model = [set(bag) for bag in full]
    bags = Bags(things, np.array(sizes), total + 3)
    for step, choice in steps:
        bag = step % len(sizes)
        if model[bag]:
            thing = sorted(model[bag])[choice % len(model[bag])]
            bags.use(bag, thing)
            model[bag].remove(thing)
        else:
            bags.refill(bag)
            model[bag] = set(full[bag])
        for number, expected in enumerate(model):
            start, left = bags.start[number], bags.left[number]
            assert set(bags.things[start : start + left]) == expected
            assert left == len(expected)


def test_both_ways_of_refilling_make_everything_unused_again() -> None:
    bag_of = np.sort(np.random.default_rng(0).integers(0, 20, 200))  # ten classes
    predicted = np.where(bag_of & 1, (bag_of // 2 + 1) % 10, bag_of // 2)
    random = Random(0).random
    pools = Pools(bag_of, predicted, 10, random)
    fresh = state(pools)
    arrays = pools.images.left
    for count in (3, 150):
        used = [pools.use_any(pools.draw_class()) for _ in range(count)]
        assert len(set(used)) == count
        assert state(pools) != fresh
        pools.refill(used)
        assert state(pools) == fresh
        # Few images are refilled in place: passes may be short, and there may be many of them.
        assert (pools.images.left is arrays) == (count == 3)


def state(pools: Pools) -> list[object]:
    bags = (pools.images, pools.mistaken, pools.classes, pools.paired)
    unused = [
        set(one.things[start : start + left])
        for one in bags
        for start, left in zip(one.start, one.left, strict=True)
    ]
    return [*unused, pools.unused.tolist(), pools.n_unused]
