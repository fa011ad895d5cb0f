"""The loss of a recipe: which head, and the options that its constructor takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from cfcd.errors import UsageError
from cfcd.model.config import nearest
from cfcd.training.recipe_values import Rule, Section, choice, flag, number, refuse

HeadKind = Literal["madacos", "softmax", "cosface", "arcface", "adacos", "curricularface"]


class HeadOption(NamedTuple):
    """Hold what is known of an argument of a head: rule, default, and what it does."""

    rule: Rule
    default: float | bool
    about: str


_SCALE = HeadOption(number(0, 1e6, above=True), 64.0, "of the cosines: higher is sharper")
_ANGLE = HeadOption(
    number(0, math.pi / 2), 0.5, "angle in radians asked for beyond the class: higher is stricter"
)

HEAD_OPTIONS: dict[str, dict[str, HeadOption]] = {
    "madacos": {
        "rho": HeadOption(
            number(0, 1, above=True, below=True), 0.02, "probability of the median picture: lower is stricter"
        ),
        "floor": HeadOption(number(0, 1e6, above=True), 32.0, "least scale of the cosines"),
        "ceiling": HeadOption(
            number(0, math.inf, above=True),
            1024.0,
            "greatest scale: lower is calmer; .inf: none, as in the paper",
        ),
    },
    "softmax": {
        "scale": _SCALE._replace(default=30.0),
        "learn_scale": HeadOption(flag(), False, "train the scale too"),
    },
    "cosface": {
        "scale": _SCALE,
        "margin": HeadOption(
            number(0, 2, below=True), 0.35, "cosine asked for beyond the class: higher is stricter"
        ),
    },
    "arcface": {"scale": _SCALE, "margin": _ANGLE},
    "adacos": {},
    "curricularface": {"scale": _SCALE, "margin": _ANGLE},
}
"""What the constructors of `cfcd.losses` take beside dim and classes; a test compares the two."""


@dataclass(frozen=True)
class HeadRecipe(Section):
    """Say which loss looks at the descriptors.

    `options` holds every option of the kind, as `HEAD_OPTIONS` lists them: those left out get their default.
    """

    KEY: ClassVar[str] = "head"

    kind: Annotated[
        HeadKind, choice(*HEAD_OPTIONS), "loss of both phases: madacos, or a rival to compare it with"
    ]
    options: Mapping[str, float | bool] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the values, and fill in the options left out."""
        super().__post_init__()
        known = HEAD_OPTIONS[self.kind]
        if not isinstance(self.options, Mapping):
            raise refuse("head.options", self.options, f"keys and values: {', '.join(known) or 'none'}")
        for name in self.options:
            if name not in known:
                raise UsageError(
                    f"A head of kind {self.kind} has no option head.options.{name}."
                    f"{nearest(str(name), list(known))}",
                    f"It takes {', '.join(known) or 'none'}.",
                )
        values = {name: option.default for name, option in known.items()} | dict(self.options)
        values = {
            name: known[name].rule.take(f"head.options.{name}", value) for name, value in values.items()
        }
        if "floor" in values and values["floor"] > values["ceiling"]:
            raise refuse(
                "head.options.floor",
                values["floor"],
                f"one of at most head.options.ceiling, {values['ceiling']}",
            )
        object.__setattr__(self, "options", values)

    def values(self) -> dict[str, Any]:
        """Give the kind, and the options if it has any."""
        return {"kind": self.kind} | ({"options": dict(self.options)} if self.options else {})
