"""From which score on a hit is a match: the thresholds of a gallery."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_FORMAT = 1
# Beyond this growth there are notably more wrong items to be mistaken for right ones than were measured.
_MOST_GROWTH = 1.25


@dataclass(frozen=True)
class Share:
    """A share of right hits with a 95 % interval; the interval counts queries, not hits.

    Attributes:
        right: Right hits.
        hits: All hits.
        queries: Queries these hits belong to.
        low: Lower end of the Wilson interval, between 0 and 1.
        high: Upper end.
    """

    right: int
    hits: int
    queries: int
    low: float
    high: float

    @property
    def precision(self) -> float:
        """Give the share of right hits, between 0 and 1."""
        return self.right / self.hits if self.hits else float("nan")


@dataclass(frozen=True)
class HeldOut:
    """What thresholds did on queries of objects that had no part in choosing them.

    Attributes:
        folds: Parts of the objects, each held out once.
        failed: Folds in which the other parts did not reach the precision.
        above: The held-out hits at and above the threshold of their fold.
        first: Those of them that are the best hit of their query.
        kept: Share of the right held-out hits that are above.
        first_kept: Share of the held-out queries whose best hit is above.
    """

    folds: int
    failed: int
    above: Share
    first: Share
    kept: float
    first_kept: float


@dataclass(frozen=True)
class Threshold:
    """A score from which on hits are right as often as wanted.

    Attributes:
        wanted: The precision asked for.
        score: The least score.
        shown: One-sided 95 % lower bound of the precision at and above it, which is at least `wanted`.
        above: The hits at and above it that chose it.
        kept: Share of the right hits that are above.
        held_out: An estimate on hits that did not choose it; None with queries of one object only.
    """

    wanted: float
    score: float
    shown: float
    above: Share
    kept: float
    held_out: HeldOut | None


@dataclass(frozen=True)
class Bin:
    """Hits of similar scores."""

    low: float
    high: float
    share: Share


@dataclass(frozen=True)
class Calibration:
    """What `cfcd calibrate` found.

    Attributes:
        identity: The model whose scores were measured.
        generation: The state of the gallery then.
        token: Its random mark.
        items: Items in the gallery then.
        match: From its score on, a hit is a match.
        maybe: From its score on, a hit may be one.
        curve: Precision by score, ascending: the reliability curve.
        made: What was measured: data, protocol, k, counts.
    """

    identity: str
    generation: int
    token: str
    items: int
    match: Threshold
    maybe: Threshold
    curve: tuple[Bin, ...]
    made: Mapping[str, Any]

    def verdict(self, score: float) -> str:
        """Judge a score: match, maybe or none."""
        if score >= self.match.score:
            return "match"
        return "maybe" if score >= self.maybe.score else "none"

    def is_outgrown(self, items: int) -> bool:
        """Tell whether a gallery of so many items holds many more than the one that was measured."""
        return items > _MOST_GROWTH * self.items

    def to_json(self) -> dict[str, Any]:
        """Give the calibration as plain data."""
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError: It is something else.
        """
        if value["format"] != _FORMAT:
            raise ValueError(value["format"])
        return cls(
            value["identity"],
            value["generation"],
            value["token"],
            value["items"],
            _threshold(value["match"]),
            _threshold(value["maybe"]),
            tuple(Bin(one["low"], one["high"], Share(**one["share"])) for one in value["curve"]),
            value["made"],
        )

    def summary(self, items: int) -> dict[str, Any]:
        """Give what `info` says of it, for a gallery that holds so many items now."""
        return {
            "match": self.match.score,
            "maybe": self.maybe.score,
            "precision": self.match.wanted,
            "precision_of_maybe": self.maybe.wanted,
            "items": self.items,
            "outgrown": self.is_outgrown(items),
        }


def to_text(calibration: Calibration) -> str:
    """Write a calibration with a digest."""
    found = calibration.to_json()
    return json.dumps({"digest": _digest(found), **found}, indent=2)


def from_text(text: str | bytes) -> Calibration | None:
    """Read what `to_text` gave; None when it is damaged."""
    try:
        value = json.loads(text)
        return Calibration.from_json(value) if value.pop("digest") == _digest(value) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _threshold(value: Mapping[str, Any]) -> Threshold:
    held = value["held_out"]
    if held is not None:
        held = HeldOut(**{**held, "above": Share(**held["above"]), "first": Share(**held["first"])})
    return Threshold(**{**value, "above": Share(**value["above"]), "held_out": held})


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
