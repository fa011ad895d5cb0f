"""What the routes ask of the service; all calls block and are thread-safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cfcd.catalog import Item
    from cfcd.explaining import Explanation
    from cfcd.serving.queries import Found, ItemsPage, NewItem, Query, QueryPicture, Rendered, Wish


class Service(Protocol):
    """One gallery with its encoder and explainer."""

    def ready(self) -> str | None:
        """Give None when gallery and model are loaded, else one sentence that says what is missing."""

    def describe(self) -> Mapping[str, Any]:
        """Give what GET /v1/gallery answers, less writable and max_k."""

    def search(self, query: Query, wish: Wish) -> Found:
        """Raises: UnknownItem, PictureError, UsageError, Overloaded, NotReady."""

    def item(self, item_id: str) -> tuple[Item, int]:
        """Give an item and the generation. Raises: UnknownItem."""

    def items(self, where: str | None, labels: Sequence[str] | None, offset: int, k: int) -> ItemsPage:
        """Give items in the order of their row numbers. Raises: UsageError."""

    def add(self, picture: bytes, row: NewItem, replace: bool) -> tuple[Item, int]:
        """Save the picture, encode and add it. Raises: ItemExists, PictureError, BusyError."""

    def remove(self, item_id: str) -> int:
        """Remove an item and give the new generation. Raises: UnknownItem, BusyError."""

    def thumbnail(self, item_id: str, side: int) -> Rendered:
        """Raises: UnknownItem, PictureMissing."""

    def picture(self, item_id: str, side: int, boxed: bool) -> Rendered:
        """Raises: UnknownItem, PictureMissing."""

    def explain(self, hit_id: str, query: QueryPicture | str) -> Explanation:
        """Explain a hit; a str query is an item's id. Raises: as search, ModelError."""

    def explain_png(self, hit_id: str, query: QueryPicture | str) -> bytes:
        """Draw what `explain` gives."""

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request in the metrics; `route` is its path template."""

    def metrics(self) -> bytes:
        """Give the metrics in Prometheus' text format."""

    def close(self) -> None:
        """Let everything go."""
