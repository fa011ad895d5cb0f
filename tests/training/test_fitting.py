from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.catalog import read_catalog  # noqa: E402
from cfcd.errors import TrainingError  # noqa: E402
from cfcd.training.data import TrainingSet  # noqa: E402
from cfcd.training.fitting import Fitting  # noqa: E402
from cfcd.training.metric import class_means, fit_metric  # noqa: E402
from cfcd.training.passes import Passes  # noqa: E402


def silent(_done: int, _total: int) -> None:
    pass


@pytest.fixture
def fit(tiny, built, crew, photos):
    """Make the fitting of the photos with options of the recipe."""

    def make(options):
        recipe = tiny(options)
        parts = built(recipe)
        passes = Passes(parts.net, parts.preprocessing, crew, 2, None)
        data = TrainingSet.from_catalog(read_catalog(photos))
        return Fitting(data, passes, recipe.whitening, {})

    return make


def features_of(fitting):
    return fitting.passes.pooled(fitting.data.catalog, range(len(fitting.data)), silent)[0]


def test_begin_sets_whitening_class_weights_and_centre(fit):
    fitting = fit({})
    features, labels, wanted = features_of(fitting), fitting.data.labels, fitting.wanted
    fitting.begin(silent)
    expected = fit_metric(
        features,
        labels,
        within=wanted.within,
        between=wanted.between,
        centre=wanted.centre,
        gain=wanted.gain,
    )
    linear = fitting.net.net.whitening.linear
    np.testing.assert_allclose(linear.weight.numpy(), expected.weight, rtol=1e-5)
    means = class_means(expected(features), labels, 3)
    np.testing.assert_allclose(fitting.net.head.weight.detach().numpy(), means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitting.net.centre.numpy(), features.mean(0) / 2, rtol=1e-5)


def test_refit_follows_the_network(fit):
    fitting = fit({"whitening.dim": None})
    fitting.begin(silent)
    linear = fitting.net.net.whitening.linear
    before = linear.weight.clone()
    fitting.refit(silent)
    torch.testing.assert_close(linear.weight, before)
    with torch.no_grad():
        fitting.net.net.backbone.head.norm.bias.add_(torch.linspace(0, 3, 32))
    fitting.refit(silent)
    assert not torch.allclose(linear.weight, before, rtol=0.01)


def test_descriptors_are_cut_to_their_length_after_training(fit):
    fitting = fit({})
    fitting.begin(silent)
    net = fitting.net.net
    assert (net.config.dim, net.whitening.linear.out_features) == (32, 32)
    whole = fitting.net.eval().descriptors(torch.from_numpy(features_of(fitting)))
    fitting.refit(silent)
    assert (net.config.dim, tuple(net.whitening.linear.weight.shape)) == (8, (8, 32))
    assert not any(parameter.requires_grad for parameter in net.whitening.parameters())
    cut = fitting.net.descriptors(torch.from_numpy(features_of(fitting)))
    # The principal directions keep what tells these few pictures apart.
    torch.testing.assert_close(cut @ cut.T, whole @ whole.T, rtol=0, atol=0.2)


def test_without_whitening_the_means_are_those_of_the_features(fit):
    fitting = fit({"whitening.kind": "none", "whitening.dim": None})
    features = features_of(fitting)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    fitting.begin(silent)
    means = class_means(unit, fitting.data.labels, 3)
    np.testing.assert_allclose(fitting.net.head.weight.detach().numpy(), means, rtol=1e-4, atol=1e-6)
    fitting.refit(silent)  # there is nothing to fit


def test_a_learned_whitening_stays_random(fit):
    fitting = fit({"whitening.kind": "learned", "whitening.dim": 8})
    before = {name: value.clone() for name, value in fitting.net.state_dict().items()}
    fitting.begin(silent)
    fitting.refit(silent)
    assert all(torch.equal(before[name], value) for name, value in fitting.net.state_dict().items())


def test_unreadable_pictures_are_left_out_and_named(fit, photos):
    fitting = fit({})
    bad = photos / "bridge" / "2.jpg"
    row = next(row for row in range(12) if fitting.data.catalog.file(row) == bad)
    whole = features_of(fitting)
    bad.write_bytes(b"no picture")
    fitting.begin(silent)
    assert list(fitting.unreadable) == [row]
    kept = np.delete(whole, row, axis=0)
    np.testing.assert_allclose(fitting.net.centre.numpy(), kept.mean(0) / 2, rtol=1e-5)


def test_a_class_without_a_readable_picture_is_refused(fit, photos):
    fitting = fit({})
    for picture in (photos / "church").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(TrainingError, match="church"):
        fitting.begin(silent)
