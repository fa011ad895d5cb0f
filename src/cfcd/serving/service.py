"""One gallery with its encoder and explainer, for many threads at once; no HTTP in it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from cfcd.encoding.encoder import Reading
from cfcd.explaining import Explainer, Explanation
from cfcd.gallery import Gallery, combine, open_gallery
from cfcd.gallery.selection import Selection
from cfcd.serving.batching import Encoding
from cfcd.serving.columns import ColumnsCache
from cfcd.serving.errors import UnknownItem
from cfcd.serving.metrics import Metrics
from cfcd.serving.queries import Found, ItemsPage, NewItem, Query, QueryPicture, Rendered, Wish
from cfcd.serving.thumbnails import Pictures
from cfcd.serving.uploads import Uploads, default_uploads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfcd.catalog import Box, Item
    from cfcd.pictures import PictureSource


class Service:
    """Search, show, change and explain one gallery; every method may be called from any thread.

    Args:
        gallery: Open; the service closes it.
        uploads: Folder for the pictures of added items; by default beside the gallery.
        workers: Pictures decoded at a time; by default one per core.
        max_waiting: Pictures that may wait for these workers; more are refused.
        thumbnail_bytes: What the cache of rendered pictures may hold.
    """

    def __init__(
        self,
        gallery: Gallery,
        *,
        uploads: Path | None = None,
        workers: int | None = None,
        max_waiting: int = 64,
        thumbnail_bytes: int = 64 << 20,
    ) -> None:
        self._gallery = gallery
        self._explainer = Explainer(gallery.encoder)
        self._encoding = Encoding(gallery.encoder, workers=workers, max_waiting=max_waiting)
        self._pictures = Pictures(gallery.encoder.reading, max_bytes=thumbnail_bytes)
        self._columns = ColumnsCache()
        self._uploads = Uploads(uploads or default_uploads(gallery.name))
        self._changing = threading.Lock()
        self._metrics = Metrics()
        self._closed = False

    @classmethod
    def open(
        cls,
        gallery: str | Path,
        *,
        model: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        reading: Reading | None = None,
        uploads: Path | None = None,
        workers: int | None = None,
        max_waiting: int = 64,
        thumbnail_bytes: int = 64 << 20,
    ) -> Service:
        """Open a gallery to serve it, and load its model.

        Args:
            gallery: A folder, or milvus://...
            model: A model folder or name of the gallery's identity; by default the gallery's own.
            device: As for `load_model`.
            precision: As for `load_model`.
            reading: How uploaded pictures are read, and what they may cost.
            uploads: As for `Service`.
            workers: As for `Service`.
            max_waiting: As for `Service`.
            thumbnail_bytes: As for `Service`.

        Raises:
            GalleryError: There is no gallery.
            ModelError: Its model cannot be loaded.
        """
        opened = open_gallery(gallery, model, device=device, precision=precision, reading=reading)
        try:
            return cls(
                opened,
                uploads=uploads,
                workers=workers,
                max_waiting=max_waiting,
                thumbnail_bytes=thumbnail_bytes,
            )
        except BaseException:
            opened.close()
            raise

    def close(self) -> None:
        """Let everything go."""
        self._closed = True
        self._gallery.close()

    def ready(self) -> str | None:
        """Give None when gallery and model are loaded, else one sentence that says what is missing."""
        return "The service is closing." if self._closed else None

    def describe(self) -> Mapping[str, Any]:
        """Give name, counts, model, index, calibration and columns of the gallery as plain data."""
        gallery = self._gallery
        info = gallery.info()
        calibration = gallery.calibration
        columns = self._columns.of(gallery)
        return {
            "name": Path(gallery.name).name,
            "items": info["items"],
            "dim": gallery.dim,
            "model": gallery.model_label,
            "identity": gallery.identity,
            "random_weights": str(gallery.encoder.model.config.training.get("weights", "")).startswith(
                "random"
            ),
            "index": info["index"],
            "calibration": None if calibration is None else _brief(calibration.to_json()),
            "generation": info.get("generation", 0),
            "columns": [column.to_json() for column in columns.columns],
            "labels": list(columns.labels),
        }

    def search(self, query: Query, wish: Wish) -> Found:
        """Find the items most like what a query shows.

        Raises:
            UsageError: The query is empty, its condition is none, a vector has another size.
            UnknownItem: An item of the query is not in the gallery.
            PictureError: A picture cannot be read.
            Overloaded: Too many pictures wait already.
        """
        wanted, read_s, encode_s = self._encoding.vectors([*query.pictures, *query.minus_pictures])
        start = perf_counter()
        positives = [*wanted[: len(query.pictures)], *query.vectors]
        negatives = wanted[len(query.pictures) :]
        gallery = self._gallery
        with gallery._store.reading():
            positives += [self._descriptor(gallery, one) for one in query.ids]
            negatives += [self._descriptor(gallery, one) for one in query.minus_ids]
            mixed = len(positives) + len(negatives) != 1
            vector = combine(positives, negatives) if mixed else positives[0]
            hits = gallery.search_vector(
                vector,
                wish.offset + wish.k + 1,
                where=Selection.of(wish.where, wish.ids, wish.labels),
                expand=wish.expand,
                descriptors=wish.descriptors,
                verdicts=not mixed,
                without=query.ids,
            )
            calibrated = gallery.calibration is not None
            generation = gallery._store.generation
        last = wish.offset + wish.k
        verdicts = {hit.verdict for hit in hits[:last]}
        best = next((one for one in ("match", "maybe", "none") if one in verdicts), "none")
        took = {"read": read_s, "encode": encode_s, "search": perf_counter() - start}
        self._metrics.note_stages(took)
        return Found(
            hits[wish.offset : last],
            len(hits) > last,
            best if calibrated and not mixed else None,
            calibrated,
            generation,
            {stage: round(1000 * seconds, 3) for stage, seconds in took.items()},
        )

    def encode(self, picture: bytes, box: Box | None = None) -> NDArray[np.float32]:
        """Encode one picture, or the part of it within a box: (D,) float32, a unit vector."""
        vectors, _, _ = self._encoding.vectors([QueryPicture(picture, box)])
        return vectors[0]

    @staticmethod
    def _descriptor(gallery: Gallery, item_id: str) -> NDArray[np.float32]:
        _known(gallery, item_id)
        return gallery.descriptor(item_id)

    def item(self, item_id: str) -> tuple[Item, int]:
        """Give an item and the gallery's generation.

        Raises:
            UnknownItem: No item has this id.
        """
        gallery = self._gallery
        with gallery._store.reading():
            return _known(gallery, item_id), gallery._store.generation

    def items(self, where: str | None, labels: Sequence[str] | None, offset: int, k: int) -> ItemsPage:
        """Give k of the items that meet a condition and have one of some labels, by row number.

        Raises:
            UsageError: `where` is no condition, or names a column that no item has.
        """
        gallery = self._gallery
        with gallery._store.reading():
            selection = Selection.of(where, None, labels) or Selection()
            numbers = selection.choose(gallery._store).numbers
            page = numbers[offset : offset + k].tolist()
            rows = gallery._store.by_number(page)
            items = [rows[number].item for number in page if number in rows]
            return ItemsPage(items, len(numbers), gallery._store.generation)

    def add(self, picture: bytes, row: NewItem, replace: bool) -> tuple[Item, int]:
        """Save a picture, encode it and add it; gives the item and the new generation.

        Raises:
            ItemExists: The id is taken, and it is not to be replaced.
            PictureError: The picture cannot be read.
            UsageError: The row cannot be stored.
            BusyError: Another process writes to the gallery now.
        """
        vector = self.encode(picture)
        with self._changing:
            item_id = self._uploads.add(self._gallery, picture, vector, row, replace)
        return self.item(item_id)

    def remove(self, item_id: str) -> int:
        """Remove an item, not its picture, and give the new generation.

        Raises:
            UnknownItem: No item has this id.
            BusyError: Another process writes to the gallery now.
        """
        with self._changing:
            if self._gallery.remove([item_id]):
                raise _unknown(self._gallery, item_id)
        with self._gallery._store.reading():
            return self._gallery._store.generation

    def thumbnail(self, item_id: str, side: int) -> Rendered:
        """Render an item's picture small.

        Raises:
            UnknownItem: No item has this id.
            PictureMissing: Its file cannot be read any more.
        """
        return self._pictures.render(self.item(item_id)[0], side)

    def picture(self, item_id: str, side: int, boxed: bool) -> Rendered:
        """Render an item's picture, its long side at most `side` pixels; or the part of it in its box.

        Raises:
            UnknownItem: No item has this id.
            PictureMissing: Its file cannot be read any more.
        """
        return self._pictures.render(self.item(item_id)[0], side, boxed=boxed)

    def explain(self, hit_id: str, query: QueryPicture | str) -> Explanation:
        """Say which regions of an item and of a query make up their score; a text is an item's id.

        Raises:
            UnknownItem: No item has this id.
            PictureMissing: An item's file cannot be read any more.
            PictureError: The query cannot be read.
            ModelError: The scores of this model do not decompose.
        """
        (source, box), (hit, hit_box) = self._side(query), self._side(hit_id)
        return self._explainer.explain(source, hit, boxes=(box, hit_box))

    def explain_png(self, hit_id: str, query: QueryPicture | str) -> bytes:
        """Draw what `explain` gives, as a PNG."""
        from cfcd.explaining.drawing import draw_explanation

        explanation = self.explain(hit_id, query)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "explanation.png"
            names = ("query" if isinstance(query, QueryPicture) else query, hit_id)
            draw_explanation(explanation, self._side(query)[0], self._side(hit_id)[0], path, names=names)
            return path.read_bytes()

    def _side(self, named: QueryPicture | str) -> tuple[PictureSource, Box | None]:
        if isinstance(named, QueryPicture):
            return named.data, named.box
        item, _ = self.item(named)
        return self._pictures.file(item), item.box

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is its path template."""
        self._metrics.count(method, route, status, seconds)

    def metrics(self) -> bytes:
        """Give the metrics in Prometheus' text format."""
        gallery = self._gallery
        with gallery._store.reading():
            self._metrics.note_gallery(len(gallery._store), gallery._store.generation)
        self._metrics.note_queue(self._encoding.waiting)
        return self._metrics.text()


def _known(gallery: Gallery, item_id: str) -> Item:
    stored = gallery._store.find(item_id)
    if stored is None:
        raise _unknown(gallery, item_id)
    return stored.item


def _unknown(gallery: Gallery, item_id: str) -> UnknownItem:
    shown = item_id if len(item_id) <= 80 else f"{item_id[:80]}..."
    return UnknownItem(
        f"{Path(gallery.name).name} holds no item {shown!r}.", "Ask /v1/items which ids there are."
    )


def _brief(calibration: dict[str, Any]) -> dict[str, Any]:
    """Give of a calibration what its readers need: the two scores and what they were measured on."""
    return {
        "match": calibration["match"]["score"],
        "maybe": calibration["maybe"]["score"],
        "items": calibration["items"],
        "made": calibration["made"],
    }
