"""How good the descriptors of each loss are, trained alike: mean and spread over seeds.

    python benchmarks/accuracy.py PHOTOS [--out accuracy] [--seeds 0 1 2] [--sets landmarks groceries]

PHOTOS holds `landmarks_train`, `landmarks_eval` and `groceries`, each with a catalog. Everything but the
head is the recipe `small`: same start, whitening, crops, steps. Each head is tuned with the same number of
trials, on pictures and classes held out of the training split of `landmarks_train`; the chosen values are
then used everywhere, on `groceries` too. Finished runs are kept in OUT/results.jsonl and not repeated.

"backbone" is the start without anything, "whitening" the one fitted to the labels in closed form, without any
step of training; "recipe small" is what `cfcd train` does unless told otherwise. "madacos" has a constant
scale here (floor = ceiling), with its adaptive margin. The fine phase has five trials of its own on top.

Heads of one seed see the same crops, so crops and what the frozen layers make of them are computed once and
remembered; the numbers are those of `cfcd train`, which computes it each time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cfcd.catalog import Catalog, read_catalog
from cfcd.encoding import Reading
from cfcd.evaluation import evaluate_descriptors
from cfcd.training.build import build
from cfcd.training.crew import Crew
from cfcd.training.crops import CropLoader, Crops
from cfcd.training.data import TrainingSet
from cfcd.training.loop import Loop
from cfcd.training.network import TrainingNet
from cfcd.training.recipe_file import load_recipe
from cfcd.training.run import repeatable, silent

Options = dict[str, Any]

RATES = (0.001, 0.002, 0.004)
# The second and third setting of each head, tried at its best learning rate; the first is in FIRST.
OTHERS: dict[str, tuple[Options, Options]] = {
    "softmax": ({"scale": 16.0}, {"scale": 64.0}),
    "cosface": ({"scale": 32.0, "margin": 0.2}, {"scale": 64.0, "margin": 0.35}),
    "arcface": ({"scale": 32.0, "margin": 0.3}, {"scale": 64.0, "margin": 0.5}),
    "curricularface": ({"scale": 32.0, "margin": 0.3}, {"scale": 64.0, "margin": 0.5}),
    "madacos": ({"ceiling": 64.0}, {"rho": 0.1, "ceiling": 32.0}),
}
FIRST: dict[str, Options] = {
    "softmax": {"scale": 32.0},
    "cosface": {"scale": 32.0, "margin": 0.35},
    "arcface": {"scale": 32.0, "margin": 0.5},
    "adacos": {},
    "curricularface": {"scale": 32.0, "margin": 0.5},
    "madacos": {"rho": 0.02, "ceiling": 32.0},
}
MORE_RATES = (0.0005, 0.008)  # the other two trials of AdaCos, which has nothing else to set
FINE: tuple[Options, ...] = (
    {"weight": 0.05, "reduction": "sum", "margin": 0.1, "ratio": 0.9},  # the paper
    {"weight": 1.0, "reduction": "sum", "margin": 0.1, "ratio": 0.9},  # the authors' code
    {"weight": 1.0, "reduction": "mean", "margin": 1.0, "ratio": 1.0},
    {"weight": 5.0, "reduction": "mean", "margin": 0.5, "ratio": 0.95},
    {"weight": 5.0, "reduction": "mean", "margin": 1.0, "ratio": 1.0},
)
TRIAL_SEED, TRIAL_EPOCHS = 100, 2
EPOCHS = {"landmarks": 5, "groceries": 2}  # the collection of 2,640 pictures gets fewer, for time


class Remembered:
    """Compute what is frozen once per picture batch, for all networks that start alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], Any] = {}

    def attach(self, net: TrainingNet) -> None:
        """Make a network use what is known, and add to it."""
        look, frozen = net.look, net.frozen_map

        def looked(pixels: Tensor) -> Any:
            return self._get("look", look, pixels)

        def maps(pixels: Tensor) -> Any:
            return self._get("maps", frozen, pixels)

        net.look, net.frozen_map = looked, maps  # type: ignore[method-assign]

    def attach_loader(self, loader: CropLoader) -> None:
        """Make a loader decode each epoch once."""
        stream = loader.stream

        def remembered(epoch: int, images: Any, slots: Any) -> Iterator[Crops]:
            key = ("crops", hashlib.blake2b(repr(epoch).encode() + images.tobytes()).digest())
            if key not in self._known:
                self._known[key] = list(stream(epoch, images, slots))
            yield from self._known[key]

        loader.stream = remembered  # type: ignore[assignment, method-assign]

    def _get(self, kind: str, compute: Any, pixels: Tensor) -> Any:
        key = (kind, hashlib.blake2b(pixels.numpy().tobytes(), digest_size=16).digest())
        if key not in self._known:
            self._known[key] = compute(pixels)
        return self._known[key]


class Bench:
    """Train and measure on one collection.

    Args:
        catalog: What is trained on, and searched by its own splits.
        others: Name -> further collections to measure on.
    """

    def __init__(self, catalog: Catalog, others: Mapping[str, Catalog]) -> None:
        self.catalog, self.others = catalog, others
        self.memory = Remembered()

    def run(self, options: Mapping[str, object], *, train: bool = True, plain: bool = False) -> Options:
        """Train by the recipe `small` with options; mAP per collection, in percent.

        Args:
            options: Changes to the recipe.
            train: Whether to train at all.
            plain: Measure the backbone alone, without the fitted whitening.
        """
        data = TrainingSet.from_catalog(self.catalog)
        recipe = load_recipe("small", {"run.monitor": 0, **options})
        crew = Crew()
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, repeatable(recipe.seed, crew.device):
            built = build(recipe, len(data.classes), crew.device)
            self.memory.attach(built.net)
            loop = Loop(
                recipe,
                data,
                built,
                crew,
                Path(folder),
                log=None,
                monitor=None,
                reading=Reading(),
                progress=silent,
                note=lambda _: None,
            )
            self.memory.attach_loader(loop.loader)
            loop.begin()
            if train:
                loop.train()
                loop.finish()
            seconds = time.monotonic() - began
            found = {
                name: self._measure(loop, catalog, plain)
                for name, catalog in {"itself": self.catalog, **self.others}.items()
            }
        return {**found, "seconds": round(seconds, 1)}

    def _measure(self, loop: Loop, catalog: Catalog, plain: bool) -> float:
        sides = catalog.query_gallery()
        chosen = catalog if sides is None else catalog.select(sorted({*sides[0], *sides[1]}))
        features, _ = loop.passes.pooled(chosen, range(len(chosen)), lambda _done, _total: None)
        if plain:
            descriptors = F.normalize(torch.from_numpy(features)).numpy()
        else:
            descriptors = loop.passes.descriptors(features)
        queries, gallery = chosen.query_gallery() or (None, None)
        labels = chosen.labels or []
        return evaluate_descriptors(descriptors, labels, chosen.ids, queries=queries, gallery=gallery).mAP


def held_out(catalog: Catalog) -> tuple[Catalog, Catalog]:
    """Make, of a training split alone, a collection to train on and search, and one of other classes."""
    data = TrainingSet.from_catalog(catalog)
    new = data.labels % 5 == 4  # every fifth class is not trained on
    rank = np.zeros(len(data), np.int64)
    for label in range(len(data.classes)):
        rank[data.labels == label] = np.arange((data.labels == label).sum())
    seen = [row for row in range(len(data)) if not new[row]]
    unseen = [row for row in range(len(data)) if new[row]]
    splits = ["test" if rank[row] % 5 == 4 else "train" for row in range(len(data))]
    whole = Catalog.from_items(
        [_with_split(data.catalog, row, splits[row]) for row in range(len(data))],
        source=catalog.source,
        root=catalog.root,
        kind=catalog.kind,
    )
    rest = whole.select(unseen)
    return whole.select(seen), Catalog.from_items(
        [_with_split(rest, row, None) for row in range(len(rest))],
        source=catalog.source,
        root=catalog.root,
        kind=catalog.kind,
    )


def _with_split(catalog: Catalog, row: int, split: str | None) -> Any:
    return replace(catalog[row], split=split)


class Results:
    """Keep finished runs by name and recipe, so that an interrupted benchmark goes on.

    After a change of the code that trains, take a new folder: only the recipe is compared.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "results.jsonl"
        self.rows: dict[tuple[str, str], Options] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            with suppress(ValueError):  # the torn last line of a killed run
                row = json.loads(line)
                self.rows[row["run"], row["recipe"]] = row

    def get(self, run: str, bench: Bench, options: Options, **how: bool) -> Options:
        """Give the result of a run, made now if it is not there."""
        recipe = json.dumps([load_recipe("small", options).to_dict(), how], sort_keys=True)
        key = run, hashlib.sha256(recipe.encode()).hexdigest()[:16]
        if key not in self.rows:
            row = {"run": run, "recipe": key[1], **bench.run(options, **how)}
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            self.rows[key] = row
        return self.rows[key]


def head_options(head: str, options: Mapping[str, object], rate: float) -> Options:
    """Write a head, its settings and a learning rate as options of the recipe."""
    settings = {f"head.options.{key}": value for key, value in options.items()}
    return {"head.kind": head, **settings, "coarse.lr": rate, "coarse.full_lr_steps": 0, "fine.epochs": 0}


def scale_of(options: Mapping[str, Any]) -> float:
    """Give the scale of a head's settings, which its gradients are proportional to."""
    return float(options.get("scale", options.get("ceiling", 32.0)))


def tune(results: Results, photos: Path) -> dict[str, Options]:
    """Choose each head's settings with five trials, on what is held out of the training split."""
    seen, unseen = held_out(read_catalog(photos / "landmarks_train"))
    bench = Bench(seen, {"unseen": unseen})
    base = {"seed": TRIAL_SEED, "coarse.epochs": TRIAL_EPOCHS}

    def trial(options: Options) -> float:
        found = results.get("trial", bench, {**base, **options})
        return float(found["itself"] + found["unseen"])

    chosen: dict[str, Options] = {}
    for head, first in FIRST.items():
        tried = [head_options(head, first, rate) for rate in (*RATES, *([] if first else MORE_RATES))]
        best = max(tried, key=trial)
        # A head of twice the scale gets half the learning rate: its gradients are twice as long.
        more = [
            head_options(head, first | other, best["coarse.lr"] * scale_of(first) / scale_of(first | other))
            for other in OTHERS.get(head, ())
        ]
        chosen[head] = max([best, *more], key=trial)
    fine = [
        {**chosen["madacos"], "fine.epochs": 1, **{f"fine.{key}": value for key, value in options.items()}}
        for options in FINE
    ]
    chosen["madacos + fine"] = max(fine, key=trial)
    return chosen


def measure(
    results: Results, name: str, bench: Bench, chosen: Mapping[str, Options], seeds: Sequence[int]
) -> dict[str, list[Options]]:
    """Run every method on a collection with every seed: method -> results."""
    found: dict[str, list[Options]] = {
        "backbone": [results.get(f"{name} backbone", bench, {}, train=False, plain=True)],
        "whitening": [results.get(f"{name} whitening", bench, {}, train=False)],
    }
    epochs = EPOCHS[name]
    for seed in seeds:
        for head, options in chosen.items():
            # The fine phase takes some of the epochs, so that all have the same budget.
            last = epochs // 2 if head.endswith("+ fine") else 0
            every = {**options, "seed": seed, "coarse.epochs": epochs - last, "fine.epochs": last}
            found.setdefault(head, []).append(results.get(f"{name} {head} {seed}", bench, every))
        bench.memory = Remembered()  # the crops of the next seed are others
    for seed in seeds:
        as_shipped = results.get(f"{name} small {seed}", bench, {"seed": seed})
        found.setdefault("recipe small", []).append(as_shipped)
        bench.memory = Remembered()
    return found


def table(found: Mapping[str, Mapping[str, Sequence[Options]]]) -> str:
    """Write mean and spread per method and collection as Markdown, of collection -> method -> runs."""
    columns = {
        "landmarks_train": ("landmarks", "itself"),
        "landmarks_eval": ("landmarks", "landmarks_eval"),
        "groceries": ("groceries", "itself"),
    }
    columns = {title: place for title, place in columns.items() if place[0] in found}
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method in next(iter(found.values())):
        cells = []
        for name, key in columns.values():
            values = [row[key] for row in found[name][method]]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Tune, run, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("accuracy"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--sets", nargs="+", choices=("landmarks", "groceries"), default=["landmarks", "groceries"]
    )
    wanted = parser.parse_args()
    results = Results(wanted.out)
    chosen = tune(results, wanted.photos)
    print(json.dumps(chosen, indent=1))
    found = {}
    if "landmarks" in wanted.sets:
        others = {"landmarks_eval": read_catalog(wanted.photos / "landmarks_eval")}
        bench = Bench(read_catalog(wanted.photos / "landmarks_train"), others)
        found["landmarks"] = measure(results, "landmarks", bench, chosen, wanted.seeds)
    if "groceries" in wanted.sets:
        bench = Bench(read_catalog(wanted.photos / "groceries"), {})
        found["groceries"] = measure(results, "groceries", bench, chosen, wanted.seeds)
    print(table(found))


if __name__ == "__main__":
    main()
