from __future__ import annotations

import math

import pytest
from golden_losses import FULL, SMALL, assert_close, read_case
from hypothesis import assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the light install has no torch")

import slow_losses as slow  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from head_support import make, make_batch, run  # noqa: E402

from cfcd import losses  # noqa: E402

seeds = st.integers(0, 2**32 - 1)
MADACOS_CASES = [(SMALL, "mid"), *((FULL, case) for case in ("floor", "mid", "alpha10", "eval"))]


@pytest.mark.parametrize(("file", "case"), MADACOS_CASES, ids=lambda value: getattr(value, "stem", value))
def test_madacos_equals_the_authors(file, case):
    expected = read_case(file, f"madacos/{case}")
    head = make(
        "MadaCos", torch.from_numpy(expected["weight"]), rho=float(expected["alpha"]), ceiling=math.inf
    )
    head.train(bool(expected["training"]))
    output, grad_features, grad_weight = run(
        head, torch.from_numpy(expected["features"]), torch.from_numpy(expected["labels"])
    )
    for name in ("logits", "scale", "margin", "median", "loss"):
        assert_close(getattr(output, name), expected[name])
    assert_close(grad_features, expected["grad_features"])
    assert_close(grad_weight, expected["grad_weight"])


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    samples=st.integers(1, 20),
    classes=st.integers(5, 60),
    rho=st.floats(0.005, 0.3),
    noise=st.floats(0.1, 1.0),
)
def test_madacos_meets_both_anchor_points(seed, samples, classes, rho, noise):
    features, weight, labels = make_batch(seed, samples, classes, 16, noise)
    head = make("MadaCos", weight, rho=rho, ceiling=math.inf)
    output = head(features, labels, keep_logits=True)
    assume(output.scale > 32)
    assume(output.margin > 0)
    cos = slow.cosines(features, weight)
    median = torch.median(cos[torch.arange(samples), labels], 0).indices
    probabilities = F.softmax(output.logits, 1)[torch.arange(samples), labels]
    assert float(probabilities[median]) == pytest.approx(rho, rel=1e-9)
    logits = output.logits[median].clone()
    logits[labels[median]] = output.scale * (1 - output.margin)
    doubt = 1 - F.softmax(logits, 0)[labels[median]]
    assert float(doubt) == pytest.approx(1e-7, rel=1e-6)


def test_madacos_keeps_rho_under_its_ceiling():
    features, weight, labels = make_batch(0, 9, 40, 16, noise=0.05)
    free = make("MadaCos", weight, ceiling=math.inf)(features, labels)
    output = make("MadaCos", weight, ceiling=200.0)(features, labels, keep_logits=True)
    assert float(free.scale) > 1024
    assert float(output.scale) == 200.0
    target = slow.cosines(features, weight)[torch.arange(9), labels]
    median = torch.median(target, 0).indices
    assert float(F.softmax(output.logits, 1)[median, labels[median]]) == pytest.approx(0.02, rel=1e-9)
    assert float(losses.MadaCos(16, 40).ceiling) == 1024


@pytest.mark.parametrize("ceiling", [1024.0, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_madacos_is_finite_where_every_target_cosine_is_one(ceiling, dtype, training):
    _, weight, labels = make_batch(0, 6, 20, 8)
    head = make("MadaCos", weight.to(dtype), ceiling=ceiling).train(training)
    output, grad_features, grad_weight = run(head, weight[labels].to(dtype) * 3, labels)
    for tensor in (output.loss, output.scale, output.margin, output.logits, grad_features, grad_weight):
        assert torch.isfinite(tensor).all()
    assert float(output.scale) <= ceiling
    assert float(output.scale) > 1000


def test_madacos_in_float32_keeps_its_margin_where_the_exponential_overflows():
    classes, dim = 81_313, 32
    _, weight, labels = make_batch(7, 16, classes, dim)
    rows = F.normalize(weight)[labels]
    aside = torch.randn(16, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    aside = F.normalize(aside - (aside * rows).sum(1, keepdim=True) * rows)
    target = torch.linspace(0.9, 0.99, 16, dtype=torch.float64)[:, None]
    target += 0.95 - target[7]
    features = target * rows + (1 - target**2).sqrt() * aside
    double = make("MadaCos", weight)(features, labels)
    single = make("MadaCos", weight.float())(features.float(), labels)
    assert float(double.median) == pytest.approx(0.95)
    assert float(single.margin) > 0.1
    torch.testing.assert_close(single.margin.double(), double.margin, rtol=1e-5, atol=0)
    torch.testing.assert_close(single.scale.double(), double.scale, rtol=1e-5, atol=0)
    torch.testing.assert_close(single.loss.double(), double.loss, rtol=1e-4, atol=0)
    # The trap is there: taken literally, B* is infinite in float32.
    naive = (float(single.scale) * slow.cosines(features, weight).float()).exp()
    assert torch.isinf(naive.scatter(1, labels[:, None], 0.0).sum(1)).all()


def test_madacos_takes_the_lower_median_and_no_margin_in_evaluation():
    features, weight, labels = make_batch(4, 6, 30, 16)
    head = make("MadaCos", weight)
    target = slow.cosines(features, weight)[torch.arange(6), labels]
    assert float(head(features, labels).median) == pytest.approx(float(target.sort().values[2]))
    assert float(head(features, labels).margin) > 0
    assert float(head.eval()(features, labels).margin) == 0
