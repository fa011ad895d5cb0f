"""A moving average of the trained weights, as an option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follow the trained parameters: average <- decay average + (1 - decay) parameter, after every step.

    Early on the decay is (1 + n) / (10 + n) for step n if that is smaller: the start is soon forgotten.

    Args:
        module: Whose trained parameters are followed.
        decay: Between 0 and 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start at the parameters as they are."""
        self.decay = decay
        self.followed = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self.followed.items()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move towards the parameters, `steps` being the number of steps done."""
        share = 1 - min(self.decay, (1 + steps) / (10 + steps))
        for name, parameter in self.followed.items():
            self.averages[name].lerp_(parameter, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the parameters' place during the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def load(self, averages: dict[str, Tensor]) -> None:
        """Take over averages of a checkpoint."""
        for name, value in averages.items():
            self.averages[name].copy_(value)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.followed.items():
            kept = parameter.clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(kept)
