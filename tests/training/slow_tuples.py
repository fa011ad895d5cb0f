"""The tuple rules of the CFCD method, spelled out slowly with sets and lists."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def pick(rng: np.random.Generator, things: Sequence[int]) -> int:
    return int(things[rng.integers(len(things))])


def slow_epoch(
    labels: Sequence[int],
    predicted: Sequence[int],
    rng: np.random.Generator,
    *,
    size: int = 8,
    after_right: float = 1 / 2,
    after_wrong: tuple[float, float] = (1 / 3, 1 / 2),
) -> list[tuple[int, list[int]]]:
    """List (pass, images) of the tuples of one epoch."""
    everything = set(range(len(labels)))
    classes = sorted(set(labels))
    tuples: list[tuple[int, list[int]]] = []
    unused, passes = set(everything), 0

    def of(c: int) -> list[int]:
        return [i for i in sorted(unused) if labels[i] == c]

    def fp(c: int) -> list[int]:
        return [i for i in sorted(unused) if labels[i] != c and predicted[i] == c]

    while len(tuples) < math.ceil(len(labels) / size):
        pairs = [c for c in classes if len(of(c)) >= 2]
        c = pick(rng, pairs) if pairs else None
        needed = min(size - 2, sum(label != c for label in labels))
        if c is None or len(unused) - len(of(c)) < needed:
            unused, passes = set(everything), passes + 1
            continue

        a = pick(rng, of(c))
        unused -= {a}
        p = (
            pick(rng, [i for i in of(c) if predicted[i] == c] or of(c))
            if predicted[a] != c
            else pick(rng, of(c))
        )
        unused -= {p}
        negatives: list[int] = []
        for _ in range(size - 2):
            pool: list[int] = []
            if predicted[a] == c:
                if rng.random() < after_right:
                    pool = fp(c)
            elif rng.random() < after_wrong[0]:
                pool = fp(c)
            elif rng.random() < after_wrong[1]:
                pool = of(predicted[a])
            if pool:
                negatives.append(pick(rng, pool))
                unused -= {negatives[-1]}
        while len(negatives) < needed:
            others = [o for o in classes if o != c and of(o)]
            for o in rng.permutation(others)[: size - 2 - len(negatives)]:
                negatives.append(pick(rng, of(int(o))))
                unused -= {negatives[-1]}
        tuples.append((passes, [a, p, *(negatives[slot % needed] for slot in range(size - 2))]))
    return tuples
