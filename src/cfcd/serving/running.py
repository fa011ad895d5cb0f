"""Listen on an address and answer until told to stop."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from cfcd.errors import UsageError
from cfcd.serving.connections import uvicorn_options
from cfcd.serving.settings import Settings


def listen(host: str, port: int) -> socket.socket:
    """Open the socket to listen on; port 0 takes a free one.

    Raises:
        UsageError: The port is taken, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise UsageError(
            f"There is no address {host}.", "Give an address or name of this machine with --host."
        ) from error
    try:
        if sys.platform != "win32":  # there it would let two processes share a port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(512)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"Port {port} of {host} is taken by another process.",
                "Give another with --port; 0 takes any.",
            ) from error
        raise UsageError(
            f"{host} port {port} cannot be listened on: {error.strerror}.",
            "Give an address of this machine with --host, and a port above 1023 with --port.",
        ) from error
    return opened


def url_of(opened: socket.socket, host: str) -> str:
    """Give the address of the page, for people."""
    name = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{opened.getsockname()[1]}/"


class Server(uvicorn.Server):
    """Stop at SIGINT and SIGTERM, and return: uvicorn's own raises the signal again once it has stopped."""

    started_up: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer, and say so: from here on the signals are taken."""
        await super().startup(sockets)
        if self.started_up is not None:
            self.started_up()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals during the block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_server(app: FastAPI, settings: Settings) -> Server:
    """Make the server of an application; `run(sockets=[...])` runs it, `should_exit = True` ends it."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the guard logs what matters
    return Server(uvicorn.Config(app, **uvicorn_options(settings)))


def run(app: FastAPI, opened: socket.socket, settings: Settings, started: Callable[[], None]) -> None:
    """Answer requests until SIGINT or SIGTERM; what is in work has three seconds then.

    Args:
        app: What answers.
        opened: The socket from `listen`; closed at the end.
        settings: The limits of connections.
        started: Called once requests are answered.
    """
    server = make_server(app, settings)
    server.started_up = started
    with opened:
        server.run(sockets=[opened])
