"""Items: listed, looked up, added and removed."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Path, Query, UploadFile
from starlette.responses import Response

from cfcd.serving.answers import as_json, item_answer, problems
from cfcd.serving.forms import parse_row
from cfcd.serving.schemas import ItemsAnswer, OneItemAnswer, RemovedAnswer, ShortText
from cfcd.serving.service import Service
from cfcd.serving.settings import Settings
from cfcd.serving.tokens import check_token
from cfcd.serving.working import Work

LOG = logging.getLogger("cfcd.serving")

ItemId = Annotated[str, Path(min_length=1, max_length=4096, description="The id; slashes may stay.")]
Authorization = Annotated[
    str | None, Header(description="Bearer TOKEN", include_in_schema=False, max_length=4096)
]
_MOST = 1000


def item_routes(service: Service, settings: Settings, work: Work) -> APIRouter:
    """Make the routes of items."""
    router = APIRouter()

    @router.get("/v1/items", response_model=ItemsAnswer, responses=problems())
    async def items(
        where: Annotated[str, Query(max_length=2_000, description='Such as "year >= 1990".')] = "",
        label: Annotated[list[ShortText], Query(max_length=32, description="One of these labels.")] = [],  # noqa: B006
        offset: Annotated[int, Query(ge=0, le=2**53, description="Items to leave out before.")] = 0,
        k: Annotated[int, Query(ge=1, le=_MOST, description="Items of a page.")] = 50,
    ) -> Response:
        """List the items, in the order in which they were added."""

        def run() -> Response:
            page = service.items(where or None, label or None, offset, k)
            found = [item_answer(item) for item in page.items]
            return as_json(
                {
                    "items": found,
                    "offset": offset,
                    "k": k,
                    "total": page.total,
                    "generation": page.generation,
                }
            )

        return await work.search(run)

    @router.get("/v1/items/{id:item}", response_model=OneItemAnswer, responses=problems())
    async def item(id: ItemId) -> Response:
        """Give one item."""

        def run() -> Response:
            found, generation = service.item(id)
            return as_json({**item_answer(found), "generation": generation})

        return await work.search(run)

    @router.post(
        "/v1/items",
        status_code=201,
        response_model=OneItemAnswer,
        responses=problems(401, 408, 409, 413, 415),
        openapi_extra=_SECURED,
    )
    async def add(
        picture: Annotated[UploadFile, File(description="The picture.")],
        row: Annotated[
            str, Form(max_length=200_000, description="JSON object: id, label, split and further columns.")
        ] = "{}",
        replace: Annotated[bool, Query(description="Replace an item that has this id.")] = False,
        authorization: Authorization = None,
    ) -> Response:
        """Add a picture; needs the token. Without an id in its row it gets one."""
        check_token(settings.token, authorization)

        def run() -> Response:
            found, generation = service.add(picture.file.read(), parse_row(row), replace)
            LOG.info("added %a, generation %d", found.id, generation)
            location = item_answer(found)["picture"].replace("/pictures/", "/items/", 1)
            return as_json(
                {**item_answer(found), "generation": generation}, 201, headers={"Location": location}
            )

        return await work.change(run)

    @router.delete(
        "/v1/items/{id:item}",
        response_model=RemovedAnswer,
        responses=problems(401),
        openapi_extra=_SECURED,
    )
    async def remove(id: ItemId, authorization: Authorization = None) -> Response:
        """Remove an item, not its picture file; needs the token."""
        check_token(settings.token, authorization)

        def run() -> Response:
            generation = service.remove(id)
            LOG.info("removed %a, generation %d", id, generation)
            return as_json({"removed": 1, "generation": generation})

        return await work.change(run)

    return router


_SECURED: dict[str, Any] = {"security": [{"token": []}]}
