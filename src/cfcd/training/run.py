"""Train: from labelled photos to a model folder, in one call that can be interrupted and resumed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cfcd.catalog import Catalog, read_catalog
from cfcd.encoding.encoder import Reading
from cfcd.errors import TrainingError
from cfcd.evaluation.run import refuse_inside
from cfcd.files import atomic_write, is_free, write_json
from cfcd.lock import only_writer
from cfcd.model import save_model
from cfcd.model.export import to_onnx
from cfcd.model.extras import need
from cfcd.model.folder import TRAINED
from cfcd.model.network import PixelsToDescriptor
from cfcd.training.build import build
from cfcd.training.checkpoints import FILE, Checkpoint, check_same, load_checkpoint
from cfcd.training.crew import Crew
from cfcd.training.curves import draw_curves
from cfcd.training.data import TrainingSet
from cfcd.training.examples import draw_examples
from cfcd.training.log import MetricsLog
from cfcd.training.loop import Advance, Loop, Note, Progress
from cfcd.training.monitor import Monitor
from cfcd.training.plan import check_shares
from cfcd.training.precision import keep_memory
from cfcd.training.recipe import Recipe
from cfcd.training.recipe_file import load_recipe
from cfcd.training.tuples import TupleSampler

SUMMARY, RECIPE = "summary.json", "recipe.yaml"
_NEEDED_AT_THE_END = ("safetensors", "onnx", "tensorboard", "matplotlib")


@dataclass(frozen=True)
class TrainSummary:
    """Say what a run made.

    Attributes:
        folder: Of the run.
        model: Folder of the trained model.
        label: Its name and identity, for people.
        images: Trained on.
        classes: They show.
        steps: Taken.
        seconds: Worked, interruptions left out.
        before: mAP in percent of the untrained backbone on the pictures of `measured_on`, or None.
        after: The same of the trained model.
        measured_on: Which pictures, in words.
        skipped: (path, reason) of pictures that could not be read.
    """

    folder: Path
    model: Path
    label: str
    images: int
    classes: int
    steps: int
    seconds: float
    before: float | None
    after: float | None
    measured_on: str
    skipped: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """Give the summary in two or three lines."""
        minutes = f"{self.seconds / 60:.1f} minutes" if self.seconds >= 60 else f"{self.seconds:.0f} s"
        lines = [
            f"trained on {self.images} pictures of {self.classes} classes, skipped {len(self.skipped)}, "
            f"{self.steps} steps in {minutes}",
            f"model {self.label} -> {self.model}",
        ]
        if self.before is not None and self.after is not None:
            lines.insert(1, f"mAP {self.before:.1f} -> {self.after:.1f} ({self.measured_on})")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Give the summary as plain data."""
        skipped = [{"path": path, "reason": reason} for path, reason in self.skipped]
        return {**vars(self), "folder": str(self.folder), "model": str(self.model), "skipped": skipped}


def train(
    data: str | Path | Catalog,
    out: str | Path,
    recipe: str | Path | Recipe | None = None,
    *,
    options: Sequence[str] | Mapping[str, object] = (),
    root: Path | None = None,
    resume: bool = False,
    reading: Reading | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
    matches: int = 0,
) -> TrainSummary:
    """Learn a model from labelled pictures: coarse phase, mining, fine phase.

    Under `torchrun` all processes call this together, and the first one writes. On one machine with a CPU the
    same data and recipe give the same model, bit for bit, interrupted or not.

    Args:
        data: Pictures or their catalog; of a catalog with a split "train", those.
        out: Folder of the run: the model in `model/`, checkpoint, metrics, curves.
        recipe: A name ("small", "paper"), a YAML file, a recipe, or None to choose by the number of pictures.
        options: Changes to the recipe, as "coarse.lr=0.001" or as a mapping.
        root: Folder that relative paths in a table start from, instead of the table's own.
        resume: Go on with an interrupted run; one that is done is left as it is.
        reading: How pictures are read.
        progress: Gives, for a label, a context whose value is called with (done, total).
        note: Takes a line of chatter per epoch.
        matches: Draw the local matches of this many training tuples into `matches.png`, of a run that is done
            as well.

    Raises:
        TrainingError: The data cannot be trained on, the loss is no number, the memory does not suffice, or
            `out` holds another run.
        UsageError: The recipe, or an option, is not allowed, or `out` lies in the folder of pictures.
        MissingExtra: A package that training needs, were it for its last file, is not installed.
        Interrupted: Stopped by the user; a checkpoint was written.
    """
    for package in _NEEDED_AT_THE_END:
        need(package, "Training")
    catalog = data if isinstance(data, Catalog) else read_catalog(Path(data), root=root)
    chosen = TrainingSet.from_catalog(catalog)
    folder = Path(out)
    if catalog.kind == "folder":
        refuse_inside(folder, catalog.root)
    _claim(folder, resume=resume)
    found = load_checkpoint(folder)
    if recipe is None and not options and (found is not None or (folder / RECIPE).exists()):
        # As it was begun, even if it was stopped before its first checkpoint.
        settings = Recipe.from_dict(found.recipe) if found is not None else load_recipe(folder / RECIPE)
    else:
        settings = load_recipe(recipe, options, images=len(chosen))
    crew = Crew()
    _check_phases(settings, chosen, crew, tuples=settings.fine.epochs > 0 or matches > 0)
    if found is not None:
        check_same(found, settings.to_dict(), chosen.identity, folder)
        if is_finished(folder) and not matches:
            return read_summary(folder)
    with _leading(crew, folder), repeatable(settings.seed, crew.device):
        # Before anything is written: a recipe that cannot be leaves the folder free.
        built = build(settings, len(chosen.classes), crew.device)
        monitor = Monitor.choose(catalog, chosen, settings.run.monitor)
        with _log(crew, folder, settings, found) as log:
            loop = Loop(
                settings,
                chosen,
                built,
                crew,
                folder,
                log=log,
                monitor=monitor,
                reading=reading or Reading(),
                progress=progress if progress and crew.leads else silent,
                note=note if note and crew.leads else lambda _: None,
            )
            return _go(loop, catalog, found, matches)


def _go(loop: Loop, catalog: Catalog, found: Checkpoint | None, matches: int) -> TrainSummary:
    """Train from where the run stands, and write what comes out."""
    loop.note(_intention(loop.recipe, loop.data, loop.crew))
    if loop.net.net.config.backbone == "transformers":
        # Not every backbone can be exported: better to know before training.
        to_onnx(PixelsToDescriptor(loop.net.net, loop.preprocessing).eval())
    if found is None:
        loop.begin()
    else:
        loop.restore(found)
    loop.train()
    done = found is not None and is_finished(loop.folder)
    summary = read_summary(loop.folder) if done else _finish(loop, catalog)
    if matches and loop.crew.leads:
        draw_examples(loop, matches)
    return summary


def _check_phases(recipe: Recipe, data: TrainingSet, crew: Crew, *, tuples: bool) -> None:
    """Raise now what would otherwise come after the coarse phase."""
    parts = recipe.optimizer.accumulate
    if recipe.coarse.epochs:
        check_shares("coarse", recipe.coarse.batch, crew.processes, parts)
    if recipe.fine.epochs:
        check_shares("fine", recipe.fine.batch, crew.processes, parts, recipe.fine.tuple_size)
    if tuples:
        TupleSampler(data.labels, data.labels, tuple_size=recipe.fine.tuple_size)


def _intention(recipe: Recipe, data: TrainingSet, crew: Crew) -> str:
    """Say what is about to happen, so that a wrong recipe or collection is seen at once."""
    epochs = f"{recipe.coarse.epochs} coarse + {recipe.fine.epochs} fine epochs"
    where = str(crew.device) + (f" x {crew.processes}" if crew.processes > 1 else "")
    return (
        f"recipe {recipe.name}: {len(data)} pictures of {len(data.classes)} classes, {epochs}, "
        f"{recipe.model.backbone} on {where}"
    )


def is_finished(folder: Path) -> bool:
    """Tell whether a run folder holds a run that came to its end."""
    return (folder / SUMMARY).exists()


def read_summary(folder: Path) -> TrainSummary:
    """Read what a finished run made.

    Raises:
        TrainingError: The run is not finished, or its summary is damaged.
    """
    try:
        values = json.loads((folder / SUMMARY).read_bytes())
        skipped = tuple((item["path"], item["reason"]) for item in values.pop("skipped"))
        # The folder may have been moved since.
        values |= {"folder": folder, "model": folder / TRAINED, "skipped": skipped}
        return TrainSummary(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TrainingError(
            f"{folder / SUMMARY} is not the summary of a finished run: {error}.",
            "Remove it and give --resume to have it written again.",
        ) from error


def _finish(loop: Loop, catalog: Catalog) -> TrainSummary:
    """Fit the whitening to the trained features, measure, and write the model folder."""
    recipe, folder, data = loop.recipe, loop.folder, loop.data
    with loop.averaged():
        after = loop.finish()
        rows = sorted(loop.crew.merge(loop.loader.unreadable).items())
        skipped = tuple((str(data.catalog.file(row)), reason) for row, reason in rows)
        summary = TrainSummary(
            folder=folder,
            model=folder / TRAINED,
            label="",
            images=len(data) - len(skipped),
            classes=len(data.classes),
            steps=loop.at.steps,
            seconds=round(loop.seconds, 1),
            before=loop.measured[0],
            after=after,
            measured_on=loop.monitor.of if loop.monitor else "",
            skipped=skipped,
        )
        if loop.crew.leads:
            record = {
                **{key: value for key, value in loop.origin.items() if key != "seed"},
                "recipe": recipe.to_dict(),
                "data": f"{catalog.source.name}: {summary.images} pictures of {summary.classes} classes",
                "data_identity": data.identity,
                "steps": summary.steps,
                "mAP_before": summary.before,
                "mAP_after": after,
                "measured_on": summary.measured_on,
            }
            record["weights"] = f"trained by cfcd; started from {record['weights']}"
            model = save_model(
                loop.net.net.to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
                folder / TRAINED,
                name=_plain(folder),
                preprocessing=loop.preprocessing,
                training=record,
            )
            summary = replace(summary, label=model.label)
            draw_curves(folder)
            write_json(folder / SUMMARY, summary.to_json())
    loop.crew.wait()
    return summary


def _claim(folder: Path, *, resume: bool) -> None:
    """Refuse a folder that holds something else, or a run that nobody asked to go on with."""
    if is_free(folder):
        return
    if not folder.is_dir() or not (folder / RECIPE).exists():
        raise TrainingError(f"{folder} holds something else.", "Name a new folder with --out.")
    if not resume:
        done = "a finished" if is_finished(folder) else "an unfinished"
        raise TrainingError(f"{folder} holds {done} run.", "Give --resume to go on with it, or a new folder.")
    if is_finished(folder) and not (folder / FILE).exists():
        # Going on would mean to train anew, over the finished model.
        raise TrainingError(f"{folder} holds a finished run without its {FILE}.", "Name a new folder.")


@contextmanager
def _leading(crew: Crew, folder: Path) -> Iterator[None]:
    """Hold the folder for writing, on the process that writes."""
    if not crew.leads:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder):
        for stray in (*folder.glob(".*.tmp"), *folder.glob(f".{TRAINED}.*")):  # of a killed process
            shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
        yield


@contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Make torch repeat itself within the block, and leave its random state and settings as they were."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        if device.type == "cpu":
            keep_memory()
            # On a GPU it would refuse, or slow down, operations that have no such form.
            torch.use_deterministic_algorithms(True)
            # Nothing here reads memory before writing it; filling it costs a sixth of a step.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@contextmanager
def _log(crew: Crew, folder: Path, recipe: Recipe, found: Checkpoint | None) -> Iterator[MetricsLog | None]:
    """Write the recipe and open the log where the checkpoint stands, on the process that writes."""
    if not crew.leads or is_finished(folder):  # a run that is done has its log
        yield None
        return
    with atomic_write(folder / RECIPE) as file:
        file.write(recipe.to_yaml().encode())
    steps, measured = (found.steps, found.measured) if found else (0, [])
    with MetricsLog(folder, after_step=steps, measured=sum(one is not None for one in measured)) as log:
        yield log


@contextmanager
def silent(_label: str) -> Iterator[Advance]:
    """Show no progress."""
    yield lambda _done, _total: None


def _plain(folder: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", folder.resolve().name).strip("-._+")[:100] or "model"
