from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
onnx = pytest.importorskip("onnx", reason="the light install has no onnx")

from onnx import TensorProto, helper  # noqa: E402
from torch import nn  # noqa: E402

from cfcd.encoding import Encoder  # noqa: E402
from cfcd.errors import ModelError  # noqa: E402
from cfcd.explaining import Explainer  # noqa: E402
from cfcd.explaining.network import SplitNetwork  # noqa: E402
from cfcd.model import DescriptorNet, Network, Preprocessing, find_model, save_model  # noqa: E402
from cfcd.model.config import Whitening  # noqa: E402
from tests.support import make_photo  # noqa: E402

PIXELS = Preprocessing("BGR", (100, 120, 140), (50, 60, 70), "bicubic", 128, 16, (0.75, 1.0))
CHANNELS = 12


class Signed(nn.Module):
    """A backbone of stride 16 whose map has values of both signs, in blocks that mean over positions too."""

    channels = CHANNELS

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 16, 16)
        self.last = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        return self.last(torch.relu(x) * torch.sigmoid(x.mean((2, 3), keepdim=True)))


def make_net(whitening, p=3.0, backbone=Signed):
    torch.manual_seed(3)
    net = DescriptorNet(
        Network("efficientnet_lite0", CHANNELS, p=p, eps=1e-3, whitening=whitening), backbone=backbone()
    )
    if whitening is not None:
        nn.init.normal_(net.whitening.linear.bias, std=0.3)
        if whitening.batchnorm:
            norm = net.whitening.batchnorm
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
    return net.eval()


def folder_of(onnx_bytes, path):
    """A model folder that holds ONNX only, as the built-in model does."""
    folder = find_model("imagenet-lite0")
    path.mkdir()
    (path / "model.onnx").write_bytes(onnx_bytes)
    files = {"model.onnx": hashlib.sha256(onnx_bytes).hexdigest()}
    return replace(folder, path=path, config=replace(folder.config, files=files))


def without_names(data):
    """Rename what our exporter named, as other exporters and older versions would."""
    proto = onnx.load_from_string(data)
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = "something" if name == "last_map" else name
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("whitening", "p"),
    [(None, 3.0), (None, 1.0), (Whitening(7), 3.0), (Whitening(7, batchnorm=False), 2.5)],
)
def test_any_of_our_networks_is_taken_apart(tmp_path, whitening, p):
    net = make_net(whitening, p)
    model = save_model(net, tmp_path / "model", name="m", preprocessing=PIXELS)
    split = SplitNetwork(model)
    stack = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    last_map, descriptor = split.run(stack[0])
    x = torch.from_numpy(stack).permute(0, 3, 1, 2).float()[:, [2, 1, 0]]
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (PIXELS.mean, PIXELS.std))
    with torch.no_grad():
        expected = net.last_map((x - mean) / std)
        g = net((x - mean) / std)[0]
        f = net.pooling(expected)[0].double().numpy()
    np.testing.assert_allclose(last_map, expected[0].numpy(), atol=1e-4)
    assert last_map.min() < 0
    np.testing.assert_allclose(descriptor, (g / g.norm()).numpy(), atol=1e-5)
    np.testing.assert_allclose(split.whitening(f), g.numpy(), atol=1e-4)
    if whitening is None:
        assert split.whitening.matrix is None
    else:
        assert split.whitening.matrix.shape == (7, CHANNELS)
        with torch.no_grad():
            nought = net.whitening(torch.zeros(1, CHANNELS))[0].double().numpy()
            units = net.whitening(torch.eye(CHANNELS)).double().numpy() - nought
        np.testing.assert_allclose(split.whitening.bias, nought, atol=1e-6)
        np.testing.assert_allclose(split.whitening.matrix, units.T, atol=1e-6)

    # The map is found by the way it is pooled too.
    renamed = SplitNetwork(folder_of(without_names(model.read_onnx_bytes()), tmp_path / "renamed"))
    for found, wanted in zip(renamed.run(stack[0]), (last_map, descriptor), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(renamed.whitening(f), split.whitening(f), atol=1e-6)

    encoder = Encoder(model, "cpu", "fp32")
    pair = make_photo(1, (96, 128)), make_photo(2, (120, 70))
    rows = encoder.encode(list(pair))
    found = Explainer(encoder).explain(*pair)
    for side in (found.query, found.hit):
        assert side.shares.sum() == pytest.approx(float(rows[0] @ rows[1]), abs=1e-5)
        assert (side.constant != 0) == (whitening is not None)
    assert found.parity > 0.99999


def graph_of(nodes, constants=(), output="descriptor", shape=("n", 3)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


def normalised(vector):
    return [
        helper.make_node("ReduceL2", [vector], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", [vector, "length"], ["descriptor"]),
    ]


FLOATS = helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (
            [
                FLOATS,
                helper.make_node("ReduceMax", ["floats"], ["v"], axes=[1, 2], keepdims=0),
                *normalised("v"),
            ],
            "not the mean over the positions",
        ),
        (
            [FLOATS, helper.make_node("ReduceMean", ["floats"], ["descriptor"], axes=[1, 2], keepdims=0)],
            "not a vector brought to unit length",
        ),
    ],
    ids=["no map", "no length"],
)
def test_other_networks_are_refused_in_one_sentence(tmp_path, nodes, reason):
    model = folder_of(graph_of(nodes), tmp_path / "model")
    with pytest.raises(ModelError, match=reason) as caught:
        SplitNetwork(model)
    assert "imagenet-lite0@" in caught.value.what


def test_a_map_that_is_pooled_otherwise_is_refused(tmp_path):
    """A mean over positions that is squared afterwards: not linear, though it looks like ours."""
    nodes = [
        FLOATS,
        helper.make_node("Transpose", ["floats"], ["map"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["map"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "mean"], ["squared"]),
        *normalised("squared"),
    ]
    model = folder_of(graph_of(nodes), tmp_path / "model")
    config = replace(model.config, network=replace(model.config.network, channels=3, p=1.0))
    encoder = Encoder(replace(model, config=config), "cpu", "fp32")
    red = make_photo(1, (64, 64)), make_photo(2, (64, 64))
    with pytest.raises(ModelError, match="cannot be explained"):
        Explainer(encoder).explain(*red)


def test_a_damaged_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="OpenVINO cannot read it"):
        SplitNetwork(folder_of(b"no network", tmp_path / "model"))
