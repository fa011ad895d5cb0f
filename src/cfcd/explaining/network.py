"""The network of a model taken apart at its last map, with OpenVINO alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import ModelError
from cfcd.model.openvino_core import openvino_core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.model import ModelFolder

_LAST_MAP = "last_map"  # the name that our exporter gives its tensor
_FP32 = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
_UNBOUNDED = 1e30  # an upper limit this high is none
_PROBE = 4096.0  # a power of two: multiplying and dividing by it rounds nothing


@dataclass(frozen=True)
class Whitening:
    """Hold the layer after the pooling as g = matrix f + bias.

    Args:
        matrix: (D, C) float64, or None where g is f itself.
        bias: (D,) float64.
    """

    matrix: NDArray[np.float64] | None
    bias: NDArray[np.float64]

    def __call__(self, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map f (C,) to g (D,), not normalised."""
        return (pooled if self.matrix is None else self.matrix @ pooled) + self.bias

    def back(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give v (C,) with <matrix f, direction> = <f, v> for every f."""
        return direction if self.matrix is None else self.matrix.T @ direction


class SplitNetwork:
    """Run `model.onnx` in fp32, and give its last map beside the descriptor.

    Safe to call from threads.

    Args:
        model: Its model.onnx is read; no torch weights are needed.

    Raises:
        ModelError: There is no model.onnx, or it has no last map that is pooled over positions.
    """

    def __init__(self, model: ModelFolder) -> None:
        self._label = model.label
        core = openvino_core()
        try:
            network = core.read_model(model.read_onnx_bytes())
        except RuntimeError as error:
            raise self._foreign("OpenVINO cannot read it") from error
        unnormalised = self._before_normalisation(network)
        reduce = _nearest_pooling(unnormalised.get_node())
        if reduce is None:
            raise self._foreign("its descriptor is not the mean over the positions of a map")
        last_map = _named(network, _LAST_MAP) or _unclamped(reduce)
        pooled = _pooled(reduce)
        network.add_outputs([last_map])
        self._compiled = core.compile_model(network, "CPU", _FP32)
        self.whitening = self._read_whitening(core, pooled, unnormalised)

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Map (H, W, 3) uint8 RGB to the last map (C, h, w) and the unit descriptor (D,)."""
        request = self._compiled.create_infer_request()
        request.infer({0: pixels[None]})
        descriptor, last_map = (np.array(request.get_output_tensor(i).data[0], np.float32) for i in (0, 1))
        return last_map, descriptor

    def _before_normalisation(self, network: Any) -> Any:
        """Find the output of the graph that is brought to unit length last: g."""
        node = _skip(network.output(0).get_node().input_value(0), {"Convert"}).get_node()
        if node.get_type_name() not in {"Divide", "NormalizeL2"}:
            raise self._foreign("its output is not a vector brought to unit length")
        return node.input_value(0)

    def _read_whitening(self, core: Any, pooled: Any, unnormalised: Any) -> Whitening:
        """Read the layer off by what it makes of nought and of each unit vector, whatever it is built of.

        That it is affine is not taken on trust: descriptors computed from it are compared with the network's.
        """
        import openvino

        channels = pooled.get_partial_shape()[1]
        if channels.is_dynamic:
            raise self._foreign("the number of its channels is not fixed")
        c = channels.get_length()
        if _skip(unnormalised, {"Convert"}).get_node() == pooled.get_node():
            return Whitening(None, np.zeros(c))
        f = openvino.opset13.parameter([-1, c], np.float32)
        for user in pooled.get_target_inputs():
            user.replace_source_output(f.output(0))
        tail = core.compile_model(openvino.Model([unnormalised], [f], "whitening"), "CPU", _FP32)
        probes = np.concatenate([np.zeros((1, c)), _PROBE * np.eye(c)]).astype(np.float32)
        rows = np.asarray(tail(probes)[0], np.float64)
        return Whitening(np.ascontiguousarray((rows[1:] - rows[0]).T / _PROBE), rows[0])

    def _foreign(self, reason: str) -> ModelError:
        return cannot_explain(self._label, f"model.onnx does not fit: {reason}")


def cannot_explain(label: str, reason: str) -> ModelError:
    """Make the error for a model whose scores do not decompose over positions."""
    return ModelError(
        f"Scores of {label} cannot be explained: {reason}.",
        "Explanations need a network with a last map, GeM pooling and one linear layer, as cfcd exports it.",
    )


def _skip(output: Any, kinds: set[str]) -> Any:
    """Go back over nodes of these kinds along their first input."""
    while output.get_node().get_type_name() in kinds:
        output = output.get_node().input_value(0)
    return output


def _nearest_pooling(node: Any) -> Any:
    """Find the last mean over rows and columns that a node is computed from, or None."""
    waiting, seen = deque([node]), {node.get_name()}
    while waiting:
        node = waiting.popleft()
        if node.get_type_name() == "ReduceMean" and _over_positions(node):
            return node
        for i in range(node.get_input_size()):
            before = node.input_value(i).get_node()
            if before.get_name() not in seen:
                seen.add(before.get_name())
                waiting.append(before)
    return None


def _over_positions(reduce: Any) -> bool:
    rank = reduce.input_value(0).get_partial_shape().rank
    axes = _constant(reduce.input_value(1))
    return (
        rank.is_static
        and rank.get_length() == 4
        and axes is not None
        and sorted(int(axis) % 4 for axis in axes.reshape(-1)) == [2, 3]
    )


def _pooled(reduce: Any) -> Any:
    """Give the output of the pooling: the mean, or its root."""
    users = list(reduce.output(0).get_target_inputs())
    if len(users) == 1 and users[0].get_node().get_type_name() == "Power":
        return users[0].get_node().output(0)
    return reduce.output(0)


def _unclamped(reduce: Any) -> Any:
    """Give the map that is pooled, before its power and before the floor that GeM gives it.

    GeM's floor is a small positive number; nought is that of a ReLU, and an upper limit that of ReLU6: both
    belong to the map.
    """
    output = _skip(reduce.input_value(0), {"Power", "Convert"})
    while (before := _before_floor(output.get_node())) is not None:
        output = before
    return output


def _before_floor(node: Any) -> Any:
    """Give what a node limits in a way that GeM does, or converts; None for any other node."""
    kind = node.get_type_name()
    if kind == "Convert":
        return node.input_value(0)
    if kind == "Clamp":
        limits = node.get_attributes()
        floors = 0 < limits["min"] < 1 and limits["max"] >= _UNBOUNDED
        return node.input_value(0) if floors else None
    if kind in {"Maximum", "Minimum"}:
        for i in (0, 1):
            limit = _constant(node.input_value(i))
            if limit is not None and limit.size == 1:
                value = float(limit.reshape(-1)[0])
                floors = 0 < value < 1 if kind == "Maximum" else value >= _UNBOUNDED
                return node.input_value(1 - i) if floors else None
    return None


def _constant(output: Any) -> NDArray[Any] | None:
    node = output.get_node()
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None


def _named(network: Any, name: str) -> Any:
    """Find the output of the graph whose tensor has this name, or None."""
    for node in network.get_ordered_ops():
        for output in node.outputs():
            if name in output.get_names():
                return output
    return None
