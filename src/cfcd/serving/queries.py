"""What goes to the service and comes back: plain data, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfcd.catalog import Box, Item
    from cfcd.gallery import Hit


@dataclass(frozen=True)
class QueryPicture:
    """An uploaded picture, and the part of it that counts: (x1, y1, x2, y2) pixels of the upright picture."""

    data: bytes
    box: Box | None = None


@dataclass(frozen=True)
class Query:
    """What to search with; several things make one query of one object (`cfcd.gallery.combine`)."""

    pictures: Sequence[QueryPicture] = ()
    minus_pictures: Sequence[QueryPicture] = ()
    ids: Sequence[str] = ()
    minus_ids: Sequence[str] = ()
    vectors: Sequence[NDArray[np.float32]] = ()


@dataclass(frozen=True)
class Wish:
    """What may be found, and how much of it; `where`, `labels` and `ids` limit the search."""

    k: int = 20
    offset: int = 0
    where: str | None = None
    labels: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    expand: int = 0
    descriptors: bool = False


@dataclass(frozen=True)
class Found:
    """The hits of one page, ranks counted over all pages.

    Attributes:
        hits: The page.
        more: Whether there are hits after it.
        verdict: That of the best hit of all pages; None when uncalibrated or mixed.
        calibrated: Whether the gallery is.
        generation: Of the gallery, in which all hits were found.
        milliseconds: Of read, encode and search.
    """

    hits: Sequence[Hit]
    more: bool
    verdict: str | None
    calibrated: bool
    generation: int
    milliseconds: Mapping[str, float]


@dataclass(frozen=True)
class ItemsPage:
    """Some of the items that meet a condition, and how many do."""

    items: Sequence[Item]
    total: int
    generation: int


@dataclass(frozen=True)
class NewItem:
    """The row of a picture to be added; the id is made up when it is None."""

    id: str | None = None
    label: str | None = None
    split: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """A JPEG made of an item's picture, and a mark (ASCII, no quotes) that changes when it does."""

    jpeg: bytes
    mark: str
