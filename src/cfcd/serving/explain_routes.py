"""Why a hit matches."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, UploadFile
from starlette.responses import Response

from cfcd.errors import ModelError, UsageError
from cfcd.explaining import Explanation, Regions
from cfcd.serving.answers import as_json, problem_of, problems
from cfcd.serving.forms import read_pictures
from cfcd.serving.queries import QueryPicture
from cfcd.serving.schemas import ExplainAnswer, Id
from cfcd.serving.service import Service
from cfcd.serving.working import Work


def explain_routes(service: Service, work: Work) -> APIRouter:
    """Make the route of explanations."""
    router = APIRouter()
    answers = problems(408, 413, 415)
    answers[200] = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}

    @router.post("/v1/explain", response_model=ExplainAnswer, responses=answers)
    async def explain(
        hit: Annotated[Id, Form(description="The item that was found.")],
        picture: Annotated[UploadFile | None, File(description="The query.")] = None,
        box: Annotated[
            str, Form(max_length=4096, description='"x1,y1,x2,y2": the part of the query that counts.')
        ] = "",
        id: Annotated[Id | None, Form(description="The query, where it is an item.")] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        """Say which regions of query and hit make up the score, and which places are alike.

        The answer is drawn as a PNG where `Accept` begins with `image/png`.
        """

        def run() -> Response:
            query = _query(picture, box, id)
            try:
                if accept.lstrip().lower().startswith("image/png"):
                    return Response(service.explain_png(hit, query), media_type="image/png")
                return as_json(explain_answer(service.explain(hit, query)))
            except ModelError as error:
                return problem_of(error, 422)  # the model's nature, nothing that broke

        return await work.explain(run)

    return router


def _query(picture: UploadFile | None, box: str, item_id: str | None) -> QueryPicture | str:
    if picture is None and item_id is not None and not box.strip():
        return item_id
    if picture is None or item_id is not None:
        raise UsageError(
            "An explanation needs a picture, with or without a box, or else an id.", "Give one of them."
        )
    return read_pictures([picture], [box])[0]


def explain_answer(explanation: Explanation) -> dict[str, Any]:
    """Give an explanation as plain data."""
    return {
        "score": round(explanation.score, 8),
        "query": _side(explanation.query),
        "hit": _side(explanation.hit),
        "lines": [
            {
                "query": [round(value, 1) for value in match.query],
                "hit": [round(value, 1) for value in match.hit],
                "similarity": round(match.cosine, 6),
                "distinct": match.distinct,
            }
            for match in explanation.matches
        ],
        "error": explanation.error,
    }


def _side(regions: Regions) -> dict[str, Any]:
    found = regions.to_json()
    return {
        "width": regions.size[0],
        "height": regions.size[1],
        "rows": regions.shares.shape[0],
        "columns": regions.shares.shape[1],
        "shares": found["shares"],
        "box": found["area"],
        "constant": found["constant"],
        "against": found["against"],
        "decided": found["decided"],
    }
