"""What every request passes before a route sees it, and what every answer gets on its way out."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cfcd.errors import CfcdError
from cfcd.serving.answers import problem, problem_of
from cfcd.serving.bodies import Body, Stopped, too_large
from cfcd.serving.errors import NotReady, Overloaded, WrongMediaType, code_of
from cfcd.serving.origins import Origins
from cfcd.serving.settings import Settings

LOG = logging.getLogger("cfcd.serving")

_JSON = ("application/json",)
# Plain forms too: some clients send them where there are no files.
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_TAKES = {
    "/v1/search": _JSON,
    "/v1/search/pictures": _FORMS,
    "/v1/items": _FORMS,
    "/v1/explain": _FORMS,
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

Count = Callable[[str, str, int, float], None]
Refuse = Callable[[str], None]


class Guard:
    """Refuse what is foreign, too much or too slow; count requests; let no stack trace out.

    Args:
        app: What answers.
        settings: The limits.
        count: Told the method, path template, status and seconds of every request.
        refuse: Told why a request was not read.
    """

    def __init__(self, app: ASGIApp, settings: Settings, count: Count, refuse: Refuse) -> None:
        self._app, self._settings, self._count, self._refuse = app, settings, count, refuse
        self._origins = Origins(settings)
        self._there = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        answer = _Answer(send)
        api = scope["path"].startswith("/v1")
        self._there += api
        try:
            await self._guarded(scope, receive, answer)
        except asyncio.CancelledError:  # the service stops, and this took longer than it waits
            await _stop(scope, receive, answer)
        except Exception:
            await _break_down(scope, receive, answer)
        finally:
            self._there -= api
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._count(method, _template(scope), answer.status, perf_counter() - start)

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers = Headers(scope=scope)
        limit = self._limit(scope, headers)
        try:
            self._check(scope, headers, limit)
        except CfcdError as error:
            await self._refused(error, scope, receive, answer)
            return
        body = Body(receive, answer.send, limit, self._settings.upload_seconds)
        with suppress(Stopped):
            await self._app(scope, body.receive, body.send)
        if body.failure is not None:
            await self._refused(body.failure, scope, receive, answer)

    async def _refused(self, error: CfcdError, scope: Scope, receive: Receive, answer: _Answer) -> None:
        self._refuse(code_of(error))
        await problem_of(error)(scope, receive, answer.send)

    def _check(self, scope: Scope, headers: Headers, limit: int) -> None:
        self._origins.check(scope["method"], scope["path"], headers)
        if self._there > self._settings.concurrency + self._settings.waiting:
            raise Overloaded("Too many requests wait already.", "Try again in a moment.")
        takes = _TAKES.get(scope["path"]) if scope["method"] == "POST" else None
        if takes is not None and _media_type(headers) not in takes:
            raise WrongMediaType(f"{scope['path']} takes {takes[0]}.", "Say so in the header Content-Type.")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large(limit)

    def _limit(self, scope: Scope, headers: Headers) -> int:
        pictures = _TAKES.get(scope["path"]) is _FORMS and _media_type(headers) == _FORMS[0]
        return self._settings.max_body_bytes if pictures else self._settings.max_json_bytes


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Answer:
    """Send an answer with the headers that all have, and remember its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


async def _stop(scope: Scope, receive: Receive, answer: _Answer) -> None:
    if not answer.status:
        stopped = NotReady("The service is stopping.", "Try again when it is back.")
        await problem_of(stopped)(scope, receive, answer.send)


async def _break_down(scope: Scope, receive: Receive, answer: _Answer) -> None:
    """Answer with an id, and log what happened under it."""
    number = secrets.token_hex(4)
    LOG.exception("%s: %s %s failed", number, scope["method"], _template(scope))
    if not answer.status:
        failed = problem(
            500,
            "internal_error",
            f"Something went wrong in the service; its log says more under {number}.",
            "Try again; if it stays so, show the log to who runs the service.",
        )
        await failed(scope, receive, answer.send)


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _template(scope: Scope) -> str:
    """Name the route of a request: few names, whatever is asked for."""
    return getattr(scope.get("route"), "path_format", None) or "other"
