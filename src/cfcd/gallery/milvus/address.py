"""Where a gallery lies on a Milvus server: milvus://[user:password@]host[:port]/[database/]collection."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cfcd.errors import UsageError

TOKEN = "MILVUS_TOKEN"
_PORT = 19530
_SCHEMES = {"milvus": "http", "milvus+tls": "https"}
# Two slashes become one where a command has taken the address for a path.
_START = re.compile(r"(milvus(?:\+tls)?):/{1,2}(?=[^/])")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,240}")
_EXAMPLE = "Write it like milvus://localhost:19530/photos."


def is_milvus(place: str | Path) -> bool:
    """Tell whether a place is written as an address of a Milvus server."""
    return _START.match(str(place)) is not None


@dataclass(frozen=True)
class MilvusAddress:
    """A collection on a server; as text without credentials, so that it can be shown anywhere.

    `token` is "user:password" or an API key, "" without; `repr` leaves it out too.
    """

    scheme: str
    host: str
    port: int
    database: str
    collection: str
    token: str = field(repr=False)

    @classmethod
    def parse(cls, place: str | Path) -> MilvusAddress:
        """Read an address; credentials that it lacks come from the environment variable MILVUS_TOKEN.

        Raises:
            UsageError: It is no such address.
        """
        start = _START.match(str(place))
        if start is None:
            raise UsageError("This is no address of a Milvus server.", _EXAMPLE)
        try:
            parts = urlsplit(f"{start[1]}://{str(place)[start.end() :]}")
            host, port = parts.hostname, parts.port or _PORT
        except ValueError as error:
            # What urllib says may repeat the address with its password.
            raise UsageError("The port of the Milvus address is no number up to 65535.", _EXAMPLE) from error
        names = [name for name in parts.path.split("/") if name]
        if not host or parts.query or parts.fragment or not 1 <= len(names) <= 2:
            raise UsageError("The Milvus address needs a host and a collection, and no more.", _EXAMPLE)
        for name in names:
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"Milvus has no collection or database {name[:40]!r}.",
                    "Use letters, digits and _, a letter first.",
                )
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        token = f"{user}:{password}" if password else user or os.environ.get(TOKEN, "")
        return cls(parts.scheme, host, port, "/".join(names[:-1]), names[-1], token)

    @property
    def uri(self) -> str:
        """Give the server's address for its client, without credentials."""
        return f"{_SCHEMES[self.scheme]}://{self._server}"

    @property
    def _server(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return "/".join(filter(None, (f"{self.scheme}://{self._server}", self.database, self.collection)))
