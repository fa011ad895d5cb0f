"""Checkpoints: everything that a killed run needs to go on as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from cfcd.errors import TrainingError
from cfcd.files import atomic_write

FILE = "checkpoint.pt"
FORMAT = 1
_FREE_TO_CHANGE = ("run.workers ", "run.checkpoint_minutes ")


@dataclass(frozen=True)
class Checkpoint:
    """Hold the state between two steps.

    Attributes:
        recipe: `Recipe.to_dict()`.
        catalog: Identity of what is trained on.
        phase: "coarse" or "fine".
        epoch: Of the phase, 0 first.
        step: Steps done of this epoch.
        steps: Steps done in all.
        seconds: Worked so far.
        net: State of the TrainingNet.
        optimizer: State of the optimiser and, with fp16, the loss scaler.
        average: The moving averages of the trained tensors, empty without.
        predicted: (N,) mined class of every picture, None before the fine phase.
        unreadable: Row numbers of pictures that could not be read at the start, with the reason.
        random: Random states of torch: CPU first, then GPU if there is one.
        measured: mAP before training and after every epoch, None where it was not measured.
    """

    recipe: dict[str, Any]
    catalog: str
    phase: str
    epoch: int
    step: int
    steps: int
    seconds: float
    net: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any]
    predicted: torch.Tensor | None
    unreadable: dict[int, str]
    random: list[torch.Tensor]
    measured: list[float | None]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a run; the one before stays until this one is on disk."""
    values = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    with atomic_write(folder / FILE) as file:
        torch.save({"format": FORMAT, **values}, file)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the checkpoint of a run, tensors and plain values only; None if there is none.

    Raises:
        TrainingError: The file is damaged, or of another version.
    """
    path = folder / FILE
    if not path.exists():
        return None
    mend = "Train into another folder, or remove this one to start anew."
    try:
        # Onto the CPU: the optimiser and the network move their parts themselves.
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch raise many kinds for damaged files
        # torch's own words run over pages, and tell how to run the code in a file after all.
        denied = isinstance(error, PermissionError | IsADirectoryError) and error.strerror
        reason = denied or "damaged, or more than tensors and plain values"
        raise TrainingError(f"{path} is not a checkpoint that can be read: {reason}.", mend) from error
    wanted = {"format", *(item.name for item in fields(Checkpoint))}
    if not isinstance(values, dict) or set(values) != wanted or values.pop("format") != FORMAT:
        raise TrainingError(f"{path} was written by another version of cfcd.", mend)
    return Checkpoint(**values)


def check_same(checkpoint: Checkpoint, recipe: dict[str, Any], catalog: str, folder: Path) -> None:
    """Raise TrainingError that names what differs when a run is to go on with other settings or pictures."""
    if checkpoint.catalog != catalog:
        raise TrainingError(
            f"The run in {folder} was started on other pictures, labels or splits.",
            "Give the same data, or train into another folder.",
        )
    changed = [
        line for line in _differences(checkpoint.recipe, recipe) if not line.startswith(_FREE_TO_CHANGE)
    ]
    if changed:
        raise TrainingError(
            f"The run in {folder} was started with another recipe: {'; '.join(changed[:5])}.",
            "Leave the options out to go on as it was, or train into another folder.",
        )


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [
            line
            for key in keys
            for line in _differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
        ]
    same = (
        list(old) == list(new)
        if isinstance(old, list | tuple) and isinstance(new, list | tuple)
        else old == new
    )
    return [] if same else [f"{where} was {old!r}, not {new!r}"]
