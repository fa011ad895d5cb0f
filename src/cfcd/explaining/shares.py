r"""How a score of two descriptors is made up of positions in the last map.

With x_ic = max(F_ic, eps) at position i of n, GeM is f_c = (1/n sum_i x_ic^p)^(1/p). It is no sum over
positions, but homogeneous of degree one in x, so by Euler's theorem it is slopes times inputs:

    f_c = sum_i x_ic df_c/dx_ic,   x_ic df_c/dx_ic = f_c x_ic^p / sum_j x_jc^p.

That is the one split in which a position has what its input times its slope gives; integrated gradients along
the straight line from the empty map give the same, since the slope does not change along it.

The whitening is affine, g = A f + b, and the cosine with a unit vector t is <g, t> / |g|. Position i has

    <A (its parts of f), t> / |g|  +  <b, t> / (n |g|).

The bias term belongs to no position, and every position gets an equal part of it: where the bias takes away
the mean of a collection, b = -A mean(f), a position then counts by what it has more or less than its part of
that mean. The term is kept too (`constant`), so that it can be taken out again.

With K scales the descriptor is m / |m|, m = 1/K sum_k g_k / |g_k|: each scale is split as above and weighs
1 / (K |m|). Their maps come to the finest grid by area: a cell gives each cell it overlaps the overlapping
part of its share, which keeps the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.explaining.network import Whitening


@dataclass(frozen=True)
class Parts:
    """Hold one picture at one scale, taken apart.

    Args:
        of_pooled: (C, h, w) float64, what each position has of f; their sum over positions is f.
        g: (D,) float64, the whitened vector, not normalised.
    """

    of_pooled: NDArray[np.float64]
    g: NDArray[np.float64]

    @property
    def grid(self) -> tuple[int, int]:
        """Give (h, w)."""
        return self.of_pooled.shape[1], self.of_pooled.shape[2]


def take_apart(last_map: NDArray[np.float32], whitening: Whitening, p: float, eps: float) -> Parts:
    """Split the pooled vector of a last map (C, h, w) over positions, and whiten it."""
    largest = np.maximum(last_map.max((1, 2), keepdims=True).astype(np.float64), eps)
    # Relative to the largest of its channel, so that no power overflows or underflows to 0 / 0.
    powers = (np.maximum(last_map, eps) / largest) ** p
    sums = powers.sum((1, 2), keepdims=True)
    pooled = largest * (sums / (last_map.shape[1] * last_map.shape[2])) ** (1 / p)
    return Parts(powers * (pooled / sums), whitening(pooled.reshape(-1)))


def describe(scales: Sequence[Parts]) -> NDArray[np.float64]:
    """Compute the unit descriptor (D,): of several scales the normalised mean of unit vectors."""
    mean: NDArray[np.float64] = np.mean([one.g / np.linalg.norm(one.g) for one in scales], axis=0)
    return mean / np.linalg.norm(mean)


def share_map(
    scales: Sequence[Parts], whitening: Whitening, other: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Split the cosine of a picture's descriptor with another one over positions.

    Args:
        scales: The picture, taken apart.
        whitening: The layer they came through.
        other: (D,), the other picture's unit descriptor.

    Returns:
        (h, w) on the finest grid, adding up to the cosine, and the bias term that is spread evenly in it.
    """
    finest = max((one.grid for one in scales), key=lambda grid: grid[0] * grid[1])
    lengths = [float(np.linalg.norm(one.g)) for one in scales]
    mean_length = float(
        np.linalg.norm(np.mean([one.g / n for one, n in zip(scales, lengths, strict=True)], 0))
    )
    direction, of_bias = whitening.back(other), float(whitening.bias @ other)
    total, constant = np.zeros(finest), 0.0
    for one, length in zip(scales, lengths, strict=True):
        weight = 1 / (len(scales) * mean_length * length)
        total += regrid(weight * np.tensordot(direction, one.of_pooled, 1), finest)
        constant += weight * of_bias
    return total + constant / total.size, constant


def regrid(shares: NDArray[np.float64], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Bring (h, w) shares to another grid over the same area; their sum stays."""
    down, across = (_overlaps(old, new) for old, new in zip(shares.shape, grid, strict=True))
    out: NDArray[np.float64] = down @ shares @ across.T
    return out


def _overlaps(old: int, new: int) -> NDArray[np.float64]:
    """Give (new, old): which part of each of `old` equal cells of a line lies in each of `new`."""
    starts, stops = np.arange(new)[:, None] / new, np.arange(1, new + 1)[:, None] / new
    first, last = np.arange(old) / old, np.arange(1, old + 1) / old
    shared: NDArray[np.float64] = np.minimum(stops, last) - np.maximum(starts, first)
    return np.clip(shared, 0, None) * old
