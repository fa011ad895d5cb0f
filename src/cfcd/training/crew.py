"""The processes that train together, and their device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from cfcd.losses.global_batch import add_up

T = TypeVar("T")


class Crew:
    """Know this process's device and place among the others; started by `torchrun`, or alone.

    Attributes:
        device: Where this process computes.
        processes: How many train together.
        process: Which of them this is, 0 first.
    """

    def __init__(self) -> None:
        """Join the others, which accelerate finds through torchrun's environment variables."""
        self._accelerator = Accelerator(mixed_precision="no")
        self.device: torch.device = self._accelerator.device
        self.processes: int = self._accelerator.num_processes
        self.process: int = self._accelerator.process_index

    @property
    def leads(self) -> bool:
        """Tell whether this process is the one that writes files and talks."""
        return self.process == 0

    def share(self, module: nn.Module) -> nn.Module:
        """Make the processes average the gradients of a module; start all at the first one's weights."""
        if self.processes == 1:
            return module
        shared: nn.Module = self._accelerator.prepare_model(module)
        return shared

    @contextmanager
    def apart(self, module: nn.Module, *, wanted: bool) -> Iterator[None]:
        """Leave gradients unaveraged within the block, for all but the last of accumulated parts."""
        if wanted:
            with self._accelerator.no_sync(module):
                yield
        else:
            yield

    def add_up(self, value: Tensor) -> Tensor:
        """Add a tensor over the processes, into one on the device it came from."""
        return add_up(value.to(self.device)).to(value.device)

    def collect(self, value: T) -> list[T]:
        """Give every process the plain values of all, in their order."""
        if self.processes == 1:
            return [value]
        values: list[Any] = [None] * self.processes
        dist.all_gather_object(values, value)
        return values

    def merge(self, values: dict[int, T]) -> dict[int, T]:
        """Give every process the entries of all; of equal keys the last process's counts."""
        return {key: value for some in self.collect(values) for key, value in some.items()}

    def wait(self) -> None:
        """Wait until every process has come this far."""
        self._accelerator.wait_for_everyone()

    def random_states(self) -> list[Tensor]:
        """Copy torch's random states: CPU, and this process's GPU if it has one."""
        states = [torch.get_rng_state()]
        return states + ([torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else [])

    def set_random_states(self, states: list[Tensor]) -> None:
        """Put copied random states back."""
        torch.set_rng_state(states[0])
        if self.device.type == "cuda" and len(states) > 1:
            torch.cuda.set_rng_state(states[1], self.device)
