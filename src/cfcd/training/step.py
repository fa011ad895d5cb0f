"""One step of training: losses, gradients, update, and the numbers to report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cfcd.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.training.crew import Crew
    from cfcd.training.crops import Crops
    from cfcd.training.network import Losses, TrainingNet
    from cfcd.training.recipe import FineRecipe, Recipe

_NO_MEMORY = re.compile(r"out of memory|(can't|cannot|could not) allocate memory|not enough memory", re.I)
_KEYS = (
    "loss",
    "classification",
    "triplets",
    "distillation",
    "median",
    "scale",
    "margin",
    "accepted",
    "active",
)


@dataclass(frozen=True)
class Measured:
    """Hold the sums of one step's numbers on this process, still on the device; `values` follows `_KEYS`."""

    values: Tensor

    def read(self, crew: Crew, fine: bool) -> dict[str, float | None]:
        """Average over the processes (pairs of positions are added up) and bring the numbers over."""
        found = dict(zip(_KEYS, crew.add_up(self.values).tolist(), strict=True))
        row: dict[str, float | None] = {
            key: value if key in ("accepted", "active") else value / crew.processes
            for key, value in found.items()
        }
        if not fine:
            row |= {"triplets": None, "accepted": None, "active": None}
        return row


class Stepper:
    """Take steps with one optimiser: all of one phase.

    Args:
        net: What is trained.
        shared: The same, as the crew shares it.
        optimizer: Of this phase.
        crew: The processes.
        recipe: Weights of the losses, clipping, accumulation.
        fine: The fine phase's recipe, None in the coarse phase.
    """

    def __init__(
        self,
        net: TrainingNet,
        shared: nn.Module,
        optimizer: torch.optim.SGD,
        crew: Crew,
        recipe: Recipe,
        fine: FineRecipe | None,
    ) -> None:
        """Keep the parts."""
        self.net, self.shared, self.optimizer, self.crew = net, shared, optimizer, crew
        self.recipe, self.fine = recipe, fine
        self.scaler = torch.amp.GradScaler(crew.device.type, enabled=net.precision.scaled)
        self._trained = [parameter for parameter in net.parameters() if parameter.requires_grad]

    def take(self, crops: Crops, rate: float) -> Measured:
        """Learn from the crops of one step at a learning rate.

        Raises:
            TrainingError: The memory does not suffice.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parts = self.recipe.optimizer.accumulate
        pixels, labels = np.split(crops.pixels, parts), np.split(crops.labels, parts)
        total = torch.zeros(len(_KEYS), device=self.crew.device)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            for number, (some, theirs) in enumerate(zip(pixels, labels, strict=True)):
                with self.crew.apart(self.shared, wanted=number + 1 < parts):
                    total += self._part(some, theirs, parts)
            self._update()  # the first one makes the momentum
        except (MemoryError, RuntimeError) as error:
            # torch has a type for GPUs only; on a CPU its text says it.
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY.search(str(error)):
                raise _out_of_memory(crops.pixels, parts) from error
            raise
        return Measured(total)

    def _update(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.recipe.optimizer.clip is not None:
            nn.utils.clip_grad_norm_(self._trained, self.recipe.optimizer.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def _part(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], parts: int) -> Tensor:
        device = self.crew.device
        given = (torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device))
        losses: Losses = self.shared(*given, self.fine)
        triplets, accepted, active = self._triplets(losses, parts)
        loss = losses.classification + self.recipe.distill * losses.distillation
        if self.fine is not None:
            loss = loss + self.fine.weight * triplets
        self.scaler.scale(loss / parts).backward()  # type: ignore[no-untyped-call]
        numbers = [loss, losses.classification, triplets, losses.distillation]
        numbers += [losses.median, losses.scale, losses.margin]
        shares = torch.stack([number.detach().float() for number in numbers]) / parts
        return torch.cat([shares, torch.stack([accepted, active]).float()])

    def _triplets(self, losses: Losses, parts: int) -> tuple[Tensor, Tensor, Tensor]:
        """Reduce the triplets of the whole batch, as if one process had computed it in one part."""
        if losses.triplets is None or self.fine is None:
            nothing = losses.classification.new_zeros(())
            return nothing, nothing, nothing
        found = losses.triplets
        accepted = found.accepted.sum()
        # Gradients are averaged over processes and parts, so a sum over all is as many times the average.
        loss = found.loss * self.crew.processes * parts
        if self.fine.reduction == "mean":
            # Of this part over the processes; parts are then averaged.
            count = self.crew.add_up(accepted) * (self.fine.tuple_size - 2)
            loss = loss / parts / count.clamp_min(1)
        return loss, accepted, found.active


def check_finite(row: dict[str, float | None], phase: str, step: int, rate: float) -> None:
    """Raise TrainingError when the loss of a step is not a number."""
    loss = row["loss"]
    if loss is None or not np.isfinite(loss):
        raise TrainingError(
            f"The loss became {loss} in step {step} ({phase} phase, learning rate {rate:.2g}).",
            f"Lower {phase}.lr or set optimizer.clip; the last checkpoint is from before.",
        )


def check_weights(net: nn.Module, phase: str, step: int) -> None:
    """Raise TrainingError when a step has left values that are no numbers: its loss is of before it."""
    values = [value for value in net.state_dict().values() if value.is_floating_point()]
    if not torch.stack([value.isfinite().all() for value in values]).all():
        raise TrainingError(
            f"The weights are no longer numbers after step {step} ({phase} phase).",
            f"Lower {phase}.lr or set optimizer.clip; the last checkpoint is from before.",
        )


def _out_of_memory(pixels: NDArray[np.uint8], parts: int) -> TrainingError:
    count, side = len(pixels) // parts, pixels.shape[1]
    return TrainingError(
        f"The memory does not suffice for {count} crops of {side} x {side} pixels at a time.",
        "Raise optimizer.accumulate, or lower the batch of this phase or augment.size, into another folder.",
    )
