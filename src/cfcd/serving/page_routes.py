"""The page: a few files of the package, found by name in a list, so that no path leads elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cfcd.serving.working import Work

PAGE = Path(__file__).with_name("page")
# Not by the system's table of types, in which scripts are at times plain text and then do not run.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
}

Known = Annotated[str | None, Header(alias="if-none-match")]


def page_routes(work: Work) -> APIRouter:
    """Make the routes of the page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index(known: Known = None) -> Response:
        return await work.search(_file, "index.html", known)

    @router.head("/")
    async def head(known: Known = None) -> Response:
        return await work.search(_file, "index.html", known)

    @router.get("/page/{name:path}")
    async def asset(name: str, known: Known = None) -> Response:
        return await work.search(_file, name, known)

    return router


def _file(name: str, known: str | None) -> Response:
    files = {
        file.relative_to(PAGE).as_posix(): file
        for file in PAGE.rglob("*")
        if file.suffix in _TYPES and file.is_file()
    }
    if name not in files:
        raise HTTPException(404)
    content = files[name].read_bytes()
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"', "Cache-Control": "no-cache"}
    if known is not None and headers["ETag"] in known:
        return Response(None, 304, headers)
    return Response(content, headers=headers, media_type=_TYPES[files[name].suffix])
