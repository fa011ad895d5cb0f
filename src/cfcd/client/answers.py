"""What a service answers, as objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ServedItem:
    """An item of the gallery; `extra` holds its further columns.

    Attributes:
        id: As the gallery calls it.
        label: Its label, if it has one.
        split: Its split, if it has one.
        box: (x1, y1, x2, y2) pixels of the upright picture: the part that was encoded; None for all of it.
        extra: Further columns.
    """

    id: str
    label: str | None
    split: str | None
    box: Box | None
    extra: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ServedItem:
        """Read an item of an answer."""
        return cls(value["id"], value["label"], value["split"], _box(value["box"]), value["extra"])


@dataclass(frozen=True)
class FoundHit(ServedItem):
    """One search result.

    Attributes:
        rank: From 1, over all pages.
        score: Cosine.
        verdict: match, maybe or none; None unless the gallery is calibrated.
        descriptor: (D,) numbers, where they were asked for.
    """

    rank: int
    score: float
    verdict: str | None
    descriptor: tuple[float, ...] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FoundHit:
        """Read a hit of an answer."""
        item, descriptor = ServedItem.from_json(value), value.get("descriptor")
        return cls(
            item.id,
            item.label,
            item.split,
            item.box,
            item.extra,
            value["rank"],
            value["score"],
            value["verdict"],
            None if descriptor is None else tuple(descriptor),
        )


@dataclass(frozen=True)
class SearchAnswer:
    """A page of hits.

    Attributes:
        hits: Best first.
        verdict: Of the best hit: "none" says that the gallery does not hold what the query shows. None
            unless the gallery is calibrated, and for queries made of several.
        calibrated: Whether the gallery is.
        offset: Hits before this page.
        k: Hits that were asked for.
        more: Whether there are hits after this page.
        generation: State of the gallery.
        milliseconds: Of read, encode and search.
    """

    hits: tuple[FoundHit, ...]
    verdict: str | None
    calibrated: bool
    offset: int
    k: int
    more: bool
    generation: int
    milliseconds: Mapping[str, float]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SearchAnswer:
        """Read an answer."""
        rest = {name: value[name] for name in cls.__dataclass_fields__ if name != "hits"}
        return cls(tuple(map(FoundHit.from_json, value["hits"])), **rest)


@dataclass(frozen=True)
class Page:
    """Some of the items that meet a condition, and how many do."""

    items: tuple[ServedItem, ...]
    offset: int
    total: int
    generation: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Page:
        """Read an answer."""
        items = tuple(map(ServedItem.from_json, value["items"]))
        return cls(items, value["offset"], value["total"], value["generation"])


@dataclass(frozen=True)
class GalleryAnswer:
    """What is served.

    Attributes:
        name: Of the gallery.
        items: How many it holds.
        dim: Numbers of a descriptor.
        model: Label of the model.
        identity: Of the model.
        generation: State of the gallery.
        writable: Whether changes are taken, with the token.
        max_k: Most hits that a search gives, counted from the first.
        columns: Name, kind and frequent values of each.
        labels: Frequent ones.
        everything: The whole answer.
    """

    name: str
    items: int
    dim: int
    model: str
    identity: str
    generation: int
    writable: bool
    max_k: int
    columns: tuple[Mapping[str, Any], ...]
    labels: tuple[str, ...]
    everything: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GalleryAnswer:
        """Read an answer."""
        own = {name: value[name] for name in cls.__dataclass_fields__ if name != "everything"}
        own |= {"columns": tuple(value["columns"]), "labels": tuple(value["labels"])}
        return cls(**own, everything=value)


@dataclass(frozen=True)
class Side:
    """What the regions of one picture have in the score.

    Attributes:
        width: Of the upright picture, in pixels.
        height: Likewise.
        shares: Rows of shares, which add up to the score.
        box: (x1, y1, x2, y2) pixels of the upright picture that the shares cover.
    """

    width: int
    height: int
    shares: tuple[tuple[float, ...], ...]
    box: Box

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Side:
        """Read one side of an answer."""
        shares = tuple(tuple(row) for row in value["shares"])
        x1, y1, x2, y2 = value["box"]
        return cls(value["width"], value["height"], shares, (x1, y1, x2, y2))


@dataclass(frozen=True)
class Line:
    """Two places (x, y), in pixels of the upright pictures, that are each other's most alike."""

    query: tuple[float, float]
    hit: tuple[float, float]
    similarity: float

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Line:
        """Read a line of an answer."""
        (x, y), (hit_x, hit_y) = value["query"], value["hit"]
        return cls((x, y), (hit_x, hit_y), value["similarity"])


@dataclass(frozen=True)
class Explained:
    """Why a hit matches."""

    score: float
    query: Side
    hit: Side
    lines: tuple[Line, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Explained:
        """Read an answer."""
        return cls(
            value["score"],
            Side.from_json(value["query"]),
            Side.from_json(value["hit"]),
            tuple(map(Line.from_json, value["lines"])),
        )


def _box(value: Any) -> Box | None:
    return None if value is None else (value[0], value[1], value[2], value[3])
