"""Which names the service answers to, and whose pages may ask it to do something.

Without the first a page of another site could read everything through a name of its own that it lets point
to the loopback address (DNS rebinding); without the second it could post forms.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from cfcd.serving.errors import ForeignHost, ForeignOrigin
from cfcd.serving.settings import Settings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAFE = ("GET", "HEAD", "OPTIONS")
# Probes come by addresses that nobody can know beforehand, and these answers say nothing.
_ANY_HOST = ("/healthz", "/readyz")


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Origins:
    """Check the names in requests."""

    def __init__(self, settings: Settings) -> None:
        names = (*_LOOPBACK, settings.host, *settings.allow_hosts)
        self._names = frozenset(name.lower().strip("[]") for name in names)
        self._local = is_loopback(settings.host)

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Let a request pass.

        Raises:
            ForeignHost: It is to a name that is not ours.
            ForeignOrigin: It changes or asks something, and a page of another site sent it.
        """
        host = headers.get("host", "")
        if path not in _ANY_HOST and not self._is_ours(host):
            raise ForeignHost(
                f"This service does not answer to the host {host[:100]!r}.",
                "Allow the name with --allow-host if it is this service's.",
            )
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and not _same(origin, host):
            raise ForeignOrigin(
                "A page of another site asked for this.", "Use the page of the service itself, or no browser."
            )

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if name in self._names:
            return True
        # Beyond the loopback address any of the machine's own addresses will do: no other site has one.
        return not self._local and _is_address(name)


def _name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if not (parts.path or parts.query or parts.fragment or "@" in host) else None


def _is_address(name: str | None) -> bool:
    try:
        ipaddress.ip_address(name or "")
    except ValueError:
        return False
    return True


def _same(origin: str, host: str) -> bool:
    """Compare an origin with the host asked; a proxy may have taken the encryption off."""
    try:
        ours, theirs = urlsplit(f"//{host}"), urlsplit(origin)
        if theirs.scheme not in ("http", "https"):
            return False
        default = 443 if theirs.scheme == "https" else 80
        return (ours.hostname, ours.port or default) == (theirs.hostname, theirs.port or default)
    except ValueError:
        return False
