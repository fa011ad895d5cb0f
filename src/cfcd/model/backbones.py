"""Backbones: modules from (B, 3, H, W) to the last map (B, C, h, w)."""

from __future__ import annotations

from torch import nn

from cfcd.model.config import Network
from cfcd.model.lite0 import EfficientNetLite0


def build_backbone(config: Network) -> nn.Module:
    """Build the backbone a configuration names, with random weights."""
    return EfficientNetLite0()
