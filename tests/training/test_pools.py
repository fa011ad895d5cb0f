from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cfcd.training.pools import Bags


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
