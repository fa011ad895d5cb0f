"""The application: routes behind a guard, and every error in one shape."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import cfcd
from cfcd.errors import BusyError, CfcdError, PictureError
from cfcd.serving.answers import problem, problem_of
from cfcd.serving.errors import code_of, status_of
from cfcd.serving.explain_routes import explain_routes
from cfcd.serving.guards import Guard
from cfcd.serving.item_routes import item_routes
from cfcd.serving.page_routes import page_routes
from cfcd.serving.picture_routes import picture_routes
from cfcd.serving.schemas import ProblemAnswer
from cfcd.serving.search_routes import search_routes
from cfcd.serving.service import Service
from cfcd.serving.settings import Settings
from cfcd.serving.status_routes import status_routes
from cfcd.serving.working import Work

_DESCRIPTION = """Search a gallery of pictures by picture, part of a picture, item or descriptor.

Every answer that is no success is `{"error": {"code", "message", "mend"}}`.
"""


class _ItemConvertor(Convertor[str]):
    """Take any id: the convertor `path` stops at a line break, and file names may hold one."""

    regex = r"(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("item", _ItemConvertor())


def make_app(service: Service, settings: Settings) -> FastAPI:
    """Make the application that serves a gallery over HTTP.

    Args:
        service: Open; the caller closes it.
        settings: Names, limits, token.
    """
    app = FastAPI(
        title="cfcd",
        description=_DESCRIPTION,
        version=cfcd.__version__,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    work = Work(settings)
    app.include_router(search_routes(service, settings, work))
    app.include_router(item_routes(service, settings, work))
    app.include_router(picture_routes(service, work))
    app.include_router(explain_routes(service, work))
    app.include_router(status_routes(service, settings, work))
    app.include_router(page_routes(work))
    app.add_middleware(Guard, settings=settings, count=service.count, refuse=service.refuse)

    async def own(_request: Request, error: Exception) -> Response:
        assert isinstance(error, CfcdError)
        if status_of(error) is None:
            raise error  # the guard logs it and tells no details
        if isinstance(error, BusyError):  # its words name a place on the disk, and who writes there
            return problem_of(BusyError("Another process is writing to the gallery.", "Try again soon."))
        if isinstance(error, PictureError):
            service.refuse(code_of(error))
        return problem_of(error)

    app.add_exception_handler(CfcdError, own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    _complete(app)
    return app


async def _invalid(_request: Request, error: Exception) -> Response:
    """Name the first field that is wrong; what was in it is not repeated."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    place = ".".join(str(part) for part in found.get("loc", ()))
    what = str(found.get("msg", "it is invalid"))
    if "UploadFile" in what:
        what = "it is no file; curl sends one with -F NAME=@FILE"
    return problem(
        422,
        "invalid_request",
        f"{place[:200]}: {what[:300]}.",
        "Compare the request with /openapi.json.",
    )


_HTTP = {
    400: ("bad_request", "The request cannot be read.", "Compare it with /openapi.json."),
    404: ("not_found", "There is nothing at this address.", "See /openapi.json for what there is."),
    405: ("method_not_allowed", "This address does not take that method.", "See the header Allow."),
}


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    other = ("refused", "The request cannot be answered.", "Compare it with /openapi.json.")
    code, message, mend = _HTTP.get(error.status_code, other)
    return problem(error.status_code, code, message, mend, dict(error.headers or {}))


def _complete(app: FastAPI) -> None:
    """Say in OpenAPI what token the changes need, and what problems look like."""
    plain: Callable[[], dict[str, object]] = app.openapi

    def openapi() -> dict[str, object]:
        schema = plain()
        components = schema.setdefault("components", {})
        assert isinstance(components, dict)
        schemas = components.setdefault("schemas", {})
        problem_schema = ProblemAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem_schema.pop("$defs"))
        schemas["ProblemAnswer"] = problem_schema
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
