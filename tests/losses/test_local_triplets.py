from __future__ import annotations

import numpy as np
import pytest
from golden_losses import FULL, SMALL, assert_close, read_case
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch", reason="the light install has no torch")

import slow_losses as slow  # noqa: E402

from cfcd.errors import UsageError  # noqa: E402
from cfcd.losses import local_descriptors, local_triplet_loss  # noqa: E402


def draw(seed, *shape, related=0.6):
    """Descriptors (T, S, K, C) float64 whose anchor and positive share positions, in another order."""
    maker = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=maker, dtype=torch.float64)
    order = torch.randperm(shape[2], generator=maker)
    values[:, 1] = related * values[:, 0, order] + (1 - related) * values[:, 1]
    return values * torch.rand(*shape[:3], 1, generator=maker, dtype=torch.float64)


def pairs_of(found):
    return list(zip(found.tuples.tolist(), found.anchors.tolist(), found.positives.tolist(), strict=True))


def assert_equals_slow(descriptors, mu, ratio, attention=None):
    descriptors = descriptors.clone().requires_grad_()
    twin = descriptors.detach().clone().requires_grad_()
    found = local_triplet_loss(descriptors, attention, mu=mu, ratio=ratio)
    given_attention = twin.detach().abs().sum(-1) if attention is None else attention
    loss, pairs, negatives = slow.local_triplets(twin, given_attention, mu, ratio)
    assert pairs_of(found) == pairs
    assert found.negatives.tolist() == negatives
    assert found.accepted.tolist() == [sum(pair[0] == t for pair in pairs) for t in range(len(descriptors))]
    torch.testing.assert_close(found.loss, loss, rtol=1e-10, atol=1e-12)
    found.loss.backward()
    loss.backward()
    torch.testing.assert_close(descriptors.grad, twin.grad, rtol=1e-9, atol=1e-11)
    return found


@pytest.mark.parametrize("mu", [0.1, 1.1])
@pytest.mark.parametrize(("file", "case"), [(SMALL, "none"), (FULL, "many"), (FULL, "none")])
def test_equals_the_authors(file, case, mu):
    expected = read_case(file, f"local/{case}")
    descriptors = torch.from_numpy(expected["x"])[None].requires_grad_()
    found = local_triplet_loss(descriptors, torch.from_numpy(expected["attention"])[None], mu=mu)
    found.loss.backward()
    assert found.anchors.tolist() == expected["qidx"].tolist()
    assert found.positives.tolist() == expected["pidx"].tolist()
    assert_close(found.loss, expected[f"m{mu}/loss"])
    assert_close(descriptors.grad[0], expected[f"m{mu}/grad"])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    tuples=st.integers(1, 3),
    size=st.integers(3, 8),
    positions=st.integers(2, 12),
    channels=st.integers(3, 7),
    mu=st.sampled_from([0.0, 0.1, 1.1]),
    ratio=st.sampled_from([0.5, 0.9, 1.0]),
)
def test_equals_the_loops(seed, tuples, size, positions, channels, mu, ratio):
    assert_equals_slow(draw(seed, tuples, size, positions, channels), mu, ratio)


# One-hot descriptors of power-of-two length, or empty ones: distances are exactly 0, 1 or 2, so ties abound.
codes = arrays(np.int64, (2, 4, 5), elements=st.integers(-1, 3))


@settings(max_examples=60, deadline=None)
@given(code=codes, attention=arrays(np.int64, (2, 4, 5), elements=st.integers(0, 2)))
def test_settles_ties_for_the_lower_position(code, attention):
    values = torch.zeros(2, 4, 5, 4, dtype=torch.float64)
    code = torch.from_numpy(code)
    values.scatter_(3, code.clamp_min(0)[..., None], torch.where(code < 0, 0.0, 4.0).double()[..., None])
    found = local_triplet_loss(values, torch.from_numpy(attention).double(), mu=1.1, ratio=0.9)
    _, pairs, negatives = slow.local_triplets(values, torch.from_numpy(attention).double(), 1.1, 0.9)
    assert pairs_of(found) == pairs
    assert found.negatives.tolist() == negatives


def test_the_examples_do_have_pairs_and_active_triplets():
    found = assert_equals_slow(draw(0, 3, 8, 12, 6), 1.1, 0.9)
    assert found.accepted.sum() >= 6
    assert 0 < int(found.active) <= found.negatives.numel()
    assert int(local_triplet_loss(draw(0, 3, 8, 12, 6), mu=-4.0).active) == 0


def test_only_the_top_half_of_the_attention_counts():
    descriptors = draw(1, 1, 8, 9, 16, related=1.0)
    attention = torch.zeros(1, 8, 9)
    attention[0, 1, [2, 3, 5, 7, 8]] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    assert local_triplet_loss(descriptors, attention).positives.tolist() == [3, 5, 7, 8]


def test_the_ratio_compares_distances_not_squares():
    angle = {"p": 0.0, "near": 0.4, "far": 0.5}
    circle = {name: torch.tensor([np.cos(value), np.sin(value)]) for name, value in angle.items()}
    descriptors = torch.zeros(1, 3, 2, 2)
    descriptors[0, 0] = torch.stack([circle["near"], circle["far"]])
    descriptors[0, 1] = torch.stack([circle["p"] * 2, -circle["p"]])
    quotient = np.sin(0.2) / np.sin(0.25)
    for ratio, accepted in ((quotient - 0.001, 0), (quotient + 0.001, 1)):
        assert int(local_triplet_loss(descriptors, ratio=ratio).accepted) == accepted


def test_mean_is_the_sum_over_pairs_and_negatives():
    descriptors = draw(0, 3, 8, 12, 6)
    total = local_triplet_loss(descriptors, mu=1.1)
    mean = local_triplet_loss(descriptors, mu=1.1, reduction="mean")
    torch.testing.assert_close(mean.loss * (len(total.anchors) * 6), total.loss)


def test_tuples_add_up():
    descriptors = draw(0, 3, 8, 12, 6)
    together = local_triplet_loss(descriptors)
    apart = [local_triplet_loss(descriptors[number : number + 1]) for number in range(3)]
    torch.testing.assert_close(together.loss, sum(each.loss for each in apart))
    assert together.accepted.tolist() == [int(each.accepted) for each in apart]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("positions", [1, 6])
def test_without_a_pair_the_loss_is_zero_and_attached(reduction, positions):
    descriptors = torch.zeros(2, 8, positions, 4, requires_grad=True)
    found = local_triplet_loss(descriptors, reduction=reduction)
    assert found.loss.item() == 0
    assert found.accepted.tolist() == [0, 0]
    found.loss.backward()
    assert torch.equal(descriptors.grad, torch.zeros_like(descriptors))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_positions_run_row_by_row(layout):
    maps = torch.rand(16, 5, 3, 4).to(memory_format=layout)
    found = local_descriptors(maps)
    assert found.shape == (2, 8, 12, 5)
    assert torch.equal(found[1, 2, 7], maps[10, :, 1, 3])
    assert found.data_ptr() == maps.data_ptr()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(half):
    maps = draw(3, 2, 8, 16, 32).to(half)
    single = maps.float().requires_grad_()
    expected = local_triplet_loss(single, mu=1.1)
    expected.loss.backward()
    maps.requires_grad_()
    with torch.autocast("cpu", dtype=half):
        found = local_triplet_loss(maps, mu=1.1)
    found.loss.backward()
    assert len(found.anchors) > 0
    assert found.loss.dtype == torch.float32
    assert found.loss == expected.loss
    assert pairs_of(found) == pairs_of(expected)
    assert torch.equal(maps.grad, single.grad.to(half))


def test_float32_finds_the_pairs_of_float64():
    descriptors = draw(4, 4, 8, 49, 64)
    single = local_triplet_loss(descriptors.float())
    double = local_triplet_loss(descriptors)
    assert pairs_of(single) == pairs_of(double)
    assert len(single.anchors) > 20
    assert float(single.loss) == pytest.approx(float(double.loss), rel=1e-4, abs=1e-5)


def test_keeps_nothing_of_the_size_of_the_map():
    descriptors = draw(0, 2, 8, 49, 64).float().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        found = local_triplet_loss(descriptors)
    assert max(tensor.numel() for tensor in kept) <= len(found.anchors) * 8 * 64 < descriptors.numel()


@pytest.mark.parametrize(
    "refused",
    [
        lambda: local_descriptors(torch.zeros(12, 4, 3, 3)),
        lambda: local_descriptors(torch.zeros(8, 4, 9)),
        lambda: local_triplet_loss(torch.zeros(8, 9, 4)),
        lambda: local_triplet_loss(torch.zeros(1, 2, 9, 4)),
        lambda: local_triplet_loss(torch.zeros(1, 8, 9, 4), torch.zeros(1, 8, 8)),
        lambda: local_triplet_loss(torch.zeros(1, 8, 9, 4), reduction="none"),
    ],
)
def test_refuses_what_cannot_be_meant(refused):
    with pytest.raises(UsageError):
        refused()
