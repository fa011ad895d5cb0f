"""The descriptor network: backbone, generalised mean, whitening."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from cfcd.model.backbones import build_backbone
from cfcd.model.config import Network, Preprocessing
from cfcd.model.pooling import GeM


class DescriptorNet(nn.Module):
    """Turn normalised pictures into descriptors; sub-modules are `backbone`, `pooling` and `whitening`.

    `whitening` holds `linear` (C -> D, with bias) and, when asked for, `batchnorm`; without whitening it is
    the identity and the pooled vector is the descriptor.

    Args:
        config: What to build.
        backbone: A ready backbone to use instead of a newly built one with random weights.
    """

    def __init__(self, config: Network, backbone: nn.Module | None = None) -> None:
        """Build the layers."""
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config) if backbone is None else backbone
        self.pooling = GeM(config.p, config.eps)
        self.whitening: nn.Module = nn.Identity()
        if config.whitening is not None:
            dim = config.whitening.dim
            linear = nn.Linear(config.channels, dim)
            # Orthogonal rows keep distances best while untrained; training moves on from there.
            nn.init.orthogonal_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers = OrderedDict[str, nn.Module](linear=linear)
            if config.whitening.batchnorm:
                layers["batchnorm"] = nn.BatchNorm1d(dim)
            self.whitening = nn.Sequential(layers)

    def last_map(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) normalised float to the backbone's last map (B, C, h, w)."""
        return self.backbone(x)  # type: ignore[no-any-return]

    def describe(self, maps: torch.Tensor) -> torch.Tensor:
        """Map last maps (B, C, h, w) to g (B, D), not normalised."""
        return self.whitening(self.pooling(maps))  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) normalised float to g (B, D), not normalised."""
        return self.describe(self.last_map(x))


class PixelsToDescriptor(nn.Module):
    """Turn RGB bytes into unit descriptors: what `model.onnx` holds.

    Args:
        net: The network.
        preprocessing: Its normalisation; sizes and scales are the caller's business.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: DescriptorNet, preprocessing: Preprocessing) -> None:
        """Build the layers."""
        super().__init__()
        self.net = net
        self.flip = preprocessing.channel_order == "BGR"
        for name, value in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def with_map(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (N, H, W, 3) uint8 RGB to (N, D) float32 unit rows and the last map (N, C, h, w)."""
        x = pixels.permute(0, 3, 1, 2).float()
        x = x[:, [2, 1, 0]] if self.flip else x
        maps = self.net.last_map((x - self.mean) / self.std)
        return F.normalize(self.net.describe(maps).float()), maps

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (N, H, W, 3) uint8 RGB to (N, D) float32 unit rows."""
        return self.with_map(pixels)[0]
