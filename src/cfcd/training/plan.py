"""Which pictures make up each step, and how fast each step learns: pure functions of recipe, seed and epoch.

A step is planned for all processes together; each takes its columns. So the pictures of a step do not depend
on how many processes share it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfcd.errors import UsageError

if TYPE_CHECKING:
    from cfcd.training.recipe import PhaseRecipe
    from cfcd.training.tuples import TupleSampler

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class EpochPlan:
    """Hold the pictures of one epoch, of this process.

    Attributes:
        images: (S, B) image numbers, a row per step.
        slots: (S, B) place of each in the epoch of all processes: the key of its random crop.
    """

    images: Integers
    slots: Integers

    def __len__(self) -> int:
        """Count the steps."""
        return len(self.images)

    def share(self, processes: int, process: int) -> EpochPlan:
        """Cut out one process's columns."""
        width = self.images.shape[1] // processes
        columns = slice(process * width, (process + 1) * width)
        return EpochPlan(self.images[:, columns], self.slots[:, columns])

    def after(self, steps: int) -> EpochPlan:
        """Leave out the steps that are done."""
        return EpochPlan(self.images[steps:], self.slots[steps:])


def plan_coarse(images: int, batch: int, *, seed: int, epoch: int) -> EpochPlan:
    """Shuffle the pictures into full batches; what is left over stays out of this epoch.

    Fewer pictures than a batch are taken several times, each time in another crop.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    steps = max(1, images // batch)
    rounds = -(-steps * batch // images)
    order = np.concatenate([random.permutation(images) for _ in range(rounds)])
    return _plan(order[: steps * batch].reshape(steps, batch))


def plan_fine(sampler: TupleSampler, batch: int, *, epoch: int) -> EpochPlan:
    """Lay the tuples of an epoch out in full batches."""
    tuples = sampler.epoch(epoch, processes=batch // sampler.tuple_size)
    return _plan(tuples.images.reshape(-1, batch))


def learning_rate(phase: PhaseRecipe, step: int, steps: int) -> float:
    """Compute the learning rate of a step (0 first) of a phase: linear warm-up times half a cosine to 0.

    The greatest one is lr, or less in a phase of fewer than `full_lr_steps` steps: a small collection says
    little about pictures that are not in it.
    """
    warm = phase.warmup * steps
    rise = 1.0 if step >= warm else phase.warmup_from + (1 - phase.warmup_from) * min(1.0, (step + 1) / warm)
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    share = min(1.0, steps / phase.full_lr_steps) if phase.full_lr_steps else 1.0
    return phase.lr * share * rise * fall


def check_shares(name: str, batch: int, processes: int, accumulate: int, unit: int = 1) -> None:
    """Raise UsageError unless a batch splits evenly over processes and accumulated parts, in whole units.

    Args:
        name: The phase, for the message.
        batch: Pictures per step of all processes.
        processes: That share it.
        accumulate: Parts that each process's share is computed in.
        unit: Pictures that must stay together: the tuple size of the fine phase.
    """
    parts = processes * accumulate * unit
    if batch % parts:
        tuples = f" in tuples of {unit}" if unit > 1 else ""
        raise UsageError(
            f"{name}.batch {batch} does not split over {processes} processes and {accumulate} accumulated"
            f" parts{tuples}.",
            f"Make it a multiple of {parts}.",
        )


def _plan(images: Integers) -> EpochPlan:
    return EpochPlan(images, np.arange(images.size).reshape(images.shape))
