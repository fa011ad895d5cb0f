"""The JSON that comes in and goes out, as OpenAPI shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["match", "maybe", "none"]
# The limits also make pydantic refuse lone surrogates, which no UTF-8 text has.
Id = Annotated[str, Field(min_length=1, max_length=4096)]
Text = Annotated[str, Field(max_length=4096)]
ShortText = Annotated[str, Field(max_length=500)]  # for addresses, which have to end somewhere
Box = tuple[float, float, float, float]

MOST_PARTS = 64


class Strict(BaseModel):
    """Refuse fields that nobody reads: a misspelt option would be ignored otherwise."""

    model_config = ConfigDict(extra="forbid")


class SearchRequest(Strict):
    """What to search with, and what may be found. Several ids and vectors make one query of one object."""

    ids: list[Id] = Field([], max_length=MOST_PARTS, description="Items of the gallery to search with.")
    minus_ids: list[Id] = Field([], max_length=MOST_PARTS, description="Items of what is not wanted.")
    vectors: list[list[float]] = Field(
        [], max_length=MOST_PARTS, description="Descriptors of the gallery's model, of any length but 0."
    )
    k: int = Field(20, ge=1, le=1_000_000, description="Hits of a page.")
    offset: int = Field(0, ge=0, le=1_000_000, description="Hits to leave out before it.")
    where: str = Field("", max_length=10_000, description='A condition, such as "year >= 1990".')
    labels: list[Text] = Field([], max_length=1000, description="Find only items with one of these labels.")
    only_ids: list[Id] = Field([], max_length=100_000, description="Find only these items.")
    expand: int = Field(0, ge=0, le=100, description="Move the query towards so many of its best hits.")
    descriptors: bool = Field(False, description="Give every hit its descriptor.")


class ItemAnswer(BaseModel):
    """One item of the gallery."""

    id: str
    label: str | None
    split: str | None
    box: Box | None
    extra: dict[str, Any]
    picture: str = Field(description="Path of the picture, made anew as a JPEG.")
    thumbnail: str = Field(description="Path of the small picture.")


class HitAnswer(ItemAnswer):
    """One search result."""

    rank: int = Field(description="Counted from 1 over all pages.")
    score: float = Field(description="Cosine of query and item.")
    verdict: Verdict | None = Field(description="null unless the gallery is calibrated.")
    descriptor: list[float] | None = Field(None, description="Only where it was asked for.")


class Milliseconds(BaseModel):
    """Where the time of a search went."""

    read: float
    encode: float
    search: float


class SearchAnswer(BaseModel):
    """A page of hits."""

    verdict: Verdict | None = Field(
        description="That of the best hit; null when uncalibrated, or for a query made of several."
    )
    calibrated: bool
    hits: list[HitAnswer]
    offset: int
    k: int
    more: bool = Field(description="Whether there are hits after this page.")
    generation: int = Field(description="State of the gallery, which every change moves on.")
    milliseconds: Milliseconds


class ItemsAnswer(BaseModel):
    """A page of items."""

    items: list[ItemAnswer]
    offset: int
    k: int
    total: int
    generation: int


class OneItemAnswer(ItemAnswer):
    """One item, and the state of the gallery it was read in."""

    generation: int


class RemovedAnswer(BaseModel):
    """What a deletion did."""

    removed: int
    generation: int


class ColumnAnswer(BaseModel):
    """One column of the items, for people who filter."""

    name: str
    kind: Literal["text", "number"]
    values: list[str | float | bool] | None = Field(description="The most frequent; null where all differ.")
    count_distinct: int


class GalleryAnswer(BaseModel):
    """What is served."""

    name: str
    items: int
    dim: int
    model: str
    identity: str
    random_weights: bool = Field(description="Whether the model is untrained, and its matches mean nothing.")
    index: dict[str, Any]
    calibration: dict[str, Any] | None
    generation: int
    writable: bool
    max_k: int
    max_body_bytes: int
    columns: list[ColumnAnswer]
    labels: list[str]


class SideAnswer(BaseModel):
    """What the regions of one picture have in the score; all coordinates in pixels of the upright picture."""

    width: int
    height: int
    rows: int
    columns: int
    shares: list[list[float]]
    box: Box = Field(description="The part that the shares cover.")
    constant: float
    against: float
    decided: bool


class LineAnswer(BaseModel):
    """Two places that are each other's most alike."""

    query: tuple[float, float]
    hit: tuple[float, float]
    similarity: float
    distinct: bool


class ExplainAnswer(BaseModel):
    """Why a hit matches; the shares of each side add up to the score, up to `error`."""

    score: float
    query: SideAnswer
    hit: SideAnswer
    lines: list[LineAnswer]
    error: float


class Problem(BaseModel):
    """What went wrong, and how to mend it."""

    code: str
    message: str
    mend: str


class ProblemAnswer(BaseModel):
    """Every answer that is no success."""

    error: Problem
