"""A choice of items that the Milvus server makes, instead of sending all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cfcd.gallery.milvus.client import ANYTHING, MilvusClient
from cfcd.gallery.milvus.where import among, exists, to_expression
from cfcd.gallery.selection import Chosen
from cfcd.gallery.where import leaves
from cfcd.gallery.where_sql import BUILT_IN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.where import Condition


class ChosenThere(Chosen):
    """What a selection finds on the server; row numbers and unknown names are asked for when they are needed.

    Args:
        client: The server.
        collection: Where the items are.
        expression: The choice in the words of Milvus.
        wanted: Names that were asked for, by the field they stand in.
    """

    def __init__(
        self, client: MilvusClient, collection: str, expression: str, wanted: dict[str, Sequence[str]]
    ) -> None:
        # Chosen is frozen, and has the numbers and the names from the start.
        vars(self).update(
            expression=expression, vectors=None, _client=client, _collection=collection, _wanted=wanted
        )

    if TYPE_CHECKING:
        expression: str
        _client: MilvusClient
        _collection: str
        _wanted: dict[str, Sequence[str]]

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Ask for the row numbers."""
        pages = self._client.walk(self._collection, self.expression, ["number"])
        return np.array([row["number"] for page in pages for row in page], np.int64)

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Ask which of the names that were asked for no item has."""
        missing: list[str] = []
        for field, names in self._wanted.items():
            pages = self._client.walk(self._collection, among(field, names), ["number", field])
            there = {row[field] for page in pages for row in page} - {""}
            missing += [name for name in dict.fromkeys(names) if name not in there]
        return tuple(missing)


def look_up(
    client: MilvusClient,
    collection: str,
    condition: Condition | None,
    ids: Sequence[str] | None,
    labels: Sequence[str] | None,
) -> ChosenThere | None:
    """Have the server choose items; None where it cannot, and all rows are to be looked at here."""
    terms = []
    if condition is not None:
        expression = to_expression(condition)
        names = {leaf.column for leaf in leaves(condition)} - set(BUILT_IN)
        # A name in other letter case, or of no column, is left to who knows all columns.
        if expression is None or not all(
            client.some(collection, exists(name), ["number"], 1) for name in sorted(names)
        ):
            return None
        terms.append(expression)
    wanted = {field: names for field, names in (("item", ids), ("label", labels)) if names is not None}
    # "" stands for no label.
    terms += [among(field, [name for name in names if name]) for field, names in wanted.items()]
    expression = " and ".join(f"({term})" for term in terms) or f"number {ANYTHING['number']}"
    return ChosenThere(client, collection, expression, wanted)
