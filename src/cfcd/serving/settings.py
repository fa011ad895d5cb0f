"""How a gallery is served: names, limits and the token."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Settings:
    """Say who may ask and how much a request may cost.

    Attributes:
        host: Address the service listens on.
        allow_hosts: Further names it answers to.
        token: What changes have to bring; None turns them off.
        max_body_bytes: Most bytes of a request with pictures.
        max_json_bytes: Most bytes of any other.
        max_k: Most hits, counted from the first.
        upload_seconds: Time that all bytes of a request may take.
        head_seconds: Time that a connection may take to ask for something.
        concurrency: Requests in work at a time.
        waiting: Requests that may wait, or send their bytes, beside these; more are refused.
        drawing: Pictures and explanations made at a time.
        max_connections: Open connections; further ones are closed at once.
    """

    host: str = "127.0.0.1"
    allow_hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    max_body_bytes: int = 20_000_000
    max_json_bytes: int = 4_000_000
    max_k: int = 1000
    upload_seconds: float = 30.0
    head_seconds: float = 15.0
    concurrency: int = 32
    waiting: int = 224
    drawing: int = os.cpu_count() or 1
    max_connections: int = 1000
