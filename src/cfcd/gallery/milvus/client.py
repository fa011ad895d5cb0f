"""Talk to a Milvus server: strongly consistent, and with errors of ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from cfcd.errors import GalleryError, MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.milvus.address import MilvusAddress

# What has been acknowledged to anybody is found: Milvus waits for its own log, 0.2 seconds at most.
_CONSISTENCY = "Strong"
_CONNECT_SECONDS = 10.0
_CALL_SECONDS = 120.0
MOST_HITS = 16_384  # a limit of Milvus, for searches and for queries
LONGEST_TEXT = 65_535  # bytes, likewise
_PAGE = 2048
# Conditions that all keys meet: Milvus asks for one where rows are limited.
ANYTHING = {"number": ">= 0", "key": '!= ""'}

Row = dict[str, Any]
_P = ParamSpec("_P")
_T = TypeVar("_T")


def literal(text: str) -> str:
    """Write a text as a value of a Milvus expression."""
    return json.dumps(text, ensure_ascii=False)


def _translated(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn what the Milvus client raises into errors of ours, which never hold credentials."""

    @wraps(call)
    def run(*arguments: _P.args, **options: _P.kwargs) -> _T:
        from pymilvus.exceptions import MilvusException

        try:
            return call(*arguments, **options)
        except MilvusException as error:
            reason = " ".join(str(getattr(error, "message", error)).split())
            token = getattr(arguments[0], "_token", "")
            for secret in filter(None, (token, token.partition(":")[2])):
                reason = reason.replace(secret, "***")
            raise GalleryError(
                f"Milvus at {arguments[0]} refused: {reason[:300]}.",
                "Check that the server runs, its version (2.3 or newer), and MILVUS_TOKEN if it wants one.",
            ) from None

    return run


class MilvusClient:
    """The calls that a gallery makes, on the collections of one address.

    Args:
        address: The server.

    Raises:
        MissingExtra: pymilvus is not installed.
        GalleryError: The server cannot be reached.
    """

    def __init__(self, address: MilvusAddress) -> None:
        if find_spec("pymilvus") is None:
            raise MissingExtra(
                f"{address} needs the package pymilvus, which is not installed.",
                'Install it with `pip install "cfcd[milvus]"`.',
            )
        self._name = str(address)
        self._token = address.token
        # It prints tracebacks of errors that are raised as well.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._client = self._connect(address)

    def __str__(self) -> str:
        return self._name

    @_translated
    def _connect(self, address: MilvusAddress) -> Any:
        import pymilvus

        return pymilvus.MilvusClient(
            uri=address.uri, token=address.token, db_name=address.database, timeout=_CONNECT_SECONDS
        )

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    @_translated
    def description(self, collection: str) -> str | None:
        """Read what a collection was described with when it was made; None where there is none."""
        if not self._client.has_collection(collection, timeout=_CALL_SECONDS):
            return None
        return str(self._client.describe_collection(collection, timeout=_CALL_SECONDS)["description"])

    @_translated
    def create(self, collection: str, description: str, fields: Sequence[tuple[str, str, int]]) -> None:
        """Make a collection and load it; the first field is its key.

        Args:
            collection: Its name.
            description: Kept with it.
            fields: Name, type (a `DataType` of pymilvus) and size: characters of a VARCHAR, dimensions of a
                FLOAT_VECTOR, which is searched exactly, by inner product.
        """
        from pymilvus import DataType
        from pymilvus import MilvusClient as Client

        schema = Client.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
        indexes = Client.prepare_index_params()
        for at, (name, kind, size) in enumerate(fields):
            sizes = {"VARCHAR": {"max_length": size}, "FLOAT_VECTOR": {"dim": size}}
            schema.add_field(name, getattr(DataType, kind), is_primary=at == 0, **sizes.get(kind, {}))
            if kind == "FLOAT_VECTOR":
                indexes.add_index(name, index_type="FLAT", metric_type="IP")
        self._client.create_collection(
            collection,
            schema=schema,
            index_params=indexes,
            consistency_level=_CONSISTENCY,
            timeout=_CALL_SECONDS,
        )

    @_translated
    def drop(self, collection: str) -> None:
        """Delete a collection."""
        self._client.drop_collection(collection, timeout=_CALL_SECONDS)

    @_translated
    def compact(self, collection: str) -> None:
        """Have the server free what deleted rows take."""
        self._client.compact(collection, timeout=_CALL_SECONDS)

    @_translated
    def upsert(self, collection: str, rows: list[Row]) -> None:
        """Write rows, in the place of those with the same key."""
        if rows:
            self._client.upsert(collection, rows, timeout=_CALL_SECONDS)

    @_translated
    def delete(self, collection: str, keys: list[int] | list[str]) -> None:
        """Delete rows by key; those that are not there are none's loss."""
        for start in range(0, len(keys), _PAGE):
            self._client.delete(collection, ids=keys[start : start + _PAGE], timeout=_CALL_SECONDS)

    @_translated
    def count(self, collection: str, where: str = "") -> int:
        """Count rows."""
        found = self._client.query(
            collection,
            filter=where,
            output_fields=["count(*)"],
            consistency_level=_CONSISTENCY,
            timeout=_CALL_SECONDS,
        )
        return int(found[0]["count(*)"])

    @_translated
    def some(self, collection: str, where: str, fields: list[str], limit: int = MOST_HITS) -> list[Row]:
        """Read at most `limit` rows that meet a condition, in no order."""
        found = self._client.query(
            collection,
            filter=where,
            output_fields=fields,
            limit=limit,
            consistency_level=_CONSISTENCY,
            timeout=_CALL_SECONDS,
        )
        return list(found)

    def walk(self, collection: str, where: str, fields: list[str]) -> Iterator[list[Row]]:
        """Read all rows that meet a condition, ordered by the key, their first field, page by page."""
        # Every request takes as long as the server's clock ticks: most answers come whole with the first.
        first = self.some(collection, where or f"{fields[0]} {ANYTHING[fields[0]]}", fields, _PAGE)
        if len(first) < _PAGE:
            if first:
                yield sorted(first, key=lambda row: row[fields[0]])
            return
        pages = self._pages(collection, where, fields)
        try:
            while page := self._next(pages):
                yield list(page)
        finally:
            pages.close()

    @_translated
    def _pages(self, collection: str, where: str, fields: list[str]) -> Any:
        return self._client.query_iterator(
            collection,
            batch_size=_PAGE,
            filter=where,
            output_fields=fields,
            consistency_level=_CONSISTENCY,
            timeout=_CALL_SECONDS,
        )

    @_translated
    def _next(self, pages: Any) -> Any:
        return pages.next()

    @_translated
    def nearest(
        self, collection: str, queries: NDArray[Any], k: int, where: str, fields: list[str]
    ) -> list[list[tuple[int, float, Row]]]:
        """Find the k rows of largest inner product for each (Q, D) float32 query: key, product and fields."""
        found = self._client.search(
            collection,
            data=[query.tolist() for query in queries],
            anns_field="vector",
            filter=where,
            limit=k,
            output_fields=fields,
            search_params={"metric_type": "IP"},
            consistency_level=_CONSISTENCY,
            timeout=_CALL_SECONDS,
        )
        return [
            [(int(hit["id"]), float(hit["distance"]), dict(hit["entity"])) for hit in hits] for hits in found
        ]
