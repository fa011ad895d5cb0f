"""The bytes of a request, counted and timed while they come: before any parser sees them."""

from __future__ import annotations

import asyncio

from starlette.formparsers import MultiPartException
from starlette.types import Message, Receive, Send

from cfcd.errors import CfcdError
from cfcd.serving.errors import BodyTooLarge, SlowBody


class Stopped(MultiPartException):
    """End a handler whose request is refused; the guard answers instead of it.

    It is of the kind at which the form parser closes the files it has begun.
    """


class Body:
    """Pass a request's bytes on, up to a number and for a time.

    Args:
        receive: Gives the request.
        send: Takes the answer.
        limit: Most bytes.
        seconds: Time for all of them.
    """

    def __init__(self, receive: Receive, send: Send, limit: int, seconds: float) -> None:
        self._receive, self._send = receive, send
        self._limit, self._seconds = limit, seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._count = 0
        self._complete = False
        self.failure: CfcdError | None = None

    async def receive(self) -> Message:
        """Give the next bytes.

        Raises:
            Stopped: There are too many, or they come too slowly; `failure` says it.
        """
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.failure = SlowBody(
                f"The request took more than {self._seconds:g} seconds to arrive.",
                "Send smaller pictures, or let the service wait longer: --upload-seconds.",
            )
            raise Stopped(self.failure.what) from None
        self._count += len(message.get("body", b""))
        if self._count > self._limit:
            self.failure = too_large(self._limit)
            raise Stopped(self.failure.what)
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on, unless the request was refused: frameworks turn `Stopped` into one of theirs."""
        if self.failure is None:
            await self._send(message)


def too_large(limit: int) -> BodyTooLarge:
    """Refuse a request of more bytes than the limit."""
    return BodyTooLarge(
        f"The request has more than {limit:,} bytes.",
        "Send fewer or smaller pictures, or let the service take more: --max-upload-mb.",
    )
