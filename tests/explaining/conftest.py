"""What the tests of explanations share: one loaded network, and two photos."""

from __future__ import annotations

import pytest

from cfcd.encoding import load_model
from cfcd.explaining import Explainer
from tests.support import make_photo


@pytest.fixture(scope="session")
def explainer():
    """The built-in model at a size that is quick."""
    return Explainer(load_model("imagenet-lite0", device="cpu", precision="fp32", long_side=160))


@pytest.fixture(scope="session")
def pair():
    return make_photo(1, (200, 120)), make_photo(2, (130, 170))
