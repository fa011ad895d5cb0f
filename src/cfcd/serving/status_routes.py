"""What is served, whether it is well, and what it counted."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from cfcd.serving.answers import as_json, problem_of, problems
from cfcd.serving.errors import NotReady
from cfcd.serving.schemas import GalleryAnswer
from cfcd.serving.service import Service
from cfcd.serving.settings import Settings
from cfcd.serving.working import Work


def status_routes(service: Service, settings: Settings, work: Work) -> APIRouter:
    """Make the routes of the service's state."""
    router = APIRouter()

    @router.get("/v1/gallery", response_model=GalleryAnswer, responses=problems())
    async def gallery() -> Response:
        """Describe the gallery: model, index, columns, labels, and what the service allows."""

        def run() -> Response:
            own = {
                "writable": settings.token is not None,
                "max_k": settings.max_k,
                "max_body_bytes": settings.max_body_bytes,
            }
            return as_json({**service.describe(), **own})

        return await work.search(run)

    @router.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> Response:
        """Say ok as long as the process lives."""
        return PlainTextResponse("ok")

    @router.get("/readyz", response_class=PlainTextResponse, responses=problems())
    async def readyz() -> Response:
        """Say ready when gallery and model are loaded."""
        missing = service.ready()
        if missing is not None:
            return problem_of(NotReady(missing, "Wait a moment."))
        return PlainTextResponse("ready")

    @router.get("/metrics", response_class=PlainTextResponse, responses=problems())
    async def metrics() -> Response:
        """Give counts and times in Prometheus' text format."""
        text = await work.search(service.metrics)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
