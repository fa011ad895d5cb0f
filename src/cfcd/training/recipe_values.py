"""What a key of a recipe may hold: rules that check a value, name the range, and bring it to one type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from cfcd.errors import UsageError
from cfcd.model.config import nearest

INFINITY = ".inf"
"""Infinity as YAML writes it; also its stand-in where only JSON values are allowed."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_PLAIN_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
# What one YAML reader or another takes for something else than text.
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def as_yaml(value: object) -> str:
    """Write a value of a recipe so that any YAML reader reads it back as it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            digits, exponent, power = (
                repr(value).replace("inf", INFINITY).replace("nan", ".nan").partition("e")
            )
            # Without a point, YAML 1.1 readers take 1e-05 for text.
            return digits + (".0" if exponent and "." not in digits else "") + exponent + power
        case str():
            plain = _PLAIN_WORD.fullmatch(value) and value.lower() not in _RESERVED
            return value if plain else json.dumps(value, ensure_ascii=False)
        case list() | tuple():
            return f"[{', '.join(map(as_yaml, value))}]"
        case _:
            return repr(value)


def refuse(key: str, value: object, wanted: str, hint: str = "") -> UsageError:
    """Make the error that names a key, the value it has and what it takes."""
    text = repr(value) if isinstance(value, str) else as_yaml(value)
    return UsageError(f"{key} is {text if len(text) <= 80 else text[:77] + '...'}.{hint}", f"Give {wanted}.")


@dataclass(frozen=True)
class Rule:
    """Say which values a key takes.

    Attributes:
        read: Brings a value to the key's type; raises ValueError when it is not allowed.
        words: Names the allowed values, to follow "Give".
        names: The words among them, to guess from when another was given.
    """

    read: Callable[[Any], Any]
    words: str
    names: tuple[str, ...] = ()

    def take(self, key: str, value: object) -> Any:
        """Bring a value to the key's type; raise UsageError when it is not allowed."""
        try:
            return self.read(value)
        except ValueError:
            hint = nearest(value, list(self.names)) if isinstance(value, str) else ""
            raise refuse(key, value, self.words, hint) from None


def whole(low: int, high: int = 1_000_000) -> Rule:
    """Take whole numbers; 5.0 is none, and neither is true."""

    def read(value: Any) -> int:
        _allow(isinstance(value, int) and not isinstance(value, bool) and low <= value <= high)
        return int(value)

    return Rule(read, f"a whole number from {low} to {high}")


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Rule:
    """Take numbers, as float.

    Args:
        low: Least value.
        high: Greatest value; with math.inf, infinity itself is allowed.
        above: Leave `low` itself out.
        below: Leave `high` itself out.
    """

    def read(value: Any) -> float:
        value = math.inf if value == INFINITY else value
        _allow(isinstance(value, (int, float)) and not isinstance(value, bool))
        _allow(value > low if above else value >= low)
        _allow(value < high if below else value <= high)
        return float(value)

    least, most = (as_yaml(float(bound)).removesuffix(".0") for bound in (low, high))
    start = f"above {least}" if above else f"of at least {least}"
    if high == math.inf:
        return Rule(read, f"a number {start}, or {INFINITY}")
    if above or below:
        return Rule(read, f"a number {start} and {'below' if below else 'at most'} {most}")
    return Rule(read, f"a number from {least} to {most}")


def numbers(each: Rule, most: int) -> Rule:
    """Take a list of 1 to `most` numbers."""

    def read(value: Any) -> tuple[float, ...]:
        _allow(isinstance(value, (list, tuple)) and 1 <= len(value) <= most)
        return tuple(map(each.read, value))

    return Rule(read, f"a list of 1 to {most} numbers, each {each.words}")


def pair(each: Rule) -> Rule:
    """Take two numbers in order."""

    def read(value: Any) -> tuple[float, float]:
        _allow(isinstance(value, (list, tuple)) and len(value) == 2)
        low, high = map(each.read, value)
        _allow(low <= high)
        return low, high

    return Rule(read, f"a list of two numbers, the smaller one first, each {each.words}")


def choice(*names: str) -> Rule:
    """Take one of some words."""

    def read(value: Any) -> str:
        _allow(isinstance(value, str) and value in names)
        return str(value)

    return Rule(read, f"one of {', '.join(names)}", names)


def flag() -> Rule:
    """Take true or false."""

    def read(value: Any) -> bool:
        _allow(isinstance(value, bool))
        return bool(value)

    return Rule(read, "true or false")


def text() -> Rule:
    """Take text on one line."""

    def read(value: Any) -> str:
        # Other characters could not be written to YAML and read back.
        _allow(isinstance(value, str) and 0 < len(value) <= 1000 and value.isprintable())
        return str(value)

    return Rule(read, "text of 1 to 1000 printable characters")


def plain_name() -> Rule:
    """Take what may become part of a file name."""

    def read(value: Any) -> str:
        _allow(isinstance(value, str) and _PLAIN_NAME.fullmatch(value) is not None)
        return str(value)

    return Rule(read, "1 to 100 letters, digits and . _ + -, the first a letter or digit")


def or_else(rule: Rule, *special: str | None) -> Rule:
    """Take what a rule takes, or a special value."""

    def read(value: Any) -> Any:
        return value if isinstance(value, (str, type(None))) and value in special else rule.read(value)

    words = tuple(value for value in special if value is not None)
    return Rule(read, f"{rule.words}, or {' or '.join(map(as_yaml, special))}", (*rule.names, *words))


def _allow(condition: bool) -> None:
    if not condition:
        raise ValueError


@dataclass(frozen=True)
class Knob:
    """Hold the rule of a key and one line on what it does."""

    rule: Rule
    about: str


class Section:
    """Be the base of the dataclasses of a recipe: check every field annotated with a rule.

    A field reads `name: Annotated[type, rule, "what it does and which way to turn it"]`.
    """

    KEY: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the values and bring them to one type, so that equal settings are equal objects."""
        for name, knob in knobs(type(self)).items():
            object.__setattr__(self, name, knob.rule.take(self.key(name), getattr(self, name)))

    @classmethod
    def key(cls, name: str) -> str:
        """Give the full key of a field, such as coarse.lr."""
        return f"{cls.KEY}.{name}" if cls.KEY else name

    def values(self) -> dict[str, Any]:
        """Give the values by name, in order."""
        return {name: getattr(self, name) for name in knobs(type(self))}


def knobs(section: type[Section]) -> dict[str, Knob]:
    """List the fields that hold values, in order."""
    found = {}
    for name, _, notes in _annotations(section):  # type: ignore[arg-type]  # mypy thinks classes unhashable
        if notes and isinstance(notes[0], Rule):
            found[name] = Knob(*notes)
    return found


def sections(recipe: type[Section]) -> dict[str, tuple[type[Section], str]]:
    """List the fields that hold sections, in order: class, and one line on what it is for."""
    found = {}
    for name, kind, notes in _annotations(recipe):  # type: ignore[arg-type]  # as above
        if isinstance(kind, type) and issubclass(kind, Section):
            found[name] = (kind, str(*notes))
    return found


@cache
def _annotations(section: Any) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """List the fields of a dataclass: name, type, and what is noted beside the type."""
    hints = get_type_hints(section, include_extras=True)
    found = []
    for item in fields(section):
        kind, *notes = (
            get_args(hints[item.name]) if get_origin(hints[item.name]) is Annotated else (hints[item.name],)
        )
        found.append((item.name, kind, tuple(notes)))
    return found
