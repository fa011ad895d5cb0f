from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
onnx = pytest.importorskip("onnx", reason="the light install has no onnx")


from cfcd.errors import ModelError  # noqa: E402
from cfcd.model import export  # noqa: E402
from cfcd.model.config import Network, Preprocessing, Whitening  # noqa: E402
from cfcd.model.network import DescriptorNet, PixelsToDescriptor  # noqa: E402
from cfcd.model.openvino_core import openvino_core  # noqa: E402


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = DescriptorNet(Network("efficientnet_lite0", 1280, whitening=Whitening(24)))
    pixels = Preprocessing("BGR", (100, 120, 140), (50, 60, 70), "bicubic", None, 32)
    return PixelsToDescriptor(net, pixels).eval()


@pytest.fixture(scope="module")
def exported(model):
    return export.to_onnx(model)


def run(data, pixels, extra=()):
    core = openvino_core()
    network = core.read_model(data)
    for name in extra:
        network.add_outputs(name)
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled({"pixels": pixels}).values())


def test_the_interface_is_bytes_in_and_unit_rows_out(exported):
    graph = onnx.load_from_string(exported).graph
    assert [item.name for item in graph.input] == ["pixels"]
    assert [item.name for item in graph.output] == ["descriptor"]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [axis.dim_param for axis in graph.input[0].type.tensor_type.shape.dim[:3]] == [
        "n",
        "height",
        "width",
    ]


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (3, 96, 64, 3)])
def test_any_size_and_number_gives_what_torch_gives(model, exported, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found, maps = run(exported, pixels, ["last_map"])
    with torch.no_grad():
        expected, expected_maps = model.with_map(torch.from_numpy(pixels))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(maps, expected_maps.numpy(), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_half_weights_are_smaller_and_nearly_the_same(model, exported):
    half = export.to_onnx(model, half_weights=True)
    assert len(half) < 0.55 * len(exported)
    assert export.parity(model, half) > 0.9999
    kinds = {tensor.data_type for tensor in onnx.load_from_string(half).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds


def test_the_same_network_gives_the_same_bytes(model, exported):
    assert export.to_onnx(model) == exported


def test_export_leaves_the_network_in_its_mode(model):
    export.to_onnx(model)
    assert not any(module.training for module in model.modules())


def test_parity_finds_a_file_that_computes_something_else(model, exported):
    assert export.parity(model, exported) > 0.999999
    proto = onnx.load_from_string(exported)
    # The network is untrained, so all its descriptors are alike; a small change must be seen even so.
    tensor = max(proto.graph.initializer, key=lambda item: len(item.raw_data))
    values = onnx.numpy_helper.to_array(tensor)
    changed = np.where(np.arange(values.shape[0])[:, None, None, None] % 10 == 0, 0, values)
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed.astype(np.float32), tensor.name))
    with pytest.raises(ModelError, match="disagrees with the torch network"):
        export.parity(model, proto.SerializeToString())


def test_probe_pictures_differ():
    stacks = export.probe_pictures()
    assert [stack.shape for stack in stacks] == [(3, 96, 160, 3), (3, 192, 128, 3)]
    assert all(stack.dtype == np.uint8 and stack.std() > 30 for stack in stacks)
