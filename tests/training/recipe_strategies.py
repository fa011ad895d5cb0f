"""Any recipe that is allowed, drawn by hand-written ranges rather than by the rules under test."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from cfcd.training.recipe import (
    AugmentRecipe,
    FineRecipe,
    ModelRecipe,
    OptimizerRecipe,
    PhaseRecipe,
    Recipe,
    RunRecipe,
    WhiteningRecipe,
)
from cfcd.training.recipe_head import HeadRecipe

SHARES = st.floats(0, 1)
BELOW_ONE = st.floats(0, 1, exclude_max=True)
INSIDE = st.floats(0, 1, exclude_min=True, exclude_max=True)
POSITIVE = st.floats(0, 100, exclude_min=True)
# What YAML could take for something else, and what needs quoting, beside any printable text.
ODD = [
    "yes",
    "1e-4",
    "0x1F",
    "~",
    "null",
    ".inf",
    "1:30",
    "2020-01-01",
    "- a",
    "a: b",
    "x #y",
    " ",
    "'",
    '"\\',
    "é😀",
    "<<",
]
TEXTS = st.sampled_from(ODD) | st.text(min_size=1, max_size=20).filter(str.isprintable)


def pairs(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(numbers, numbers).map(lambda two: (min(two), max(two)))


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


MODELS = st.builds(
    ModelRecipe,
    backbone=TEXTS,
    weights=TEXTS,
    p=POSITIVE,
    long_side=st.sampled_from(["default", None]) | st.integers(16, 16384),
    scales=st.lists(st.floats(0.05, 8), min_size=1, max_size=16).map(tuple),
    freeze=st.integers(0, 1000),
    batchnorm=st.sampled_from(["frozen", "trained"]),
)
DIMS = optional(st.integers(2, 65536))
WHITENINGS = st.one_of(
    st.builds(
        WhiteningRecipe,
        st.just("metric"),
        dim=DIMS,
        within=POSITIVE,
        between=POSITIVE,
        centre=SHARES,
        gain=st.floats(0, 1000),
    ),
    st.builds(WhiteningRecipe, st.just("learned"), dim=DIMS),
    st.just(WhiteningRecipe("none")),
)
ANGLES = st.floats(0, math.pi / 2)
HEADS = st.one_of(
    st.builds(
        lambda rho, scales: HeadRecipe("madacos", {"rho": rho, "floor": scales[0], "ceiling": scales[1]}),
        INSIDE,
        st.one_of(pairs(POSITIVE), POSITIVE.map(lambda floor: (floor, math.inf))),
    ),
    st.fixed_dictionaries({}, optional={"scale": POSITIVE, "learn_scale": st.booleans()}).map(
        lambda options: HeadRecipe("softmax", options)
    ),
    st.floats(0, 2, exclude_max=True).map(lambda margin: HeadRecipe("cosface", {"margin": margin})),
    ANGLES.map(lambda margin: HeadRecipe("arcface", {"margin": margin})),
    ANGLES.map(lambda margin: HeadRecipe("curricularface", {"margin": margin, "scale": 30})),
    st.just(HeadRecipe("adacos")),
)
AUGMENTS = st.builds(
    AugmentRecipe,
    size=st.integers(32, 4096),
    area=pairs(st.floats(0, 1, exclude_min=True)),
    aspect=pairs(st.floats(0.1, 10)),
    flip=SHARES,
    colour=BELOW_ONE,
    lighting=st.floats(0, 10),
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    parts = draw(st.integers(1, 9))
    tuple_size = draw(st.integers(3, 20))
    epochs = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any))
    phases = [
        {
            "epochs": epochs[i],
            "lr": draw(POSITIVE),
            "full_lr_steps": draw(st.integers(0, 1000)),
            "warmup": draw(SHARES),
            "warmup_from": draw(SHARES),
        }
        for i in range(2)
    ]
    momentum = draw(BELOW_ONE)
    return Recipe(
        name=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)),
        seed=draw(st.integers(0, 2**32 - 1)),
        distill=draw(st.floats(0, 1e6)),
        model=draw(MODELS),
        whitening=draw(WHITENINGS),
        head=draw(HEADS),
        augment=draw(AUGMENTS),
        coarse=PhaseRecipe(batch=parts * draw(st.integers(2, 99)), **phases[0]),
        fine=FineRecipe(
            batch=parts * tuple_size * draw(st.integers(1, 9)),
            tuple_size=tuple_size,
            weight=draw(st.floats(0, 1e6)),
            margin=draw(st.floats(0, 4)),
            ratio=draw(st.floats(0, 1, exclude_min=True)),
            reduction=draw(st.sampled_from(["sum", "mean"])),
            mine_every=draw(st.integers(0, 9)),
            **phases[1],
        ),
        optimizer=OptimizerRecipe(
            momentum=momentum,
            nesterov=momentum > 0 and draw(st.booleans()),
            weight_decay=draw(SHARES),
            head_weight_decay=draw(SHARES),
            clip=draw(optional(POSITIVE)),
            accumulate=parts,
            ema=draw(optional(INSIDE)),
        ),
        run=RunRecipe(
            precision=draw(st.sampled_from(["auto", "fp32", "bf16", "fp16"])),
            channels_last=draw(st.booleans()),
            checkpoint_minutes=draw(POSITIVE),
            monitor=draw(st.integers(0, 1_000_000)),
            workers=draw(optional(st.integers(1, 1024))),
        ),
    )
