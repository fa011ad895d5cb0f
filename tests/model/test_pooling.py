from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.model.pooling import GeM  # noqa: E402

maps = arrays(np.float32, (2, 3, 4, 5), elements=st.floats(-2, 10, width=32))


def reference(values, p, eps=1e-6):
    return (np.maximum(values.astype(np.float64), eps) ** p).mean((2, 3)) ** (1 / p)


@given(maps, st.sampled_from([1.0, 2.0, 3.0, 5.5]))
def test_equals_the_formula(values, p):
    found = GeM(p)(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found, reference(values, p), rtol=2e-5)


@given(maps)
def test_lies_between_mean_and_maximum_and_grows_with_p(values):
    values = torch.from_numpy(np.abs(values))
    mean, cube, top = GeM(1.0)(values), GeM(3.0)(values), values.clamp(min=1e-6).amax((2, 3))
    assert (mean <= cube * (1 + 1e-5)).all()
    assert (cube <= top * (1 + 1e-5)).all()


def test_keeps_float32_under_autocast():
    values = torch.rand(2, 8, 7, 7) * 5
    halved = values.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = GeM()(halved)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), reference(halved.float().numpy(), 3), rtol=1e-5)


def test_an_empty_map_has_a_finite_gradient():
    values = torch.zeros(1, 2, 3, 3, requires_grad=True)
    GeM()(values).sum().backward()
    assert torch.isfinite(values.grad).all()
