"""A linear whitening in closed form: what labels and pooled features alone say about the metric.

Gradient descent on a projection from 1,280 numbers overfits a small collection; two regularised covariance
matrices do not, and they cost a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfcd.errors import TrainingError

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

_BLOCK = 4096  # rows turned into float64 at a time
_NOISE = 1e-10  # share of the largest eigenvalue below which there is only rounding


@dataclass(frozen=True)
class Metric:
    """Hold a linear layer: the descriptor of a pooled feature x is weight x + bias, at unit length.

    Attributes:
        weight: (D, C) float32.
        bias: (D,) float32.
        centre: (C,) float32, the part of the features' mean that is subtracted: bias = -weight centre.
    """

    weight: Floats
    bias: Floats
    centre: Floats

    def __call__(self, features: Floats) -> Floats:
        """Map pooled features (N, C) to descriptors (N, D) float32, unit rows."""
        projected = features @ self.weight.T + self.bias
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        unit: Floats = projected / np.maximum(norms, np.finfo(np.float32).tiny)
        return unit


def fit_metric(
    features: Floats,
    labels: NDArray[np.int64],
    *,
    within: float,
    between: float,
    centre: float,
    gain: float,
    dim: int | None = None,
) -> Metric:
    """Fit the whitening to labelled features.

    With mu the mean, M_k the class means, S_w the covariance within classes = V diag(e) V', mean eigenvalue
    e_, c = centre mu and r(A, z) = A / mean |(x - z) A|:
        W = r(V (e + within e_)^-1/2, c)                      what varies within classes counts less
        L = V (e + between e_)^-1/2, U the principal directions of (M - mu) L
        D = gain r(L U, mu)                                   what tells classes apart counts more
        Q = (W W' + D D')^1/2 symmetric;  weight = Q', bias = -Q' c.
    With `dim`, Q is followed by the projection onto the principal directions (uncentred) of the unit
    descriptors: of all projections to that length it changes inner products least.
    Source: within-class whitening as in Mikolajczyk, Matas, "Improving Descriptors for Fast Tree Matching by
    Optimal Linear Projection" (2007), with Fisher's discriminant directions; the sum of the two, the ridges
    and the half centring are measured choices (docs/measurements.md).

    Args:
        features: (N, C) float32 pooled, not normalised.
        labels: (N,) class of every row.
        within: Ridge of W in mean eigenvalues; larger is closer to no whitening.
        between: Ridge of D, in the same unit.
        centre: Share of the mean to subtract, 0 to 1.
        gain: Weight of the discriminant directions; 0 leaves them out.
        dim: D; as many as channels when None.

    Raises:
        TrainingError: The features do not vary within classes, or hold values that are not finite.
    """
    if not np.isfinite(features).all():
        raise TrainingError(
            "Pooled features hold values that are not finite.", "Check the weights of the backbone."
        )
    classes, numbers = np.unique(labels, return_inverse=True)
    counts = np.bincount(numbers)
    sums = np.zeros((len(classes), features.shape[1]))
    for rows, block in _blocks(features):
        np.add.at(sums, numbers[rows], block)
    means, mean = sums / counts[:, None], sums.sum(0) / len(features)
    scatter = np.zeros((features.shape[1], features.shape[1]))
    for rows, block in _blocks(features):
        rest = block - means[numbers[rows]]
        scatter += rest.T @ rest
    values, vectors = np.linalg.eigh(scatter / len(features))
    values = values.clip(0)
    level = values.mean()
    if not level > 0:
        raise TrainingError(
            "All pictures of a class have the same features, so the whitening cannot be fitted.",
            "Give classes two different pictures or more, or use whitening.kind=none.",
        )
    middle = centre * mean
    spread = vectors * (values + within * level) ** -0.5
    spread /= _mean_length(features, middle, spread)
    square = spread @ spread.T
    if gain:
        square += _discriminant(features, means, mean, vectors * (values + between * level) ** -0.5, gain)
    values, vectors = np.linalg.eigh(square)
    weight = (vectors * values.clip(0) ** 0.5) @ vectors.T
    if dim is not None and dim < len(weight):
        weight = _principal(features, middle, weight, dim) @ weight
    return Metric(
        np.ascontiguousarray(weight, np.float32),
        (-weight @ middle).astype(np.float32),
        middle.astype(np.float32),
    )


def class_means(descriptors: Floats, labels: NDArray[np.int64], classes: int) -> Floats:
    """Average descriptors (N, D) per class into unit rows (classes, D); a class without rows gets zeros."""
    sums = np.zeros((classes, descriptors.shape[1]), np.float32)
    np.add.at(sums, labels, descriptors)
    unit: Floats = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return unit


def _discriminant(features: Floats, means: Doubles, mean: Doubles, spread: Doubles, gain: float) -> Doubles:
    """Compute D D' (C, C)."""
    between = (means - mean) @ spread
    _, vectors = np.linalg.eigh(between.T @ between)
    kept = min(len(means) - 1, len(vectors))  # the means span no more
    directions = spread @ vectors[:, len(vectors) - kept :]
    directions *= gain / _mean_length(features, mean, directions)
    found: Doubles = directions @ directions.T
    return found


def _principal(features: Floats, middle: Doubles, weight: Doubles, dim: int) -> Doubles:
    """Find the `dim` principal directions (dim, C) of the unit descriptors."""
    second = np.zeros_like(weight)
    for _, block in _blocks(features):
        projected = (block - middle) @ weight
        projected /= np.linalg.norm(projected, axis=1, keepdims=True).clip(np.finfo(float).tiny)
        second += projected.T @ projected
    values, vectors = np.linalg.eigh(second)
    values, vectors = values[::-1], vectors[:, ::-1]
    known = int((values > _NOISE * values[0]).sum())
    if known < dim:
        # Rounding would choose the rest: take the axes in turn instead, made orthogonal.
        vectors, _ = np.linalg.qr(np.hstack([vectors[:, :known], np.eye(len(vectors))]))
    return np.ascontiguousarray(vectors[:, :dim].T)


def _mean_length(features: Floats, middle: Doubles, matrix: Doubles) -> float:
    total = sum(np.linalg.norm((block - middle) @ matrix, axis=1).sum() for _, block in _blocks(features))
    return float(total) / len(features) or 1.0


def _blocks(features: Floats) -> Iterator[tuple[slice, Doubles]]:
    starts = range(0, len(features), _BLOCK)
    return ((slice(at, at + _BLOCK), features[at : at + _BLOCK].astype(np.float64)) for at in starts)
