"""Run a model's network on a device: OpenVINO on the CPU, torch elsewhere.

A runtime takes stacks of equally sized uint8 pictures and gives unit descriptors; it knows nothing
of files, scales or catalogs.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cfcd.errors import MissingExtra, ModelError, UsageError
from cfcd.model.openvino_core import openvino_core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.model import ModelFolder

PRECISIONS = ("auto", "bf16", "fp32")


class Runtime(Protocol):
    """Turn pixels into descriptors on one device."""

    device: str
    precision: str
    batch: int

    def submit(self, pixels: NDArray[np.uint8]) -> Future[NDArray[np.float32]]:
        """Start on (n, H, W, 3) uint8 RGB with n <= batch; the future gives (n, D) float32 unit rows."""
        ...


class OpenVinoRuntime:
    """Run `model.onnx` on the CPU, one picture per request and one request per core at a time."""

    batch = 1  # one picture per stream is as fast as eight, and no picture waits for another
    device = "cpu"

    def __init__(self, model: ModelFolder, precision: str = "auto") -> None:
        import openvino

        core = openvino_core()
        if precision == "auto":
            able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precision = "bf16" if able else "fp32"
        self.precision = precision
        hint = "f32" if precision == "fp32" else "bf16"
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint}
        try:
            network = core.read_model(model.read_onnx_bytes())
            compiled = core.compile_model(network, "CPU", options)
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO cannot load model.onnx of {model.label}: {str(error).strip().splitlines()[-1]}.",
                "Write the model folder again, or update the openvino package.",
            ) from error
        self._queue = openvino.AsyncInferQueue(compiled)
        self._queue.set_callback(_finish)

    def submit(self, pixels: NDArray[np.uint8]) -> Future[NDArray[np.float32]]:
        """Start on (1, H, W, 3) uint8; blocks while every stream is busy."""
        future: Future[NDArray[np.float32]] = Future()
        self._queue.start_async({0: pixels}, future)
        return future


def _finish(request: Any, future: Future[NDArray[np.float32]]) -> None:
    """Copy the output out of the request, which the next picture reuses."""
    try:
        future.set_result(np.array(request.get_output_tensor().data, dtype=np.float32))
    except Exception as error:
        future.set_exception(error)


class TorchRuntime:
    """Run the torch network, on a GPU in batches or on the CPU where a model has no ONNX file."""

    def __init__(self, model: ModelFolder, device: str, precision: str = "auto") -> None:
        if find_spec("torch") is None:
            raise MissingExtra(
                f"{model.label} on {device!r} needs torch, which is not installed.",
                'Install it with pip install "cfcd[train]".',
            )
        import torch

        from cfcd.model.network import PixelsToDescriptor

        self.device = device
        on_gpu = device.startswith("cuda")
        if on_gpu and not torch.cuda.is_available():
            raise UsageError(f"The device {device!r} is not available.", "Use --device cpu.")
        self.batch = 32 if on_gpu else 4
        if precision == "auto":
            precision = "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "fp32"
        self.precision = precision
        self._torch = torch
        self._net = PixelsToDescriptor(model.load_network(), model.config.preprocessing).eval().to(device)

    def submit(self, pixels: NDArray[np.uint8]) -> Future[NDArray[np.float32]]:
        """Run (n, H, W, 3) uint8 at once; the future is already done."""
        torch = self._torch
        future: Future[NDArray[np.float32]] = Future()
        kind = self.device.split(":")[0]
        with (
            torch.inference_mode(),
            torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            # A copy: torch refuses to share the read-only memory of decoded pictures.
            out = self._net(torch.from_numpy(pixels.copy()).to(self.device, non_blocking=True))
        future.set_result(out.float().cpu().numpy())
        return future


def choose_runtime(model: ModelFolder, device: str = "auto", precision: str = "auto") -> Runtime:
    """Make the runtime for a device.

    Args:
        model: The model to run.
        device: "auto" (a GPU when there is one and torch is installed, else the CPU), "cpu", "torch-cpu"
            (the torch network on the CPU), "cuda" or "cuda:N".
        precision: "bf16", "fp32", or "auto": bf16 where the device has it, but fp32 for models with the
            authors' preprocessing, whose descriptors are to be compared with published ones.

    Raises:
        UsageError: Unknown device or precision.
        MissingExtra: The device needs torch, which is not installed.
        ModelError: The network cannot be loaded.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"The precision {precision!r} is unknown.", f"Use one of {', '.join(PRECISIONS)}.")
    if precision == "auto" and model.config.preprocessing.resize == "bilinear_plain":
        precision = "fp32"
    if device == "auto" and model.weights_path is None:
        device = "cpu"  # an ONNX-only model has nothing for torch to run
    if device == "auto":
        # Asking torch itself would cost seconds of import on the many machines without a GPU.
        has_gpu = shutil.which("nvidia-smi") is not None and find_spec("torch") is not None
        device = "cuda" if has_gpu and _cuda_works() else "cpu"
    if device == "cpu":
        return OpenVinoRuntime(model, precision) if model.onnx_path else TorchRuntime(model, "cpu", precision)
    if device == "torch-cpu":
        return TorchRuntime(model, "cpu", precision)
    if device == "cuda" or device.startswith("cuda:"):
        return TorchRuntime(model, device, precision)
    raise UsageError(f"The device {device!r} is unknown.", "Use auto, cpu, torch-cpu, cuda or cuda:N.")


def _cuda_works() -> bool:
    import torch

    return torch.cuda.is_available()
