"""Model folders: find and read them (standard library only), load and save their networks (torch)."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfcd.errors import ModelError
from cfcd.model.config import ModelConfig, Preprocessing, nearest
from cfcd.model.extras import need

if TYPE_CHECKING:
    import torch

    from cfcd.model.network import DescriptorNet

CONFIG, ONNX, WEIGHTS = "config.json", "model.onnx", "model.safetensors"
TRAINED = "model"  # where a training run puts its model
HEAD = "head.safetensors"  # the class head the weights were trained with, where it was kept
CARD, LICENCE = "README.md", "LICENSE"
MAX_CONFIG_BYTES = 1 << 20
_BUILT_IN = Path(__file__).parent
_KEEP: Any = object()


def built_in_names() -> list[str]:
    """List the models that come with cfcd."""
    return sorted(path.parent.name for path in _BUILT_IN.glob(f"*/{CONFIG}"))


@dataclass(frozen=True)
class ModelFolder:
    """Hold a model's folder and its checked configuration; weights are read when asked for.

    Args:
        path: The folder.
        config: What its `config.json` says, or that with other preprocessing.
    """

    path: Path
    config: ModelConfig

    @property
    def name(self) -> str:
        """Give the model's plain name."""
        return self.config.name

    @property
    def dim(self) -> int:
        """Give D, the length of a descriptor."""
        return self.config.network.dim

    @cached_property
    def identity(self) -> str:
        """Give the SHA-256 (hex) over network, preprocessing and weights; the name plays no part."""
        files = self.config.files
        parts = {
            "network": asdict(self.config.network),
            "preprocessing": asdict(self.config.preprocessing),
            "weights": files.get(WEIGHTS) or files.get(ONNX),
        }
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def label(self) -> str:
        """Give name and the start of the identity, for people: "imagenet-lite0@0123456789ab"."""
        return f"{self.name}@{self.identity[:12]}"

    @property
    def reference(self) -> str:
        """Give what `find_model` finds it by again, from any working directory."""
        return self.path.name if self.path.parent == _BUILT_IN else str(self.path.resolve())

    @property
    def onnx_path(self) -> Path | None:
        """Give the path of `model.onnx`, or None for a model that has none."""
        return self.path / ONNX if ONNX in self.config.files else None

    @property
    def weights_path(self) -> Path | None:
        """Give the path of `model.safetensors`, or None for a model that comes as ONNX only."""
        return self.path / WEIGHTS if WEIGHTS in self.config.files else None

    def read_onnx_bytes(self) -> bytes:
        """Read `model.onnx`; raise ModelError when it is missing or is not the file config.json describes."""
        return self._read(ONNX)

    def with_preprocessing(
        self, *, long_side: int | None = _KEEP, scales: tuple[float, ...] = _KEEP
    ) -> ModelFolder:
        """Give the same model with another size limit or other scales, and so another identity.

        Args:
            long_side: Limit in pixels, or None for the original size.
            scales: Relative to the size after the limit.
        """
        wanted: dict[str, Any] = {"long_side": long_side, "scales": scales}
        changes = {key: value for key, value in wanted.items() if value is not _KEEP}
        preprocessing = replace(self.config.preprocessing, **changes)
        return replace(self, config=replace(self.config, preprocessing=preprocessing))

    def load_network(self) -> DescriptorNet:
        """Load the torch network, in evaluation mode, from `model.safetensors` only.

        Raises:
            MissingExtra: torch is not installed.
            ModelError: The weights are missing, damaged, or do not fit the network exactly.
        """
        for package in ("torch", "safetensors"):
            need(package, f"Loading the torch network of {self.name}")
        import torch

        from cfcd.model.network import DescriptorNet

        if self.weights_path is None:
            what = f"The model {self.name} in {self.path} holds {ONNX} only, no torch weights."
            how = f"cfcd create OUT --backbone {self.config.network.backbone}"
            raise ModelError(what, f"Make one that has them with `{how}`.")
        tensors = self._read_tensors(WEIGHTS)
        # Layers draw random weights when made; loading must not move the caller's random state.
        with torch.random.fork_rng(devices=[]):
            net = DescriptorNet(self.config.network)
        check_tensors(
            {key: tuple(value.shape) for key, value in tensors.items()},
            {key: tuple(value.shape) for key, value in net.state_dict().items()},
            str(self.path / WEIGHTS),
        )
        net.load_state_dict(tensors)
        return net.eval()

    def load_head(self) -> torch.Tensor | None:
        """Load the class head (classes, D) float32 that the weights were trained with; None if none was kept.

        Raises:
            MissingExtra: torch is not installed.
            ModelError: The file is missing or damaged.
        """
        if HEAD not in self.config.files:
            return None
        for package in ("torch", "safetensors"):
            need(package, f"Loading the class head of {self.name}")
        tensors = self._read_tensors(HEAD)
        shapes = {key: tuple(value.shape) for key, value in tensors.items()}
        classes = shapes.get("weight", (0,))[0]
        check_tensors(shapes, {"weight": (classes, self.dim)}, str(self.path / HEAD))
        return tensors["weight"]

    def _read_tensors(self, name: str) -> dict[str, torch.Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        data = self._read(name)
        try:
            tensors: dict[str, torch.Tensor] = load(data)
        except SafetensorError as error:
            what = f"{self.path / name} is not a safetensors file: {error}."
            raise ModelError(what, "Restore the file, or make the model again.") from error
        return tensors

    def _read(self, name: str) -> bytes:
        path = self.path / name
        if name not in self.config.files:
            raise ModelError(f"The model {self.name} in {self.path} has no {name}.", "Save the model again.")
        try:
            data = path.read_bytes()
        except OSError as error:
            what = f"{path} cannot be read: {error.strerror}."
            raise ModelError(what, "Restore the file, or make the model again.") from error
        if hashlib.sha256(data).hexdigest() != self.config.files[name]:
            what = f"{path} is not the file that {CONFIG} beside it describes (SHA-256 differs)."
            raise ModelError(what, "Restore both files from one copy, or make the model again.")
        return data


def check_tensors(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Raise ModelError that names missing, unexpected and misshapen tensors, if there are any."""

    def some(names: list[str]) -> str:
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
    misshapen = [
        f"{key} {found[key]} instead of {shape}"
        for key, shape in wanted.items()
        if key in found and found[key] != shape
    ]
    kinds = (("misses", missing), ("has unexpected", unexpected), ("has wrong shapes:", misshapen))
    faults = [f"{verb} {some(names)}" for verb, names in kinds if names]
    if faults:
        what = f"{where} does not fit its network: it {'; it '.join(faults)}."
        raise ModelError(what, "Use weights made for this very network; nothing was loaded.")


def find_model(ref: str | Path) -> ModelFolder:
    """Open a model by built-in name or by folder, reading its configuration only.

    Args:
        ref: A built-in name such as "imagenet-lite0", or a folder ("./imagenet-lite0" is always one), or a
            folder of `cfcd train` with the model in `model/`.

    Raises:
        ModelError: There is no such model, or its config.json cannot be used.
    """
    known = built_in_names()
    path = _BUILT_IN / ref if isinstance(ref, str) and ref in known else Path(ref)
    if not (path / CONFIG).is_file() and (path / TRAINED / CONFIG).is_file():
        path = path / TRAINED
    if not (path / CONFIG).is_file():
        if path.is_dir():
            what = f"The folder {path} holds no model: it has no {CONFIG}."
        else:
            what = f"There is no model {str(ref)!r}.{nearest(str(ref), known)}"
        mend = f"Give the folder of a model (made by `cfcd create`) or a built-in name: {', '.join(known)}."
        raise ModelError(what, mend)
    return ModelFolder(path, _read_config(path / CONFIG))


def _read_config(path: Path) -> ModelConfig:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            what = f"{path} is over {MAX_CONFIG_BYTES} bytes, too large for a model's configuration."
            raise ModelError(what, "Give the folder of a model made by cfcd.")
        return ModelConfig.from_dict(json.loads(data), str(path))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        what = f"{path} is not JSON: {error}."
        raise ModelError(what, "Restore the file, or make the model again.") from error


def save_model(
    net: DescriptorNet,
    folder: str | Path,
    *,
    name: str,
    preprocessing: Preprocessing,
    training: Mapping[str, Any] | None = None,
    head: torch.Tensor | None = None,
) -> ModelFolder:
    """Write a model folder: configuration, torch weights, ONNX (checked against torch) and card.

    Everything is written beside the target first and moved when complete.

    Args:
        net: The network; its mode is left as it was.
        folder: Target; a model that is there is replaced, anything else is never touched.
        name: Plain name of the model.
        preprocessing: How pictures reach it.
        training: JSON record of how the weights came to be, for the card.
        head: (classes, D), the class head to keep beside them; it plays no part in the model's identity.

    Raises:
        ModelError: The target holds something else, or the ONNX file disagrees with the network.
        MissingExtra: torch, safetensors or onnx is not installed.
    """
    need("torch", "Saving a model")
    from cfcd.model.saving import write_model

    target = Path(folder)
    _check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    new, old = work / "new", work / "old"
    try:
        new.mkdir()
        write_model(net, new, ModelConfig(name, net.config, preprocessing, dict(training or {})), head)
        if target.exists():
            target.replace(old)
        try:
            new.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return find_model(target)


def _check_target(target: Path) -> None:
    """Raise ModelError when saving to the target would destroy anything but a model."""
    if not target.exists():
        return
    names = {path.name for path in target.iterdir()} if target.is_dir() else {target.name}
    own = {CONFIG, ONNX, WEIGHTS, HEAD, CARD, LICENCE} if CONFIG in names else set()
    if names - own:
        what = f"{target} holds something else ({min(names - own)}) and is left as it is."
        raise ModelError(what, "Choose another folder, or empty this one yourself.")
