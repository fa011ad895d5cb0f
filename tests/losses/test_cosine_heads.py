from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the light install has no torch")

import slow_losses as slow  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from head_support import assert_same, make, make_batch, plain_run, run  # noqa: E402

from cfcd import losses  # noqa: E402
from cfcd.errors import UsageError  # noqa: E402

seeds = st.integers(0, 2**32 - 1)


def first_adacos_scale(classes):
    return float(np.float32(math.sqrt(2) * math.log(classes - 1)))  # its buffer is float32 until it moves


# What each head should do, given its settings, by the obvious formula.


RIVALS = {
    "Softmax": ({"scale": 20.0}, lambda cos, labels: slow.softmax(cos, labels, 20)),
    "CosFace": ({"scale": 48.0, "margin": 0.2}, lambda cos, labels: slow.cosface(cos, labels, 48, 0.2)),
    "ArcFace": ({"scale": 40.0, "margin": 0.7}, lambda cos, labels: slow.arcface(cos, labels, 40, 0.7)),
    "MadaCos": ({"ceiling": 90.0}, lambda cos, labels: slow.madacos(cos, labels, ceiling=90.0)[0]),
    "AdaCos": ({}, lambda cos, labels: slow.softmax(cos, labels, first_adacos_scale(cos.shape[1]))),
    "CurricularFace": (
        {"scale": 40.0, "margin": 0.4},
        lambda cos, labels: slow.curricularface(
            cos, labels, 40, 0.4, 0.01 * cos.detach()[torch.arange(len(cos)), labels].mean()
        ),
    ),
}


def test_a_head_must_say_how_it_judges():
    with pytest.raises(TypeError, match="judge"):
        losses.CosineHead(4, 2)


@pytest.mark.parametrize("kind", RIVALS)
@settings(max_examples=25, deadline=None)
@given(seed=seeds, samples=st.integers(1, 9), classes=st.integers(5, 40), chunk=st.integers(1, 45))
def test_values_and_gradients_equal_the_dense_formula(kind, seed, samples, classes, chunk):
    arguments, formula = RIVALS[kind]
    features, weight, labels = make_batch(seed, samples, classes, 6, noise=1.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfcd.losses.cosine_cross_entropy.CHUNK", chunk)
        output, grad_features, grad_weight = run(make(kind, weight, **arguments), features, labels)
    logits, loss, plain_features, plain_weight = plain_run(formula, features, weight, labels)
    assert_same(output.logits, logits)
    # The dense formula takes ln P from a difference of logits of about 50.
    torch.testing.assert_close(output.loss, loss, rtol=1e-9, atol=1e-13)
    scale = float(output.scale)
    torch.testing.assert_close(
        grad_features, plain_features, rtol=1e-8, atol=1e-13 * scale / float(features.norm(dim=1).min())
    )
    torch.testing.assert_close(
        grad_weight, plain_weight, rtol=1e-8, atol=1e-13 * scale / float(weight.norm(dim=1).min())
    )


@pytest.mark.parametrize("kind", ["Softmax", "CosFace", "ArcFace"])
def test_gradients_equal_finite_differences(kind):
    features, weight, labels = make_batch(3, 5, 11, 4, noise=1.0)
    head = make(kind, weight, scale=6.0)
    features.requires_grad_()

    def loss(features, weight):
        return torch.func.functional_call(head, {"weight": weight}, (features, labels)).loss

    assert torch.autograd.gradcheck(loss, (features, weight.clone().requires_grad_()))


def test_hard_classes_have_the_gradient_of_their_values():
    features, weight, labels = make_batch(5, 6, 12, 4, noise=2.0)
    head = make("CurricularFace", weight, scale=6.0, margin=0.3).eval()
    head.progress.fill_(0.4)
    features.requires_grad_()

    def loss(features, weight):
        return torch.func.functional_call(head, {"weight": weight}, (features, labels)).loss

    assert torch.autograd.gradcheck(loss, (features, weight.clone().requires_grad_()))
    plain = slow.curricularface(slow.cosines(features, weight), labels, 6.0, 0.3, 0.4)
    untouched = slow.arcface(slow.cosines(features, weight), labels, 6.0, 0.3)
    assert_same(head(features, labels, keep_logits=True).logits, plain)
    assert (plain != untouched).any()


def test_a_learned_scale_has_its_gradient():
    features, weight, labels = make_batch(1, 6, 9, 4, noise=1.5)
    head = make("Softmax", weight, scale=7.0, learn_scale=True)
    run(head, features, labels)
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    F.cross_entropy(slow.cosines(features, weight) * scale, labels).backward()
    torch.testing.assert_close(head.scale.grad, scale.grad)
    single = losses.Softmax(4, 9, scale=7.0, learn_scale=True)  # float32 parameters, float64 features
    single(features, labels).loss.backward()
    assert single.scale.grad is not None
    assert [name for name, _ in losses.Softmax(4, 9).named_parameters()] == ["weight"]


def test_adacos_follows_its_formula_batch_after_batch():
    _, weight, _ = make_batch(0, 1, 30, 8)
    head = make("AdaCos", weight)
    scale = first_adacos_scale(30)
    for number in range(4):
        features, _, labels = make_batch(number, 7, 30, 8)
        features = F.normalize(weight)[labels] + 0.3 * F.normalize(features)
        if number:
            scale = slow.adacos_scale(slow.cosines(features, weight), labels, scale)
        output = head(features, labels)
        assert float(output.scale) == pytest.approx(scale, rel=1e-9)
    head.eval()
    assert float(head(*make_batch(9, 7, 30, 8)[::2]).scale) == pytest.approx(scale, rel=1e-9)


def test_adacos_keeps_a_scale_with_two_classes():
    head = losses.AdaCos(4, 2)
    for number in range(3):
        features, _, labels = make_batch(number, 5, 2, 4)
        assert float(head(features, labels).scale) >= 1


def test_curricularface_moves_towards_the_mean_target_cosine_in_training_only():
    features, weight, labels = make_batch(2, 7, 12, 5)
    head = make("CurricularFace", weight)
    mean = float(slow.cosines(features, weight)[torch.arange(7), labels].mean())
    for step in range(1, 4):
        head(features, labels)
        assert float(head.progress) == pytest.approx(mean * (1 - 0.99**step))
    head.eval()
    head(features, labels)
    assert float(head.progress) == pytest.approx(mean * (1 - 0.99**3))


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0, math.pi / 2])
def test_arcface_falls_with_the_angle_everywhere(margin):
    angles = torch.linspace(0, math.pi, 400, dtype=torch.float64)
    features = torch.stack([angles.cos(), angles.sin()], 1)
    weight = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    head = make("ArcFace", weight, scale=1.0, margin=margin)
    output, grad_features, grad_weight = run(head, features, torch.zeros(400, dtype=torch.int64))
    assert (output.logits[:, 0].diff() < 0).all()
    assert torch.isfinite(grad_features).all()
    assert torch.isfinite(grad_weight).all()


@pytest.mark.parametrize("kind", RIVALS)
@settings(max_examples=15, deadline=None)
@given(seed=seeds, samples=st.integers(1, 9), classes=st.integers(5, 40))
def test_orders_and_lengths_mean_nothing(kind, seed, samples, classes):
    features, weight, labels = make_batch(seed, samples, classes, 6, noise=0.8)
    maker = torch.Generator().manual_seed(seed)
    batch_order, class_order = (
        torch.randperm(samples, generator=maker),
        torch.randperm(classes, generator=maker),
    )
    lengths = torch.rand(samples, 1, generator=maker, dtype=torch.float64) + 0.1
    first, grad_features, grad_weight = run(make(kind, weight), features, labels)

    moved, moved_features, moved_weight = run(make(kind, weight), features[batch_order], labels[batch_order])
    assert_same(moved.logits, first.logits[batch_order])
    assert_same(moved_features, grad_features[batch_order], 1e-7)
    assert_same(moved_weight, grad_weight, 1e-7)

    renumbered = torch.argsort(class_order)[labels]
    moved, moved_features, moved_weight = run(make(kind, weight[class_order]), features, renumbered)
    assert_same(moved.logits, first.logits[:, class_order])
    assert_same(moved_features, grad_features, 1e-7)
    assert_same(moved_weight, grad_weight[class_order], 1e-7)

    moved, moved_features, moved_weight = run(make(kind, weight), features * lengths, labels)
    assert_same(moved.logits, first.logits)
    assert_same(moved_features * lengths, grad_features, 1e-7)
    assert_same(moved_weight, grad_weight, 1e-7)


@pytest.mark.parametrize("kind", RIVALS)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(kind, half):
    features, weight, labels = make_batch(0, 8, 50, 16)
    features = features.to(half)
    expected, grad_features, grad_weight = run(make(kind, weight.float()), features.float(), labels)
    with torch.autocast("cpu", dtype=half):
        found, half_features, found_weight = run(make(kind, weight.float()), features, labels)
    assert found.loss.dtype == torch.float32
    assert found.loss == expected.loss
    assert found.scale == expected.scale
    assert found.margin == expected.margin
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found_weight, grad_weight)
    assert torch.equal(half_features, grad_features.to(half))


def test_half_precision_weights_are_read_in_float32():
    features, weight, labels = make_batch(0, 8, 50, 16)
    head = make("MadaCos", weight.bfloat16())
    output, _, grad_weight = run(head, features.float(), labels)
    expected, _, grad = run(make("MadaCos", weight.bfloat16().float()), features.float(), labels)
    assert output.loss == expected.loss
    torch.testing.assert_close(grad_weight, grad.bfloat16(), rtol=0.02, atol=1e-6)


def test_scores_are_plain_cosines_whatever_the_batch():
    features, weight, _ = make_batch(0, 8, 50, 16)
    head = make("MadaCos", weight)
    expected = slow.cosines(features, weight)
    assert_same(head.scores(features), expected, 1e-12)
    assert_same(head.scores(features[:1]), expected[:1], 1e-12)
    head.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = head.scores(features.float().requires_grad_())
    assert single.dtype == torch.float32
    assert not single.requires_grad
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", RIVALS)
def test_keeps_one_matrix_of_cosines_and_no_copy_of_the_weights(kind):
    samples, classes, dim = 4, 3000, 64
    head = getattr(losses, kind)(dim, classes)
    features = torch.randn(samples, dim, requires_grad=True)
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = head(features, torch.arange(samples))
    kept.pop(head.weight.data_ptr())
    assert samples * classes <= sum(kept.values()) < 1.5 * samples * classes
    assert output.logits is None


def test_trains_features_against_frozen_weights():
    features, weight, labels = make_batch(0, 8, 50, 16)
    _, expected, _ = run(make("ArcFace", weight), features, labels)
    head = make("ArcFace", weight)
    head.weight.requires_grad_(False)
    _, found, grad_weight = run(head, features, labels)
    assert_same(found, expected)
    assert grad_weight is None


@pytest.mark.parametrize("kind", RIVALS)
def test_state_comes_back_whole(kind):
    features, weight, labels = make_batch(0, 8, 50, 16)
    head = make(kind, weight)
    for _ in range(3):
        head(features, labels)
    twin = getattr(losses, kind)(16, 50).double()
    twin.load_state_dict(head.state_dict())
    assert torch.equal(twin(features, labels).loss, head(features, labels).loss)


@pytest.mark.parametrize("kind", RIVALS)
def test_learns_to_tell_classes_apart(kind):
    torch.manual_seed(0)
    labels = torch.arange(6).repeat(4)
    features = torch.nn.Parameter(torch.randn(24, 5))
    head = getattr(losses, kind)(5, 6)
    optimiser = torch.optim.Adam([features, *head.parameters()], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        head(features, labels).loss.backward()
        optimiser.step()
    assert (head.scores(features).argmax(1) == labels).all()


def refusals():
    ok = torch.randn(3, 4)
    labels = torch.tensor([0, 1, 2])
    return {
        "one class": lambda: losses.MadaCos(4, 1),
        "rho": lambda: losses.MadaCos(4, 5, rho=1.0),
        "ceiling": lambda: losses.MadaCos(4, 5, floor=32, ceiling=20),
        "scale": lambda: losses.Softmax(4, 5, scale=0),
        "cosine margin": lambda: losses.CosFace(4, 5, margin=-0.1),
        "angle margin": lambda: losses.ArcFace(4, 5, margin=1.6),
        "wrong length": lambda: losses.ArcFace(5, 6)(ok, labels),
        "wrong number": lambda: losses.ArcFace(4, 6)(ok, labels[:2]),
        "empty": lambda: losses.ArcFace(4, 6)(ok[:0], labels[:0]),
        "label too large": lambda: losses.ArcFace(4, 2)(ok, labels),
        "label negative": lambda: losses.ArcFace(4, 6)(ok, labels - 1),
    }


@pytest.mark.parametrize("case", refusals())
def test_refuses_what_cannot_be_meant(case):
    with pytest.raises(UsageError):
        refusals()[case]()


def test_importing_the_room_loads_no_torch():
    import subprocess
    import sys

    program = "import cfcd.losses, sys; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
    for name in losses.__all__:
        assert getattr(losses, name).__name__ == name
    with pytest.raises(AttributeError):
        losses.nothing  # noqa: B018
    assert np.isin(losses.__all__, dir(losses)).all()
