"""The token that changes need: where it comes from, and how it is compared."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from cfcd.errors import UsageError
from cfcd.serving.errors import NoToken, WritesOff

VARIABLE = "CFCD_TOKEN"
_SHORTEST = 16


def read_token(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """Read the token from a file, or else from the environment; None where neither names one.

    Raises:
        UsageError: The file cannot be read, or the token is too short or no line of ASCII.
    """
    if file is not None:
        place = str(file)
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(
                f"The token file {file} cannot be read: {reason}.", "Write the token into it, in one line."
            ) from error
    elif VARIABLE in environment:
        place, text = VARIABLE, environment[VARIABLE]
    else:
        return None
    token = text.strip()
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"The token in {place} is no line of at least {_SHORTEST} ASCII characters without spaces.",
            "Make one by: openssl rand -hex 32.",
        )
    return token


def check_token(token: str | None, authorization: str | None) -> None:
    """Let a change pass that brings the token as `Authorization: Bearer TOKEN`.

    Raises:
        WritesOff: The service has no token.
        NoToken: The request has none, or another.
    """
    if token is None:
        raise WritesOff(
            "This service does not take changes.", f"Start it with --token-file, or with {VARIABLE} set."
        )
    scheme, _, given = (authorization or "").partition(" ")
    # Digests have one length: not even the token's length can be timed.
    same = hmac.compare_digest(_digest(given.strip()), _digest(token))
    if scheme.lower() != "bearer" or not same:
        raise NoToken(
            "A change needs the token of this service.", "Send it as the header Authorization: Bearer TOKEN."
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
