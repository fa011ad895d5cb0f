"""Pictures of items, made anew as JPEGs: never the bytes of their files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from starlette.responses import Response

from cfcd.serving.answers import problems
from cfcd.serving.queries import Rendered
from cfcd.serving.service import Service
from cfcd.serving.working import Work

ItemId = Annotated[str, Path(min_length=1, max_length=4096, description="The id; slashes may stay.")]
Known = Annotated[str | None, Header(alias="if-none-match", include_in_schema=False)]

# Short: a picture may be replaced under its id, and asking again costs one look at its file.
_CACHE = "private, max-age=60, must-revalidate"


class JpegResponse(Response):
    """Answer with a JPEG."""

    media_type = "image/jpeg"


def picture_routes(service: Service, work: Work) -> APIRouter:
    """Make the routes of pictures."""
    router = APIRouter()
    answers = {**problems(), 304: {"description": "You have it."}}

    @router.get("/v1/pictures/{id:item}", response_class=JpegResponse, responses=answers)
    async def picture(
        id: ItemId,
        side: Annotated[int, Query(ge=16, le=2048, description="Longest side in pixels.")] = 2048,
        boxed: Annotated[bool, Query(description="Only the part in the item's box.")] = False,
        known: Known = None,
    ) -> Response:
        """Give an item's picture, upright."""
        return _jpeg(await work.draw(service.picture, id, side, boxed), known)

    @router.get("/v1/thumbnails/{id:item}", response_class=JpegResponse, responses=answers)
    async def thumbnail(
        id: ItemId,
        side: Annotated[int, Query(ge=16, le=512, description="Longest side in pixels.")] = 256,
        known: Known = None,
    ) -> Response:
        """Give an item's picture small."""
        return _jpeg(await work.draw(service.thumbnail, id, side), known)

    return router


def _jpeg(rendered: Rendered, known: str | None) -> Response:
    headers = {"ETag": f'"{rendered.mark}"', "Cache-Control": _CACHE}
    if known is not None and (known.strip() == "*" or headers["ETag"] in known):
        return Response(None, 304, headers)
    return JpegResponse(rendered.jpeg, headers=headers)
