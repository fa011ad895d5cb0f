"""ONNX export of the path from RGB bytes to unit descriptor, and the check that both compute the same."""

from __future__ import annotations

import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cfcd.errors import ModelError
from cfcd.model.extras import need
from cfcd.model.network import PixelsToDescriptor
from cfcd.model.openvino_core import openvino_core

OPSET = 17
PIXELS, DESCRIPTOR, LAST_MAP = "pixels", "descriptor", "last_map"
PARITY = 0.999
# Measured on EfficientNet-Lite0: rounding the small tensors too (depthwise weights, early layers) saves 5 %
# of the file and makes the error 60 times as large (cosine to the fp32 network 0.99993 instead of 0.999999).
HALF_FROM = 20_000


class _WithMap(nn.Module):
    """Make the last map an output, so that the exporter names its tensor."""

    def __init__(self, inner: PixelsToDescriptor) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner.with_map(pixels)


def to_onnx(model: PixelsToDescriptor, *, half_weights: bool = False) -> bytes:
    """Export to ONNX: input "pixels" (N, H, W, 3) uint8, output "descriptor" (N, D) float32.

    The tensor of the last map is named "last_map", so that a reader can add it as an output.

    Args:
        model: In evaluation mode.
        half_weights: Store large weights as float16; the graph still computes in float32.

    Raises:
        MissingExtra: onnx is not installed.
    """
    need("onnx", "Writing model.onnx")
    import onnx

    axes = {0: "n", 1: "height", 2: "width"}
    example = torch.zeros((1, 192, 224, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        file = Path(folder) / "model.onnx"
        # The newer exporter needs another package and gives the same graph; tracing warns about shapes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _WithMap(model).eval(),
            (example,),
            file,
            input_names=[PIXELS],
            output_names=[DESCRIPTOR, LAST_MAP],
            dynamic_axes={PIXELS: axes, DESCRIPTOR: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
        proto = onnx.load(file)
    graph = proto.graph
    kept = [output for output in graph.output if output.name == DESCRIPTOR]
    del graph.output[:]
    graph.output.extend(kept)
    if half_weights:
        _halve(graph)
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _halve(graph: Any) -> None:
    """Store every large weight as float16, with a cast back to float32 in front of its users."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < HALF_FROM:
            continue
        name = tensor.name
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(
            helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
        )
    for number, node in enumerate(casts):
        graph.node.insert(number, node)


def probe_pictures() -> list[NDArray[np.uint8]]:
    """Make stacks (3, H, W, 3) of two sizes, each structured and random, to compare networks on."""
    random = np.random.default_rng(0)
    stacks = []
    for height, width in ((96, 160), (192, 128)):
        rows, columns = np.mgrid[:height, :width]
        ramp = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1)
        board = ((rows // 12 + columns // 20) % 2 * 200 + 20)[..., None] * np.array([1.0, 0.6, 0.3])
        noise = random.integers(0, 256, (height, width, 3))
        stacks.append(np.stack([ramp, board, noise]).astype(np.uint8))
    return stacks


def parity(model: PixelsToDescriptor, onnx_bytes: bytes) -> float:
    """Compare OpenVINO on the exported file with torch, both in float32.

    Returns:
        The smallest cosine between their descriptors over `probe_pictures`.

    Raises:
        ModelError: It is below 0.999, or the error is not small against the differences between pictures.
    """
    core = openvino_core()
    compiled = core.compile_model(core.read_model(onnx_bytes), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    stacks = probe_pictures()
    with torch.no_grad():
        expected = unit_rows([model(torch.from_numpy(stack)).numpy() for stack in stacks])
    found = unit_rows([compiled({PIXELS: stack})[0] for stack in stacks])
    lowest = float((expected * found).sum(1).min())
    # An untrained network gives nearly the same descriptor for everything: a fixed limit would see no error.
    spread = 1 - float((expected @ expected.T).mean())
    allowed = min(1 - PARITY, max(1e-6, spread / 100))
    # Not a number compares false, so it is caught here too.
    if not 1 - lowest <= allowed:
        what = f"The exported model.onnx disagrees with the torch network: cosine {lowest:.7f}."
        raise ModelError(what, "Report this backbone: its operations do not survive the export to ONNX.")
    return lowest


def unit_rows(blocks: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Put blocks of rows under each other as float64 and bring the rows to unit length."""
    stacked = np.concatenate(blocks).astype(np.float64)
    unit: NDArray[np.float64] = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return unit
