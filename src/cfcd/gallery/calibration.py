"""From which score on a hit is a match: the thresholds of a gallery, in a file beside its store.

The file is bound to the gallery's model identity and to the generation it was measured on, and carries a
digest: a damaged one, or one of another gallery, counts as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfcd.files import write_json
from cfcd.gallery.database import state_of

if TYPE_CHECKING:
    from cfcd.gallery.store import Store

FILE = "calibration.json"
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

    def save(self, folder: Path) -> None:
        """Write it into the folder of its gallery; it appears whole or not at all."""
        found = self.to_json()
        write_json(folder / FILE, {"digest": _digest(found), **found})


class CalibrationFile:
    """Read the calibration of a gallery, again only when its file has changed."""

    def __init__(self) -> None:
        self._state: tuple[int, int, int] | None = None
        self._held: Calibration | None = None

    def read(self, folder: Path, store: Store, identity: str) -> Calibration | None:
        """Give the calibration; None when there is none, or not of this gallery with this model.

        Call it within `store.reading()`.
        """
        file = folder / FILE
        try:
            state = state_of(file)
        except OSError:
            self._state = self._held = None
            return None
        if state != self._state:
            self._state, self._held = state, load(file)
        held = self._held
        if held is None or held.identity != identity or held.generation > store.generation:
            return None
        # A store that was compacted has forgotten the marks of old generations.
        return held if store.token(held.generation).hex() in {held.token, ""} else None


def load(file: Path) -> Calibration | None:
    """Read a calibration; None when it is missing or damaged."""
    try:
        value = json.loads(file.read_bytes())
        return Calibration.from_json(value) if value.pop("digest") == _digest(value) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _threshold(value: Mapping[str, Any]) -> Threshold:
    held = value["held_out"]
    if held is not None:
        held = HeldOut(**{**held, "above": Share(**held["above"]), "first": Share(**held["first"])})
    return Threshold(**{**value, "above": Share(**value["above"]), "held_out": held})


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
