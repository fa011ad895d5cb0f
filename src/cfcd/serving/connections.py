"""Connections that do not wait for ever: uvicorn's own, with a time in which something has to be asked."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from cfcd.serving.settings import Settings


def connection_class(settings: Settings) -> type[asyncio.Protocol]:
    """Make the class of connections for these limits.

    uvicorn itself bounds neither their number nor the time a head may take: without this a few thousand
    silent connections would take every file descriptor of the process.
    """

    class Connection(H11Protocol):
        """Close when nothing whole was asked for in time, or when there are too many."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                transport.close()
            else:
                self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()  # in work: the guard keeps the time of its body

        def on_response_complete(self) -> None:
            # Before what comes after it: a request that was sent ahead is taken up there.
            self._stop()
            self._wait()
            super().on_response_complete()
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._timer = self.loop.call_later(settings.head_seconds, self._give_up)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            if not self.transport.is_closing():
                self.transport.abort()

    return Connection


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """Give what uvicorn is to do otherwise than by default."""
    return {
        "http": connection_class(settings),
        "ws": "none",
        # All that the API allows in an address, however it is escaped: 200 KB; more is answered by 400.
        "h11_max_incomplete_event_size": 256 << 10,
        "lifespan": "off",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,  # nothing here depends on who asks
        "timeout_keep_alive": 10,
        "timeout_graceful_shutdown": 3,
        "backlog": 512,
    }
