"""Small numbers of a batch that is spread over processes, without gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Gathered:
    """Hold one number per sample of the global batch, in the order of the processes.

    Attributes:
        values: (N over all processes,).
        start: Where this process's samples begin in it.
    """

    values: Tensor
    start: int


def spans_processes() -> bool:
    """Tell whether several processes work on a batch together (torch.distributed is initialised)."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def gather(values: Tensor) -> Gathered:
    """Collect one number per sample, (N,), from every process; N may differ. A collective call."""
    if not spans_processes():
        return Gathered(values, 0)
    own = torch.tensor([len(values)], device=values.device)
    counts = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    sizes = [int(count) for count in counts]
    padded = values.new_zeros(max(sizes))
    padded[: len(values)] = values
    blocks = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(blocks, padded)
    joined = torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)])
    return Gathered(joined, sum(sizes[: dist.get_rank()]))


@torch.no_grad()
def add_up(value: Tensor) -> Tensor:
    """Add a tensor over the processes. A collective call."""
    if spans_processes():
        value = value.clone()
        dist.all_reduce(value)
    return value
