"""From the last map of a backbone to one vector."""

from __future__ import annotations

import torch
from torch import nn


class GeM(nn.Module):
    """Take the generalised mean over positions: f_c = (mean of max(F_c, eps)^p)^(1/p).

    Source: Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation" (2018).

    Args:
        p: Exponent; 1 is the average, larger ones move towards the maximum.
        eps: Floor of the values, so that the power has a gradient; signed maps are clamped by it.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        """Keep the exponent and the floor."""
        super().__init__()
        self.p = p
        self.eps = eps

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool (B, C, h, w) of any floating type into (B, C) float32."""
        # In bf16 or fp16 the third power loses the digits that tell pictures apart.
        with torch.autocast(device_type=maps.device.type, enabled=False):
            powers = maps.float().clamp(min=self.eps).pow(self.p)
            return powers.mean((2, 3)).pow(1.0 / self.p)
