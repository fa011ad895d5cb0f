"""Backbones: modules from (B, 3, H, W) to the last map (B, C, h, w)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cfcd.errors import ModelError
from cfcd.model.config import Network
from cfcd.model.extras import need
from cfcd.model.lite0 import EfficientNetLite0

CHOOSE = "Choose a vision model, such as a ResNet, ConvNeXt, ViT or DINOv2."
# The stride sits in the 3x3 convolution (downsample_in_bottleneck False), as in the authors' networks and
# torchvision's.
RESNETS: Mapping[str, dict[str, Any]] = {
    name: {
        "model_type": "resnet",
        "architectures": ["ResNetBackbone"],
        "embedding_size": 64,
        "hidden_sizes": [256, 512, 1024, 2048],
        "depths": depths,
        "layer_type": "bottleneck",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }
    for name, depths in (("resnet50", [3, 4, 6, 3]), ("resnet101", [3, 4, 23, 3]))
}
# Labels, versions and places say nothing about the network; the implementation of attention may name code to
# fetch; the last stage is always the one wanted.
_DROPPED = {
    "attn_implementation",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "out_features",
    "out_indices",
    "problem_type",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
}


class TransformersBackbone(nn.Module):
    """Give the last map of a transformers model; tokens are laid out as a map.

    Args:
        model: A backbone or base model of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        """Keep the model and work out how to read its output."""
        super().__init__()
        self.model = model
        config: Any = model.config
        self.stride = map_stride(config)
        takes = inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        # Backbone classes say their channels, base models say them in their configuration.
        last: Any = getattr(model, "channels", None) or getattr(config, "hidden_sizes", None)
        self.channels = int(last[-1] if last else config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) normalised float to (B, C, H/stride, W/stride)."""
        output = self.model(pixel_values=x, **self.options)
        maps: torch.Tensor
        maps = output.feature_maps[-1] if "feature_maps" in output else output.last_hidden_state
        if maps.dim() == 4:
            return maps
        height, width = x.shape[2] // self.stride, x.shape[3] // self.stride
        # Class and register tokens come first.
        patches = maps[:, maps.shape[1] - height * width :]
        return patches.transpose(1, 2).reshape(maps.shape[0], maps.shape[2], height, width)

    def stages(self) -> list[nn.Module]:
        """List the modules that make the last map one after the other: of a ResNet 5, otherwise this one."""
        if self.model.config.model_type != "resnet":  # type: ignore[union-attr]
            return [self]
        inner: Any = self.model
        return [inner.embedder, *inner.encoder.stages]


def map_stride(config: Any) -> int:
    """Give the pixels per position of the last map of a transformers configuration."""
    patch = getattr(config, "patch_size", None)
    if patch is None:
        return 32
    side = patch if isinstance(patch, int) else max(patch)
    # Networks in stages halve the sides between them; plain vision transformers have one stage.
    stages = getattr(config, "depths", None)
    return side * 2 ** (len(stages) - 1) if isinstance(stages, (list, tuple)) else side


def clean_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what does not describe the network from a transformers configuration."""
    return {key: value for key, value in values.items() if key not in _DROPPED and not key.startswith("_")}


def parse_config(values: Mapping[str, Any]) -> Any:
    """Make a transformers configuration from a stored one.

    Raises:
        ModelError: transformers does not know it.
    """
    need("transformers", "A transformers backbone")
    from transformers import CONFIG_MAPPING

    kind = values.get("model_type")
    # A timm backbone would import another library and fetch weights by itself.
    if kind not in CONFIG_MAPPING or kind == "timm_backbone":
        what = f"The installed transformers has no backbone of model_type {kind!r}."
        raise ModelError(what, "Update transformers, or choose another backbone.")
    try:
        return CONFIG_MAPPING[kind].from_dict(clean_config(values))
    except Exception as error:  # transformers raises many kinds for values it does not accept
        what = f"transformers does not accept the configuration of the {kind} backbone: {error}."
        raise ModelError(what, "Update transformers, or make the model again.") from error


def model_classes(config: Any) -> list[type[nn.Module]]:
    """List the transformers classes that can give a last map for a configuration, the preferred one first."""
    from transformers import MODEL_FOR_BACKBONE_MAPPING, MODEL_MAPPING

    mappings = (MODEL_FOR_BACKBONE_MAPPING, MODEL_MAPPING)
    # A few entries are tuples of several classes: none of those is a plain picture network.
    found: list[Any] = [mapping.get(type(config), None) for mapping in mappings]
    classes: list[type[nn.Module]] = [item for item in found if isinstance(item, type)]
    if not classes:
        what = f"transformers has no picture backbone for the model type {config.model_type!r}."
        raise ModelError(what, CHOOSE)
    return classes


def class_options(kind: type[nn.Module]) -> dict[str, Any]:
    """Leave out the pooling layer of classes that have one: nothing here would use or train it."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}


def build_transformers(values: Mapping[str, Any]) -> TransformersBackbone:
    """Build a transformers backbone with random weights; "architectures" names its class."""
    config = parse_config(values)
    classes = model_classes(config)
    named = values.get("architectures") or [classes[0].__name__]
    kinds = [kind for kind in classes if [kind.__name__] == list(named)]
    if not kinds:
        known = " or ".join(kind.__name__ for kind in classes)
        raise ModelError(f"The backbone's class must be {known}, not {named!r}.", "Make the model again.")
    return TransformersBackbone(kinds[0](config, **class_options(kinds[0])))


def build_backbone(config: Network) -> nn.Module:
    """Build the backbone a configuration names, with random weights.

    Raises:
        ModelError: It cannot be built, or has another number of channels than the configuration says.
        MissingExtra: transformers is needed and not installed.
    """
    backbone: EfficientNetLite0 | TransformersBackbone
    if config.backbone == "efficientnet_lite0":
        backbone = EfficientNetLite0()
    else:
        backbone = build_transformers(config.backbone_config or RESNETS[config.backbone])
    if backbone.channels != config.channels:
        what = f"network.channels is {config.channels}, but {config.backbone} has {backbone.channels}."
        raise ModelError(what, "Mend the value, or make the model again with `cfcd create`.")
    return backbone
