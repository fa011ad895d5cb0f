"""How sure a mean over queries is, and whether two runs on the same queries differ.

Both answers take the queries for independent draws: queries that show one object are not quite that, so with
few objects the truth is less certain than said here. With fewer than about 20 queries percentile intervals
are too narrow (Efron & Tibshirani 1993, chapter 14).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfcd.errors import EvaluationError

Doubles = NDArray[np.float64]
Values = Sequence[float] | NDArray[np.floating]

RESAMPLES = 10_000
FEW = 20  # queries below which an interval deserves a warning
_ENTRIES_AT_ONCE = 1 << 20  # resampled values held at a time: 8 MiB of indices and as much of values
_FEW_VALUES = 16
_TIE = 1e-9  # differences of no more are rounding
_ROUNDING = 1e-12  # share of the summed sizes by which the order of summation may move a sum


@dataclass(frozen=True)
class Interval:
    """Hold a mean and the ends of its interval, in the unit of the values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Hold what two runs on the same queries differ by, in the unit of the values.

    Attributes:
        mean: Mean of b - a: positive where the second run is better.
        low: Lower end of its bootstrap interval.
        high: Upper end.
        p: Two-sided p-value of the sign-flip permutation test.
        wins: Queries on which the second run is better.
        losses: Queries on which it is worse.
        ties: The others.
    """

    mean: float
    low: float
    high: float
    p: float
    wins: int
    losses: int
    ties: int


def bootstrap_mean(
    values: Values, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Give a mean with its bootstrap percentile interval.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        values: (N,) finite, one per query, at least one.
        level: Coverage aimed at, between 0 and 1.
        resamples: Samples of N drawn with replacement.
        seed: Equal seeds give equal intervals.

    Raises:
        EvaluationError: There are no values, one is not finite, or an option is out of range.
    """
    sample = _checked(values)
    if not (0 < level < 1 and resamples > 0):
        raise EvaluationError(
            f"An interval of level {level} from {resamples} resamples makes no sense.",
            "Give a level between 0 and 1, such as 0.95, and at least one resample.",
        )
    means = _resampled_means(sample, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(sample.mean()), float(low), float(high))


def paired_difference(
    a: Values, b: Values, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Paired:
    """Compare two runs query by query: b - a.

    The interval resamples the differences. The test flips their signs at random, as they could have come out
    had the runs been equally good. It is exact where all sign patterns are no more than `resamples`;
    otherwise that many are drawn and p = (k + 1) / (n + 1), which is never 0.
    Sources: Efron & Tibshirani (1993), chapters 13 and 15; Smucker, Allan & Carterette, "A Comparison of
    Statistical Significance Tests for Information Retrieval Evaluation" (2007), which recommends this test;
    Phipson & Smyth, "Permutation P-values Should Never Be Zero" (2010).

    Args:
        a: (N,) finite values of the first run, at least one.
        b: (N,) finite values of the second run, for the same queries in the same order.
        level: Coverage of the interval.
        resamples: Samples drawn for the interval, and again for the test.
        seed: Equal seeds give equal results.

    Raises:
        EvaluationError: As `bootstrap_mean`, or the lengths differ.
    """
    first, second = _checked(a), _checked(b)
    if len(first) != len(second):
        raise EvaluationError(
            f"A paired comparison of {len(first)} values with {len(second)} is not defined.",
            "Give both runs the same queries.",
        )
    differences = second - first
    differences[np.abs(differences) <= _TIE] = 0.0
    around = bootstrap_mean(differences, level=level, resamples=resamples, seed=seed)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    p = _sign_flip_p(differences[differences != 0], resamples, seed)
    ties = len(differences) - wins - losses
    return Paired(around.mean, around.low, around.high, p, wins, losses, ties)


def _resampled_means(sample: Doubles, resamples: int, rng: np.random.Generator) -> Doubles:
    n = len(sample)
    _, first, counts = np.unique(sample, return_index=True, return_counts=True)
    if len(first) <= _FEW_VALUES:
        # How often each value is drawn is multinomial: R@k of 60,000 queries in no time instead of seconds.
        # Values in order of occurrence, not of size: then swapping two runs mirrors their interval.
        order = np.argsort(first)
        drawn = rng.multinomial(n, counts[order] / n, size=resamples)
        return np.asarray(drawn @ sample[first[order]] / n)
    means = np.empty(resamples)
    for block in _blocks(resamples, n):
        chosen = rng.integers(0, n, (block.stop - block.start, n))
        means[block] = sample[chosen].mean(axis=1)
    return means


def _sign_flip_p(differences: Doubles, flips: int, seed: int) -> float:
    """Give the share of sign patterns whose sum is at least as far from 0; a tie has no sign to flip."""
    n = len(differences)
    far = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()
    exact = n < flips.bit_length()  # 2**n <= flips
    patterns = 2**n if exact else flips
    rng = np.random.default_rng(seed)
    extreme = 0
    for block in _blocks(patterns, max(1, n)):
        if exact:
            numbers = np.arange(block.start, block.stop)
            signs = (numbers[:, None] >> np.arange(n)) & 1
        else:
            signs = rng.integers(0, 2, (block.stop - block.start, n), dtype=np.int8)
        sums = (2.0 * signs - 1.0) @ differences
        extreme += int((np.abs(sums) >= far).sum())
    return extreme / patterns if exact else (extreme + 1) / (patterns + 1)


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Cut rows into blocks that hold a bounded number of entries."""
    step = max(1, _ENTRIES_AT_ONCE // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _checked(values: Values) -> Doubles:
    sample = np.array(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise EvaluationError(
            f"Values of shape {sample.shape} are not one finite number per query.",
            "Leave out queries for which the measure is not defined.",
        )
    return sample
