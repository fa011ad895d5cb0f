"""The loop: phases, epochs and steps, from wherever a run stands to the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from cfcd.errors import Interrupted, TrainingError
from cfcd.training.average import WeightAverage
from cfcd.training.build import Built, build_optimizer
from cfcd.training.checkpoints import Checkpoint, save_checkpoint
from cfcd.training.crops import CropLoader
from cfcd.training.fitting import Fitting
from cfcd.training.mining import Mined, should_mine
from cfcd.training.passes import Passes
from cfcd.training.plan import EpochPlan, learning_rate, plan_coarse, plan_fine
from cfcd.training.signals import StopAsked, stop_between_steps
from cfcd.training.step import Stepper, check_finite, check_weights
from cfcd.training.tuples import TupleSampler

if TYPE_CHECKING:
    from cfcd.encoding.encoder import Reading
    from cfcd.training.crew import Crew
    from cfcd.training.data import TrainingSet
    from cfcd.training.log import MetricsLog
    from cfcd.training.monitor import Monitor
    from cfcd.training.recipe import Recipe

Advance = Callable[[int, int], None]
Progress = Callable[[str], AbstractContextManager[Advance]]
Note = Callable[[str], None]
Phase = Literal["coarse", "fine"]
_ROWS_PER_EPOCH = 200  # of the log, at most


@dataclass
class Position:
    """Say where a run stands: between two steps."""

    phase: Phase = "coarse"
    epoch: int = 0
    step: int = 0
    steps: int = 0
    seconds: float = 0.0


class Loop:
    """Train a network by a recipe.

    Args:
        recipe: How.
        data: What it is trained on.
        built: The network.
        crew: The processes.
        folder: Of the run.
        log: Takes the numbers; None on processes that do not write.
        monitor: Pictures to measure mAP on, None for no measuring.
        reading: How pictures are read.
        progress: Gives, for a label, a context whose value is called with (done, total).
        note: Takes a line of chatter per epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingSet,
        built: Built,
        crew: Crew,
        folder: Path,
        *,
        log: MetricsLog | None,
        monitor: Monitor | None,
        reading: Reading | None,
        progress: Progress,
        note: Note,
    ) -> None:
        """Keep the parts."""
        self.recipe, self.data, self.crew, self.folder = recipe, data, crew, folder
        self.net, self.preprocessing, self.origin = built.net, built.preprocessing, built.origin
        self.log, self.monitor = log, monitor
        self.progress, self.note = progress, note
        self.passes = Passes(self.net, built.preprocessing, crew, recipe.run.workers, reading)
        self.loader = CropLoader(
            data, recipe.augment, seed=recipe.seed, workers=recipe.run.workers, reading=reading
        )
        self.fitting = Fitting(data, self.passes, recipe.whitening, self.loader.unreadable)
        self.at = Position()
        self.mined: Mined | None = None
        self.measured: list[float | None] = []
        self.average = WeightAverage(self.net, recipe.optimizer.ema) if recipe.optimizer.ema else None
        self._begun = time.monotonic()
        self._saved = time.monotonic()
        self._restored: dict[str, object] | None = None

    @property
    def seconds(self) -> float:
        """Give the time worked so far, interruptions left out."""
        return self.at.seconds + time.monotonic() - self._begun

    def begin(self) -> None:
        """Measure the untrained backbone, then set whitening and class weights from its features."""
        self._measure(plain=True)
        with self.progress("looking at the pictures") as advance:
            self.fitting.begin(advance)

    def finish(self) -> float | None:
        """Fit the whitening to the trained features; give the mAP that makes, None where not measured."""
        with self.progress("fitting the whitening") as advance:
            self.fitting.refit(advance)
        self._measure()
        found = self.measured[-1]
        if found is not None and self.monitor is not None:
            self.note(f"whitening fitted again  mAP {found:.1f} ({self.monitor.of})")
        return found

    def train(self) -> None:
        """Go through both phases from where the run stands."""
        shared = self.crew.share(self.net)
        for phase in ("coarse", "fine"):
            settings = self.recipe.coarse if phase == "coarse" else self.recipe.fine
            if (self.at.phase, phase) == ("fine", "coarse") or not settings.epochs:
                continue
            if self.at.phase != phase:
                self.at.phase, self.at.epoch, self.at.step = "fine", 0, 0
            fine = self.recipe.fine if phase == "fine" else None
            optimizer = build_optimizer(self.net, settings, self.recipe.optimizer)
            stepper = Stepper(self.net, shared, optimizer, self.crew, self.recipe, fine)
            if self._restored is not None:
                stepper.load(self._restored)
                self._restored = None
            while self.at.epoch < settings.epochs:
                self._epoch(stepper, settings.epochs)
        self.net.eval()

    def _measure(self, *, plain: bool = False) -> None:
        """Measure mAP on the monitor's pictures, without the whitening if plain, and write it to the log."""
        found = None
        if self.monitor is not None:
            with self.progress("measuring") as advance:
                found = self.monitor.run(self.passes, advance, plain=plain)
        self.measured.append(found)
        if found is not None and self.monitor is not None:
            self._write({"mAP": found, "of": self.monitor.of})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the moving averages of the weights in the block, if the recipe asks for them."""
        with self.average.applied() if self.average else nullcontext():
            yield

    def _epoch(self, stepper: Stepper, epochs: int) -> None:
        """Take the rest of an epoch's steps, then measure, report and save."""
        at = self.at
        with self.averaged():
            plan = self._plan(stepper)
        # Processes that train together would stop apart: they rely on their checkpoints.
        with stop_between_steps(wanted=self.crew.processes == 1) as stop:
            row = self._steps(stepper, plan, epochs, stop)
            with self.averaged():
                self._measure()
            self._report(row, epochs)
            at.epoch, at.step = at.epoch + 1, 0
            self._save(stepper)
            self._stop_if(stop.asked)

    def _steps(
        self, stepper: Stepper, plan: EpochPlan, epochs: int, stop: StopAsked
    ) -> dict[str, float | None]:
        """Take the rest of an epoch's steps; give the numbers of the last."""
        at, phase = self.at, self.at.phase
        every = max(1, len(plan) // _ROWS_PER_EPOCH)
        settings = self.recipe.coarse if phase == "coarse" else self.recipe.fine
        key = at.epoch + (self.recipe.coarse.epochs if phase == "fine" else 0)
        rest = plan.share(self.crew.processes, self.crew.process).after(at.step)
        row: dict[str, float | None] = {}
        self.net.train()
        since, count = time.monotonic(), 0
        with (
            self.progress(f"{phase} {at.epoch + 1}/{epochs}") as advance,
            closing(self.loader.stream(key, rest.images, rest.slots)) as stream,
        ):
            for crops in stream:
                rate = learning_rate(settings, at.epoch * len(plan) + at.step, epochs * len(plan))
                measured = stepper.take(crops, rate)
                at.step += 1
                at.steps += 1
                count += plan.images.shape[1]
                if self.average:
                    self.average.update(at.steps)
                advance(at.step, len(plan))
                asked = stop.asked  # once: a signal may come between two looks
                look = at.step % every == 0 or at.step == len(plan)
                if not look and not asked:
                    continue
                row = measured.read(self.crew, fine=phase == "fine")
                # Before anything is saved: no checkpoint may hold weights that are not numbers.
                check_finite(row, phase, at.steps, rate)
                if look:  # a stop between two rows adds none: the log is that of a run never stopped
                    speed = count / max(time.monotonic() - since, 1e-9)
                    since, count = time.monotonic(), 0
                    self._write({"lr": rate, **row, "images_per_s": round(speed, 2)})
                if at.step < len(plan):
                    overdue = time.monotonic() - self._saved > 60 * self.recipe.run.checkpoint_minutes
                    if overdue or asked:
                        self._save(stepper)
                    self._stop_if(asked)
        return row

    def _plan(self, stepper: Stepper) -> EpochPlan:
        at, recipe = self.at, self.recipe
        if stepper.fine is None:
            return plan_coarse(len(self.data), recipe.coarse.batch, seed=recipe.seed, epoch=at.epoch)
        if self.mined is None or (at.step == 0 and should_mine(at.epoch, recipe.fine.mine_every)):
            with self.progress("mining") as advance:
                self.mined, unreadable = self.passes.mined(self.data, self.folder, advance)
            self.loader.unreadable.update(unreadable)
            self.note(f"mined: {100 * self.mined.accuracy:.1f} % of the training pictures predicted right")
        sampler = TupleSampler(
            self.data.labels, self.mined.predicted, seed=recipe.seed, tuple_size=recipe.fine.tuple_size
        )
        return plan_fine(sampler, recipe.fine.batch, epoch=at.epoch)

    def _stop_if(self, asked: bool) -> None:
        if asked:
            raise Interrupted(
                f"Stopped after step {self.at.steps}; a checkpoint is in {self.folder}.",
                "The same command with --resume goes on from there.",
            )

    def _save(self, stepper: Stepper) -> None:
        # On every process, so that none waits for one that has stopped.
        check_weights(self.net, self.at.phase, self.at.steps)
        if self.crew.leads:
            save_checkpoint(self.folder, self.checkpoint(stepper))
        self._saved = time.monotonic()

    def checkpoint(self, stepper: Stepper) -> Checkpoint:
        """Collect the state of the run."""
        at = self.at
        predicted = None if self.mined is None else torch.from_numpy(self.mined.predicted.copy())
        return Checkpoint(
            recipe=self.recipe.to_dict(),
            catalog=self.data.identity,
            phase=at.phase,
            epoch=at.epoch,
            step=at.step,
            steps=at.steps,
            seconds=self.seconds,
            net=self.net.state_dict(),
            optimizer=stepper.state(),
            average=dict(self.average.averages) if self.average else {},
            predicted=predicted,
            unreadable=dict(self.loader.unreadable),
            random=self.crew.random_states(),
            measured=list(self.measured),
        )

    def restore(self, found: Checkpoint) -> None:
        """Stand where a checkpoint was written."""
        if found.phase not in ("coarse", "fine"):
            raise TrainingError(
                f"The checkpoint names a phase {found.phase!r}.", "Train into another folder."
            )
        self.net.load_state_dict(found.net)
        if self.average:
            self.average.load(found.average)
        if found.predicted is not None:
            self.mined = Mined(self.data.labels, found.predicted.numpy(), "")
        self.loader.unreadable.update(found.unreadable)
        self.measured = list(found.measured)
        self.at = Position(found.phase, found.epoch, found.step, found.steps, found.seconds)  # type: ignore[arg-type]
        self.crew.set_random_states(found.random)
        self._restored = found.optimizer

    def _report(self, row: dict[str, float | None], epochs: int) -> None:
        found = self.measured[-1]

        def shown(key: str, text: str) -> str:
            value = row.get(key)
            return "" if value is None else text.format(value)

        parts = [
            f"{self.at.phase} {self.at.epoch + 1}/{epochs}",
            shown("loss", "loss {:.3f}"),
            shown("median", "median cosine {:.3f}"),
            shown("accepted", "{:.0f} matches in the last batch"),
            "" if found is None or self.monitor is None else f"mAP {found:.1f} ({self.monitor.of})",
            f"{self.seconds:.0f} s",
        ]
        self.note("  ".join(part for part in parts if part))

    def _write(self, values: dict[str, float | str | None]) -> None:
        if self.log is not None:
            at = self.at
            place = {"step": at.steps, "phase": at.phase, "epoch": at.epoch + (at.step > 0)}
            self.log.write({**place, **values, "seconds": round(self.seconds, 2)})
