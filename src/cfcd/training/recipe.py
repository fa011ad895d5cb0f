"""What a training run is, as data: every choice that makes it, checked when made, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from cfcd.errors import UsageError
from cfcd.training.recipe_head import HeadRecipe
from cfcd.training.recipe_values import (
    INFINITY,
    Section,
    choice,
    flag,
    knobs,
    number,
    numbers,
    or_else,
    pair,
    plain_name,
    refuse,
    sections,
    text,
    whole,
)

WhiteningKind = Literal["metric", "learned", "none"]


@dataclass(frozen=True, kw_only=True)
class ModelRecipe(Section):
    """Say which network is trained, and how the trained one sees pictures."""

    KEY: ClassVar[str] = "model"

    backbone: Annotated[
        str, text(), "efficientnet_lite0, resnet50, resnet101, or a transformers folder or hub name"
    ] = "efficientnet_lite0"
    weights: Annotated[
        str,
        text(),
        "default: published ones where there are some; random; or a transformers folder or hub name",
    ] = "default"
    p: Annotated[
        float, number(0, 100, above=True), "exponent of the pooling: 1 averages, higher looks at the peaks"
    ] = 3.0
    long_side: Annotated[
        int | Literal["default"] | None,
        or_else(whole(16, 16_384), None, "default"),
        "limit in pixels in use: higher sees more detail and is slower; null: none; default: the backbone's",
    ] = "default"
    scales: Annotated[
        tuple[float, ...], numbers(number(0.05, 8), 16), "sizes averaged in use: more is better and slower"
    ] = (1.0,)
    freeze: Annotated[
        int, whole(0, 1000), "stages from the input that stay as they are: more is faster and forgets less"
    ] = 0
    batchnorm: Annotated[
        Literal["frozen", "trained"],
        choice("frozen", "trained"),
        "frozen keeps the statistics of the backbone, for few pictures; trained follows the pictures",
    ] = "frozen"


@dataclass(frozen=True)
class WhiteningRecipe(Section):
    """Say what turns pooled features into descriptors.

    `within`, `between`, `centre` and `gain` go with the kind "metric" only, `dim` with all but "none". What
    does not go with the kind is None, and what does is never None but `dim`.
    """

    KEY: ClassVar[str] = "whitening"
    METRIC: ClassVar[dict[str, float]] = {"within": 1.0, "between": 1.0, "centre": 0.5, "gain": 1.0}

    kind: Annotated[
        WhiteningKind,
        choice("metric", "learned", "none"),
        "metric: fitted to the classes in closed form; learned: a layer, trained along; none: no change",
    ]
    dim: Annotated[
        int | None,
        or_else(whole(2, 65_536), None),
        "numbers per descriptor: fewer is smaller and faster to search; null: the channels of the backbone",
    ] = None
    within: Annotated[
        float | None,
        or_else(number(0, 1e6, above=True), None),
        "ridge of the covariance within classes, in mean eigenvalues: lower adapts more to these classes",
    ] = None
    between: Annotated[
        float | None, or_else(number(0, 1e6, above=True), None), "the same for what tells classes apart"
    ] = None
    centre: Annotated[float | None, or_else(number(0, 1), None), "share of the mean that is subtracted"] = (
        None
    )
    gain: Annotated[
        float | None,
        or_else(number(0, 1000), None),
        "weight of what tells classes apart: higher for known classes, lower for new ones",
    ] = None

    def __post_init__(self) -> None:
        """Check the values, and fill in those that the kind needs."""
        super().__post_init__()
        for name in ("dim", *self.METRIC):
            value = getattr(self, name)
            if value is not None and name not in self.own(self.kind):
                raise UsageError(
                    f"{self.key(name)} is {value}, but a whitening of kind {self.kind} has no such value.",
                    "Leave it out, or change whitening.kind.",
                )
        if self.kind == "metric":
            for name, default in self.METRIC.items():
                if getattr(self, name) is None:
                    object.__setattr__(self, name, default)

    @classmethod
    def own(cls, kind: object) -> tuple[str, ...]:
        """Name the values that go with a kind, besides the kind."""
        return ("dim", *cls.METRIC) if kind == "metric" else ("dim",) if kind == "learned" else ()

    def values(self) -> dict[str, Any]:
        """Leave out what does not go with the kind."""
        return {name: getattr(self, name) for name in ("kind", *self.own(self.kind))}


@dataclass(frozen=True, kw_only=True)
class AugmentRecipe(Section):
    """Say how training crops are drawn."""

    KEY: ClassVar[str] = "augment"

    size: Annotated[
        int, whole(32, 4096), "side of a crop in pixels: larger sees more detail, at a cost of its square"
    ] = 256
    area: Annotated[
        tuple[float, float],
        pair(number(0, 1, above=True)),
        "share of the picture that a crop shows, least and most: a lower least varies more",
    ] = (0.3, 1.0)
    aspect: Annotated[
        tuple[float, float], pair(number(0.1, 10)), "width / height of what a crop shows, least and most"
    ] = (3 / 4, 4 / 3)
    flip: Annotated[
        float, number(0, 1), "probability of a left-right flip; 0 where a mirror image is another thing"
    ] = 0.5
    colour: Annotated[
        float, number(0, 1, below=True), "brightness, contrast, saturation times 1 - this to 1 + this; 0: off"
    ] = 0.0
    lighting: Annotated[float, number(0, 10), "strength of PCA lighting (0.1 in the paper); 0: off"] = 0.0


@dataclass(frozen=True, kw_only=True)
class PhaseRecipe(Section):
    """Say how long, in what steps and how fast the coarse phase learns."""

    KEY: ClassVar[str] = "coarse"

    epochs: Annotated[
        int, whole(0), "passes over the pictures: more fits them better, and forgets more; 0 skips the phase"
    ]
    batch: Annotated[int, whole(2), "pictures per step, of all processes together: lower lr along with it"]
    lr: Annotated[
        float,
        number(0, 100, above=True),
        "greatest learning rate: lower it when the loss jumps, or much is forgotten",
    ]
    full_lr_steps: Annotated[
        int,
        whole(0),
        "steps from which lr is used in full: a shorter phase learns slower in proportion; 0: off",
    ] = 0
    warmup: Annotated[float, number(0, 1), "share of the steps in which the learning rate rises"] = 0.0
    warmup_from: Annotated[float, number(0, 1), "part of lr that it rises from"] = 0.0


@dataclass(frozen=True, kw_only=True)
class FineRecipe(PhaseRecipe):
    """Say the same of the fine phase, and how its tuples and triplets are made."""

    KEY: ClassVar[str] = "fine"

    tuple_size: Annotated[
        int, whole(3, 1000), "anchor, positive and negatives: batch is a multiple of it"
    ] = 8
    weight: Annotated[
        float, number(0, 1e6), "of the triplets beside the head's loss (lambda): higher looks more at details"
    ] = 0.05
    margin: Annotated[
        float, number(0, 4), "squared distance by which negatives must be farther (mu): higher is stricter"
    ] = 0.1
    ratio: Annotated[
        float,
        number(0, 1, above=True),
        "a match is this much nearer than the next: lower takes fewer, surer ones",
    ] = 0.9
    reduction: Annotated[
        Literal["sum", "mean"], choice("sum", "mean"), "sum over the matches, as in the paper, or their mean"
    ] = "sum"
    mine_every: Annotated[
        int, whole(0), "epochs after which hard negatives are searched anew; 0: once, before the phase"
    ] = 0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.batch % self.tuple_size:
            raise refuse("fine.batch", self.batch, f"a multiple of fine.tuple_size, {self.tuple_size}")


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe(Section):
    """Say how gradients become steps."""

    KEY: ClassVar[str] = "optimizer"

    momentum: Annotated[float, number(0, 1, below=True), "share of the last step that is taken again"] = 0.9
    nesterov: Annotated[bool, flag(), "look ahead along the momentum"] = True
    weight_decay: Annotated[float, number(0, 1), "pull of the network's weights towards 0"] = 1e-4
    head_weight_decay: Annotated[float, number(0, 1), "pull of the class weights towards 0"] = 1e-4
    clip: Annotated[
        float | None,
        or_else(number(0, 1e6, above=True), None),
        "greatest length of a gradient: lower it when the loss jumps; null: off",
    ] = None
    accumulate: Annotated[
        int, whole(1), "parts that a batch is computed in: more needs less memory, and sees smaller batches"
    ] = 1
    ema: Annotated[
        float | None,
        or_else(number(0, 1, above=True, below=True), None),
        "keep a running mean of the weights with this decay, such as 0.999; null: off",
    ] = None

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise refuse("optimizer.nesterov", self.nesterov, "false with an optimizer.momentum of 0")


@dataclass(frozen=True, kw_only=True)
class RunRecipe(Section):
    """Say how the machine is used."""

    KEY: ClassVar[str] = "run"

    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        choice("auto", "fp32", "bf16", "fp16"),
        "numbers that the network computes with; auto: what this machine is fast with",
    ] = "auto"
    channels_last: Annotated[bool, flag(), "memory layout: true is faster on most machines"] = True
    checkpoint_minutes: Annotated[
        float, number(0, 1e6, above=True), "time between checkpoints: what a crash costs at most"
    ] = 10.0
    monitor: Annotated[int, whole(0), "pictures to measure mAP on after each epoch; 0: never"] = 600
    workers: Annotated[
        int | None, or_else(whole(1, 1024), None), "threads that decode pictures; null: as many as suit"
    ] = None


@dataclass(frozen=True, kw_only=True)
class Recipe(Section):
    """Hold everything that decides a training run but the pictures.

    Every part checks itself when made. `load_recipe` in `cfcd.training.recipe_file` reads names, files and
    options.

    Raises:
        UsageError: A value is not allowed; the message names its full key, such as coarse.lr.
    """

    name: Annotated[str, plain_name(), "what the recipe is called"]
    seed: Annotated[int, whole(0, 2**32 - 1), "of everything random"] = 0
    distill: Annotated[
        float,
        number(0, 1e6),
        "pull towards the descriptors at the start: raise it when much is forgotten; 0: off",
    ] = 0.0
    model: Annotated[ModelRecipe, "The network, and how it sees pictures in use."] = ModelRecipe()
    whitening: Annotated[WhiteningRecipe, "What turns pooled features into descriptors."]
    head: Annotated[HeadRecipe, "The loss on the descriptors, which makes classes compact."]
    augment: Annotated[AugmentRecipe, "The crops it is trained on."] = AugmentRecipe()
    coarse: Annotated[PhaseRecipe, "First phase: batches at random, the head's loss alone."]
    fine: Annotated[FineRecipe, "Second phase: hard negatives, and triplets of local descriptors."]
    optimizer: Annotated[OptimizerRecipe, "Stochastic gradient descent."] = OptimizerRecipe()
    run: Annotated[RunRecipe, "The machine; none of it but precision changes what is learned."] = RunRecipe()

    def __post_init__(self) -> None:
        """Check the values and what they demand of each other."""
        super().__post_init__()
        for name, (kind, _) in sections(Recipe).items():
            # A FineRecipe would pass for a PhaseRecipe, and its keys would be lost.
            if type(getattr(self, name)) is not kind:
                raise refuse(name, getattr(self, name), f"a {kind.__name__}")
        if not self.coarse.epochs and not self.fine.epochs:
            raise UsageError("coarse.epochs and fine.epochs are both 0.", "Give one of them at least 1.")
        parts, coarse, fine = self.optimizer.accumulate, self.coarse, self.fine
        # A part of one picture has no batch statistics, and half a tuple no loss.
        if coarse.epochs and (coarse.batch % parts or coarse.batch < 2 * parts):
            wanted = f"a divisor of coarse.batch, {coarse.batch}, that leaves 2 pictures or more"
            raise refuse("optimizer.accumulate", parts, wanted)
        if fine.epochs and fine.batch % (parts * fine.tuple_size):
            tuples = fine.batch // fine.tuple_size
            raise refuse("optimizer.accumulate", parts, f"a divisor of the {tuples} tuples of fine.batch")

    def to_dict(self) -> dict[str, Any]:
        """Give JSON values; `from_dict` reads them back to an equal object.

        Infinity is the text ".inf". What does not go with whitening.kind is left out.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in knobs(Recipe)}
        for name in sections(Recipe):
            values[name] = getattr(self, name).values()
        return {name: _as_json(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: object) -> Recipe:
        """Read nested mappings, as of JSON or YAML; raise UsageError on unknown or missing keys."""
        from cfcd.training.recipe_file import build, flatten

        return build(flatten(data))

    def to_yaml(self) -> str:
        """Write a file with every knob and what it does; `load_recipe` reads it back to an equal object."""
        from cfcd.training.recipe_file import write

        return write(self)


def _as_json(value: Any) -> Any:
    match value:
        case dict():
            return {name: _as_json(item) for name, item in value.items()}
        case tuple():
            return list(value)
        case _:
            return INFINITY if value == math.inf else value
