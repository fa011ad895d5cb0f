"""The closed-form whitening against its definition, written with inverses and loops."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.errors import TrainingError
from cfcd.training import metric as module
from cfcd.training.metric import Metric, class_means, fit_metric

RIDGES = st.floats(0.05, 20)
KNOBS = st.fixed_dictionaries(
    {"within": RIDGES, "between": RIDGES, "centre": st.floats(0, 1), "gain": st.floats(0, 3)}
)
USUAL = {"within": 1.0, "between": 0.5, "centre": 0.5, "gain": 1.5}


def example(
    seed: int, classes: int = 4, channels: int = 6, images: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Draw positive features whose channels differ in spread, as pooled ones do; every class is there."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    middles = rng.uniform(0.5, 2, (classes, channels))
    mixing = rng.normal(size=(channels, channels)) * rng.uniform(0.05, 0.6, channels)
    features = np.abs(middles[labels] + rng.normal(size=(images, channels)) @ mixing)
    return features.astype(np.float32), labels.astype(np.int64)


def slow_square(
    features: np.ndarray, labels: np.ndarray, within: float, between: float, centre: float, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    """W W' + D D' and c, from inverses alone: A A' is the same for every root A of an inverse."""
    x = features.astype(np.float64)
    mean = sum(x) / len(x)
    means = {k: np.mean([row for row, own in zip(x, labels, strict=True) if own == k], 0) for k in labels}
    scatter = sum(np.outer(row - means[k], row - means[k]) for row, k in zip(x, labels, strict=True)) / len(x)
    level = np.trace(scatter) / len(scatter) * np.eye(len(scatter))

    def scaled(square: np.ndarray, middle: np.ndarray) -> np.ndarray:
        """Divide A A' by the squared mean length of (x - middle) A."""
        return square / np.mean([np.sqrt((row - middle) @ square @ (row - middle)) for row in x]) ** 2

    spread = np.linalg.inv(scatter + between * level)
    gaps = np.array([means[k] - mean for k in sorted(means)])
    across = spread @ gaps.T @ np.linalg.pinv(gaps @ spread @ gaps.T) @ gaps @ spread
    ours = scaled(np.linalg.inv(scatter + within * level), centre * mean)
    return ours + gain**2 * scaled(across, mean), centre * mean


@pytest.mark.parametrize(
    ("classes", "channels"),
    [(2, 6), (4, 6), pytest.param(9, 5, id="more classes than channels"), pytest.param(3, 1, id="1 channel")],
)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), knobs=KNOBS)
def test_equals_the_definition(classes: int, channels: int, seed: int, knobs: dict[str, float]) -> None:
    features, labels = example(seed, classes, channels)
    square, middle = slow_square(features, labels, **knobs)
    found = fit_metric(features, labels, **knobs)
    weight = found.weight.astype(np.float64)
    # A symmetric matrix without negative eigenvalues is known by its square.
    np.testing.assert_array_equal(weight, weight.T)
    largest = np.linalg.eigvalsh(weight)[-1]
    assert np.linalg.eigvalsh(weight)[0] > -1e-5 * largest
    np.testing.assert_allclose(weight @ weight, square, rtol=1e-4, atol=1e-5 * largest**2)
    np.testing.assert_allclose(found.centre, middle, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.bias, -weight @ middle, rtol=1e-4, atol=1e-5 * largest)
    assert {found.weight.dtype, found.bias.dtype, found.centre.dtype} == {np.dtype(np.float32)}


def test_few_rows_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = example(3)
    whole = fit_metric(features, labels, **USUAL, dim=3)
    monkeypatch.setattr(module, "_BLOCK", 7)
    parts = fit_metric(features, labels, **USUAL, dim=3)
    np.testing.assert_allclose(parts(features), whole(features), atol=1e-5)


def test_a_metric_is_a_linear_layer_and_unit_rows() -> None:
    found = fit_metric(*example(0), **USUAL, dim=4)
    features, _ = example(1)
    projected = [found.weight @ row + found.bias for row in features]
    expected = [row / np.sqrt((row**2).sum()) for row in projected]
    np.testing.assert_allclose(found(features), expected, atol=1e-5)
    assert found(features).dtype == np.float32
    # The middle itself has no direction.
    here = Metric(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), np.zeros(2, np.float32))
    assert here(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]


def gram(features: np.ndarray, labels: np.ndarray, knobs: dict[str, float]) -> np.ndarray:
    descriptors = fit_metric(features, labels, **knobs)(features)
    return descriptors @ descriptors.T


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), knobs=KNOBS, factor=st.floats(1e-3, 1e3))
def test_the_unit_of_the_features_means_nothing(seed: int, knobs: dict[str, float], factor: float) -> None:
    features, labels = example(seed)
    scaled = (features * np.float32(factor)).astype(np.float32)
    found, expected = fit_metric(scaled, labels, **knobs), fit_metric(features, labels, **knobs)
    np.testing.assert_allclose(found(scaled), expected(features), atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), knobs=KNOBS)
def test_neither_order_nor_the_names_of_classes_count(seed: int, knobs: dict[str, float]) -> None:
    features, labels = example(seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    names = rng.permutation(100)[labels] - 50
    found = fit_metric(features[order], names[order], **knobs)
    np.testing.assert_allclose(found(features), fit_metric(features, labels, **knobs)(features), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), knobs=KNOBS)
def test_turning_the_features_changes_no_similarity(seed: int, knobs: dict[str, float]) -> None:
    features, labels = example(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0]
    turned = (features @ turn).astype(np.float32)
    np.testing.assert_allclose(gram(turned, labels, knobs), gram(features, labels, knobs), atol=5e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), knobs=KNOBS)
def test_centred_features_may_lie_anywhere(seed: int, knobs: dict[str, float]) -> None:
    features, labels = example(seed)
    moved = features + np.float32(3)
    knobs = knobs | {"centre": 1.0}
    np.testing.assert_allclose(gram(moved, labels, knobs), gram(features, labels, knobs), atol=5e-4)


@pytest.mark.parametrize("dim", [1, 3, 5])
def test_fewer_numbers_are_the_principal_directions_of_the_descriptors(dim: int) -> None:
    features, labels = example(5)
    full = fit_metric(features, labels, **USUAL)
    found = fit_metric(features, labels, **USUAL, dim=dim)
    assert found.weight.shape == (dim, 6)
    assert found.bias.shape == (dim,)
    directions = found.weight.astype(np.float64) @ np.linalg.inv(full.weight.astype(np.float64))
    np.testing.assert_allclose(directions @ directions.T, np.eye(dim), atol=1e-4)
    np.testing.assert_allclose(found.bias, -found.weight @ full.centre, atol=1e-4)
    # No orthonormal directions hold more of the descriptors' squared length than the first eigenvectors.
    descriptors = full(features).astype(np.float64)
    held = ((descriptors @ directions.T) ** 2).sum(0)
    best = np.linalg.eigvalsh(descriptors.T @ descriptors)[::-1][:dim]
    np.testing.assert_allclose(held, best, rtol=1e-4)


@pytest.mark.parametrize("dim", [6, 7, None])
def test_no_fewer_numbers_than_channels_is_no_projection(dim: int | None) -> None:
    features, labels = example(5)
    full = fit_metric(features, labels, **USUAL)
    np.testing.assert_array_equal(fit_metric(features, labels, **USUAL, dim=dim).weight, full.weight)


def test_rounding_does_not_choose_directions() -> None:
    """With fewer pictures than numbers, nothing in the data says where the last directions point."""
    features, labels = example(3, classes=4, channels=24, images=10)
    order = np.random.default_rng(0).permutation(len(features))
    one = fit_metric(features, labels, **USUAL, dim=16)
    two = fit_metric(features[order], labels[order], **USUAL, dim=16)
    new = np.random.default_rng(1).uniform(0, 2, (8, 24)).astype(np.float32)
    assert np.abs(one(new) @ one(new).T - two(new) @ two(new).T).max() < 1e-4
    assert np.linalg.matrix_rank(one.weight) == 16


def test_known_classes_come_closer() -> None:
    """The two features differ between the classes in one channel, within them in another."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    features = np.stack([2 + labels + rng.normal(0, 0.1, 100), rng.normal(3, 1, 100)], 1).astype(np.float32)

    def gap(gain: float) -> float:
        cosines = gram(features, labels, {"within": 0.01, "between": 0.01, "centre": 1.0, "gain": gain})
        same = labels[:, None] == labels
        return float(cosines[same].mean() - cosines[~same].mean())

    raw = features - features.mean(0)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    before = float((raw @ raw.T)[:50, :50].mean() - (raw @ raw.T)[:50, 50:].mean())
    assert before + 0.3 < gap(0) < gap(1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(bad: float) -> None:
    features, labels = example(0)
    features[3, 2] = bad
    with pytest.raises(TrainingError, match="not finite"):
        fit_metric(features, labels, **USUAL)


def test_classes_without_variety_are_refused() -> None:
    features = np.repeat(example(0)[0][:4], 3, axis=0)
    labels = np.repeat(np.arange(4), 3)
    with pytest.raises(TrainingError, match=re.escape("same features")):
        fit_metric(features, labels, **USUAL)
    features[0, 0] += 0.1
    assert np.isfinite(fit_metric(features, labels, **USUAL).weight).all()


def test_one_image_per_class_is_refused_unless_another_class_has_two() -> None:
    features, _ = example(0)
    with pytest.raises(TrainingError, match="same features"):
        fit_metric(features[:3], np.arange(3), **USUAL)
    assert np.isfinite(fit_metric(features[:3], np.array([0, 1, 1]), **USUAL).weight).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 20))
def test_class_means_are_the_directions_of_the_sums(seed: int, classes: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    descriptors = rng.normal(size=(images, 3)).astype(np.float32)
    found = class_means(descriptors, labels, classes)
    assert found.dtype == np.float32
    assert found.shape == (classes, 3)
    for label, row in enumerate(found):
        total = np.zeros(3)
        for descriptor, own in zip(descriptors, labels, strict=True):
            if own == label:
                total += descriptor
        length = np.sqrt((total**2).sum())
        # A sum that cancels nearly to nothing is all rounding.
        np.testing.assert_allclose(row, total / length if length else total, atol=1e-6 + 1e-6 / (length or 1))
