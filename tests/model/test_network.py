from __future__ import annotations

import json
import zlib
from math import prod
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.model.config import Network, Preprocessing, Whitening  # noqa: E402
from cfcd.model.network import DescriptorNet, PixelsToDescriptor  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
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


def official_value(key, shape):
    """Fill a tensor by the rule of shared/golden/README.md."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    z = generator.standard_normal(prod(shape)).reshape(shape)
    if key.endswith("running_var"):
        return 1 + 0.1 * np.abs(z)
    if key.endswith("running_mean"):
        return 0.1 * z
    if len(shape) >= 2:
        return z * np.sqrt(2 / (shape[0] * prod(shape[2:]) if len(shape) == 4 else shape[1]))
    if key.endswith("weight"):
        return (0.3 if ".c_bn." in key else 1) * (1 + 0.1 * z)
    return 0.1 * z


def our_name(key):
    """Translate a name of the authors' checkpoints to the name of the same tensor here."""
    parts = key.split(".")
    if parts[0] in ("fc", "bn"):
        return f"whitening.{'linear' if parts[0] == 'fc' else 'batchnorm'}.{parts[-1]}"
    kind = "normalization" if parts[-2].endswith("bn") else "convolution"
    if parts[1] == "stem":
        return f"backbone.model.embedder.embedder.{kind}.{parts[-1]}"
    home = f"backbone.model.encoder.stages.{int(parts[1][1:]) - 1}.layers.{int(parts[2][1:]) - 1}"
    place = f"layer.{'abc'.index(parts[4][0])}" if parts[3] == "f" else "shortcut"
    return f"{home}.{place}.{kind}.{parts[-1]}"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared/golden is not beside the repository")
@pytest.mark.parametrize("depth", ["50", "101"])
def test_the_authors_tensors_have_their_place(depth):
    pytest.importorskip("transformers", reason="the light install has no transformers")
    keys = json.loads((GOLDEN / f"official_r{depth}_keys.json").read_text())
    with torch.device("meta"):
        net = DescriptorNet(Network(f"resnet{depth}", 2048, whitening=Whitening(512)))
    found = {name: list(value.shape) for name, value in net.state_dict().items()}
    assert {our_name(key): shape for key, shape in keys.items()} == found


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared/golden is not beside the repository")
def test_equals_the_authors_network():
    pytest.importorskip("transformers", reason="the light install has no transformers")
    keys = json.loads((GOLDEN / "official_r50_keys.json").read_text())
    golden = np.load(GOLDEN / "official_r50.npz")
    net = DescriptorNet(Network("resnet50", 2048, whitening=Whitening(512)))
    state = {
        our_name(key): torch.from_numpy(np.asarray(official_value(key, shape), np.float32))
        for key, shape in keys.items()
        if not key.endswith("num_batches_tracked")
    }
    for name in ("running_mean", "running_var"):
        state[f"whitening.batchnorm.{name}"] = torch.from_numpy(golden[f"bn.{name}"])
    report = net.load_state_dict(state, strict=False)
    assert report.unexpected_keys == []
    assert all(key.endswith("num_batches_tracked") for key in report.missing_keys)
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
