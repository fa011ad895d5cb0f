"""Searches: by ids and vectors, and by uploaded pictures."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Form, UploadFile
from starlette.responses import Response

from cfcd.errors import UsageError
from cfcd.serving.answers import as_json, hit_answer, problems
from cfcd.serving.forms import MOST_PICTURES, read_pictures
from cfcd.serving.queries import Query, Wish
from cfcd.serving.schemas import MOST_PARTS, Id, SearchAnswer, SearchRequest, Text
from cfcd.serving.service import Service
from cfcd.serving.settings import Settings
from cfcd.serving.working import Work


def search_routes(service: Service, settings: Settings, work: Work) -> APIRouter:
    """Make the routes of searches."""
    router = APIRouter()

    @router.post("/v1/search", response_model=SearchAnswer, responses=problems(408, 413, 415))
    async def search(wanted: SearchRequest) -> Response:
        """Search with items of the gallery, or with descriptors; several are one query of one object."""
        wish = Wish(
            wanted.k,
            wanted.offset,
            wanted.where or None,
            wanted.labels or None,
            wanted.only_ids or None,
            wanted.expand,
            wanted.descriptors,
        )

        def run() -> Response:
            vectors = [_vector(numbers) for numbers in wanted.vectors]
            query = Query(ids=wanted.ids, minus_ids=wanted.minus_ids, vectors=vectors)
            return _search(service, settings, query, wish)

        return await work.search(run)

    @router.post("/v1/search/pictures", response_model=SearchAnswer, responses=problems(408, 413, 415))
    async def search_pictures(
        picture: Annotated[
            list[UploadFile], File(max_length=MOST_PICTURES, description="Pictures of one object.")
        ] = [],  # noqa: B006 (FastAPI copies it)
        minus: Annotated[
            list[UploadFile], File(max_length=MOST_PICTURES, description="Pictures of what is not wanted.")
        ] = [],  # noqa: B006
        box: Annotated[
            list[Text],
            Form(
                max_length=MOST_PICTURES,
                description='"x1,y1,x2,y2" in pixels of the upright picture, or "" for all of it; the i-th '
                "belongs to the i-th picture.",
            ),
        ] = [],  # noqa: B006
        id: Annotated[
            list[Id], Form(max_length=MOST_PARTS, description="Items of the gallery that show it too.")
        ] = [],  # noqa: B006
        k: Annotated[int, Form(ge=1, le=1_000_000, description="Hits of a page.")] = 20,
        offset: Annotated[int, Form(ge=0, le=1_000_000, description="Hits to leave out before it.")] = 0,
        where: Annotated[
            str, Form(max_length=10_000, description='A condition, such as "year >= 1990".')
        ] = "",
        label: Annotated[
            list[Text], Form(max_length=1000, description="Find only items with one of these labels.")
        ] = [],  # noqa: B006
        expand: Annotated[
            int, Form(ge=0, le=100, description="Move the query towards so many of its best hits.")
        ] = 0,
    ) -> Response:
        """Search with pictures; several, or pictures and items, are one query of one object."""
        wish = Wish(k, offset, where or None, label or None, None, expand)

        def run() -> Response:
            query = Query(read_pictures(picture, box), read_pictures(minus), id)
            return _search(service, settings, query, wish)

        return await work.search(run)

    return router


def _search(service: Service, settings: Settings, query: Query, wish: Wish) -> Response:
    if not (query.pictures or query.ids or query.vectors):
        raise UsageError("There is nothing to search with.", "Give a picture, an id or a vector.")
    if wish.offset + wish.k > settings.max_k:
        raise UsageError(
            f"Hits {wish.offset + 1:,} to {wish.offset + wish.k:,} are beyond the {settings.max_k:,} "
            "that this service gives.",
            "Ask for fewer, or narrow the search down.",
        )
    found = service.search(query, wish)
    return as_json(
        {
            "verdict": found.verdict,
            "calibrated": found.calibrated,
            "hits": [hit_answer(hit) for hit in found.hits],
            "offset": wish.offset,
            "k": wish.k,
            "more": found.more,
            "generation": found.generation,
            "milliseconds": dict(found.milliseconds),
        }
    )


def _vector(numbers: list[float]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Bring a vector to unit length before it becomes fp32: a number may be too large or small for that."""
    vector = np.asarray(numbers, np.float64)
    largest = float(np.abs(vector).max(initial=0.0))
    if not 0 < largest < float("inf"):
        raise UsageError(
            "A vector is empty, zero or not finite.", "Give a descriptor of this gallery's model."
        )
    vector = vector / largest
    return (vector / np.linalg.norm(vector)).astype(np.float32)
