from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.model.config import Network, Preprocessing, Whitening  # noqa: E402
from cfcd.model.network import DescriptorNet, PixelsToDescriptor  # noqa: E402
from tests.model.golden_network import GOLDEN, needs_golden, official_resnet50  # noqa: E402

PIXELS = Preprocessing("RGB", (127, 127, 127), (128, 128, 128), "hamming", 320, 32)


def lite0(whitening=None):
    return DescriptorNet(Network("efficientnet_lite0", 1280, whitening=whitening)).eval()


def test_forward_is_the_chain_of_its_parts():
    net = lite0(Whitening(16))
    x = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        maps = net.last_map(x)
        pooled = maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
        linear, norm = net.whitening.linear, net.whitening.batchnorm
        g = pooled @ linear.weight.T + linear.bias
        g = (g - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        torch.testing.assert_close(net(x), g, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.describe(maps), net(x))
    assert maps.shape == (3, 1280, 2, 3)


def test_whitening_is_optional_and_so_is_its_normalisation():
    assert list(lite0().whitening.state_dict()) == []
    assert list(lite0(Whitening(8, batchnorm=False)).whitening.state_dict()) == [
        "linear.weight",
        "linear.bias",
    ]
    assert lite0()(torch.zeros(1, 3, 32, 32)).shape == (1, 1280)


def test_untrained_whitening_keeps_right_angles():
    weight = lite0(Whitening(64)).whitening.linear.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(64), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_pixels_are_normalised_in_channel_order(order):
    net = lite0()
    preprocessing = Preprocessing(order, (10, 20, 30), (50, 60, 70), "bicubic", None, 32)
    pixels = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)
    values = pixels.numpy().astype(np.float32)
    values = values[..., ::-1] if order == "BGR" else values
    x = (values - np.float32([10, 20, 30])) / np.float32([50, 60, 70])
    with torch.no_grad():
        found = PixelsToDescriptor(net, preprocessing).eval()(pixels)
        expected = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True))
    assert found.dtype == torch.float32


@needs_golden
def test_equals_the_authors_network():
    pytest.importorskip("transformers", reason="the light install has no transformers")
    from cfcd.model.official import official_name

    golden = np.load(GOLDEN / "official_r50.npz")
    net = DescriptorNet(Network("resnet50", 2048, whitening=Whitening(512)))
    tensors = official_resnet50(golden)
    for key, value in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            value.copy_(tensors.pop(official_name(key)))
    assert tensors == {}
    # BGR: each colour keeps its own mean and std.
    mean, std = 255 * np.array([0.406, 0.456, 0.485]), 255 * np.array([0.225, 0.224, 0.229])
    pixels = Preprocessing("BGR", tuple(mean), tuple(std), "bilinear", None, 1)
    model = PixelsToDescriptor(net, pixels).eval()
    compared = 0
    for key in golden.files:
        if key.endswith("/rgb"):
            with torch.no_grad():
                found = model(torch.from_numpy(golden[key])[None])[0]
            expected = golden[key.replace("/rgb", "/single")]
            np.testing.assert_allclose(found.numpy(), expected / np.linalg.norm(expected), atol=2e-5)
            compared += 1
    assert compared > 0
