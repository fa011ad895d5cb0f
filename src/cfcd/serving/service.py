"""One gallery with its encoder and explainer, for many threads at once; no HTTP in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from cfcd.encoding.encoder import Reading
from cfcd.errors import BusyError, CfcdError
from cfcd.explaining import Explanation
from cfcd.gallery.indexes.upkeep import describe_index
from cfcd.pictures import picture_size
from cfcd.serving.batching import Gate
from cfcd.serving.columns import ColumnsCache
from cfcd.serving.errors import PictureMissing, code_of
from cfcd.serving.holding import HeldGallery, Opened, opener
from cfcd.serving.metrics import Metrics
from cfcd.serving.queries import Found, ItemsPage, NewItem, Query, QueryPicture, Rendered, Wish
from cfcd.serving.searching import Selections, find_item, list_items, look_up, search, state_of, unknown
from cfcd.serving.succession import Holder
from cfcd.serving.thumbnails import Pictures
from cfcd.serving.uploads import Uploads, check_row, default_uploads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfcd.catalog import Box, Item
    from cfcd.gallery import Gallery
    from cfcd.pictures import PictureSource

_Result = TypeVar("_Result")
_WAIT_SECONDS = 10.0
_WAIT_STEP = 0.1
_EXPLAINED_AT_A_TIME = 2


class Service:
    """Search, show, change and explain one gallery; every method may be called from any thread.

    Args:
        holder: Of the gallery; the service closes it.
        uploads: Where pictures of added items go.
        reading: How pictures are read, and what they may cost.
        max_waiting: Requests that may wait for each kind of work; more are refused.
        thumbnail_bytes: What is kept of rendered pictures.
    """

    def __init__(
        self,
        holder: Holder,
        uploads: Uploads,
        *,
        reading: Reading,
        max_waiting: int = 64,
        thumbnail_bytes: int = 64 << 20,
    ) -> None:
        self._holder = holder
        self._uploads = uploads
        self._reading = reading
        self._selections = Selections()
        self._columns = ColumnsCache()
        self._pictures = Pictures(reading, max_bytes=thumbnail_bytes)
        self._rendering = Gate(_EXPLAINED_AT_A_TIME, max_waiting)
        self._explaining = Gate(_EXPLAINED_AT_A_TIME, max_waiting)
        self._changing = threading.Lock()
        self._metrics = Metrics()

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
        """Open a gallery to serve it, and load its model and its index.

        Args:
            gallery: A folder, or milvus://...
            model: A model folder or name of the gallery's identity; by default the gallery's own.
            device: As for `load_model`.
            precision: As for `load_model`.
            reading: How uploaded pictures and those of items are read, and what they may cost.
            uploads: Folder for the pictures of added items; by default beside the gallery.
            workers: Requests whose pictures are decoded or encoded at a time; by default two per core.
            max_waiting: Requests that may wait for each kind of work; more are refused.
            thumbnail_bytes: What is kept of rendered pictures.

        Raises:
            GalleryError: There is no gallery.
            ModelError: Its model cannot be loaded.
            IdentityMismatch: The model is another one than the gallery's.
        """
        reading = reading or Reading()
        open_now = opener(
            gallery,
            model=model,
            device=device,
            precision=precision,
            reading=reading,
            workers=workers,
            max_waiting=max_waiting,
        )
        return cls(
            Holder(open_now),
            Uploads(uploads or default_uploads(str(gallery))),
            reading=reading,
            max_waiting=max_waiting,
            thumbnail_bytes=thumbnail_bytes,
        )

    def close(self) -> None:
        """Let everything go, once the last request is through."""
        self._holder.close()

    def ready(self) -> str | None:
        """Give None when gallery and model are loaded, else one sentence that says what is missing."""
        return "The service is closing." if self._holder.is_closed else None

    @contextmanager
    def _looking_up(self) -> Iterator[Gallery]:
        with self._holder.using() as opened, opened.looking_up.one() as gallery:
            yield gallery

    def describe(self) -> Mapping[str, Any]:
        """Give name, counts, model, index, calibration, columns and labels of the gallery as plain data."""
        with self._looking_up() as gallery:
            items, generation = state_of(gallery)
            calibration = gallery.calibration
            columns = self._columns.of(gallery, gallery.identity, items, generation)
            training = gallery.encoder.model.config.training
            return {
                "name": Path(gallery.name).name,
                "items": items,
                "dim": gallery.dim,
                "model": gallery.model_label,
                "identity": gallery.identity,
                "random_weights": str(training.get("weights", "")).startswith("random"),
                "index": _index(gallery),
                "calibration": None if calibration is None else _brief(calibration.to_json()),
                "generation": generation,
                "columns": [column.to_json() for column in columns.columns],
                "labels": list(columns.labels),
            }

    def search(self, query: Query, wish: Wish) -> Found:
        """Find the items most like what a query shows.

        Raises:
            UsageError: The query is empty, its condition is none, a vector has another size.
            UnknownItem: An item of the query is not in the gallery.
            PictureError: A picture cannot be read.
            Overloaded: Too many requests wait already.
        """
        selection = self._selections.of(wish.where, wish.labels, wish.ids)
        with self._holder.using() as opened:
            if selection is not None and opened.looking_up is not opened.searching:
                # Looked up beside the searches, which find it at hand then: in a large gallery it takes long.
                with opened.looking_up.one() as gallery:
                    look_up(gallery, selection)
            pictures = [*query.pictures, *query.minus_pictures]
            made, read_s, encode_s = self._encode(opened, pictures)
            positives = [*made[: len(query.pictures)], *query.vectors]
            start = perf_counter()
            with opened.searching.one() as gallery:
                answer = search(gallery, query, wish, selection, positives, made[len(query.pictures) :])
        took = {"read": read_s, "encode": encode_s, "search": perf_counter() - start}
        self._metrics.note_stages(took)
        last = wish.offset + wish.k
        return Found(
            answer.hits[wish.offset : last],
            len(answer.hits) > last,
            answer.verdict,
            answer.calibrated,
            answer.generation,
            {stage: round(1000 * seconds, 3) for stage, seconds in took.items()},
        )

    def encode(self, picture: bytes, box: Box | None = None) -> NDArray[np.float32]:
        """Encode one picture, or the part of it within a box: (D,) float32, a unit vector.

        Raises:
            PictureError: It cannot be read.
            Overloaded: Too many requests wait already.
        """
        with self._holder.using() as opened:
            return self._encode(opened, [QueryPicture(picture, box)])[0][0]

    def _encode(
        self, opened: Opened, pictures: Sequence[QueryPicture]
    ) -> tuple[list[NDArray[np.float32]], float, float]:
        try:
            return opened.encoding.vectors(pictures)
        except CfcdError as error:
            self._metrics.refuse(code_of(error))
            raise

    def item(self, item_id: str) -> tuple[Item, int]:
        """Give an item and the gallery's generation.

        Raises:
            UnknownItem: No item has this id.
        """
        with self._looking_up() as gallery:
            return find_item(gallery, item_id)

    def items(self, where: str | None, labels: Sequence[str] | None, offset: int, k: int) -> ItemsPage:
        """Give k of the items that meet a condition and have one of some labels, by row number.

        Raises:
            UsageError: `where` is no condition, or names a column that no item has.
        """
        selection = self._selections.of(where, labels)
        with self._looking_up() as gallery:
            return list_items(gallery, selection, offset, k)

    def add(self, picture: bytes, row: NewItem, replace: bool) -> tuple[Item, int]:
        """Save a picture, encode it and add it; gives the item and the new generation.

        Raises:
            ItemExists: The id is taken, and it is not to be replaced.
            PictureError: The picture cannot be read.
            UsageError: The row cannot be stored.
            BusyError: Another process has been writing to the gallery for some seconds.
        """
        check_row(row)
        made: tuple[Opened, NDArray[np.float32]] | None = None

        def change(opened: Opened, gallery: Gallery) -> tuple[Item, int]:
            nonlocal made
            if made is None or made[0] is not opened:
                made = opened, self._encode(opened, [QueryPicture(picture)])[0][0]
            item_id = self._uploads.add(gallery, picture, made[1], row, replace=replace)
            return find_item(gallery, item_id)

        return self._change(change)

    def remove(self, item_id: str) -> int:
        """Remove an item, not its picture, and give the new generation.

        Raises:
            UnknownItem: No item has this id.
            BusyError: Another process has been writing to the gallery for some seconds.
        """

        def change(_opened: Opened, gallery: Gallery) -> int:
            if gallery.remove([item_id]):
                raise unknown(gallery, item_id)
            return state_of(gallery)[1]

        return self._change(change)

    def _change(self, change: Callable[[Opened, Gallery], _Result]) -> _Result:
        """Make a change, waiting for some seconds until another process is done with its own."""
        until = time.monotonic() + _WAIT_SECONDS
        with self._changing:
            while True:
                # Each time anew: the gallery may have been replaced while the other process had it.
                self._holder.settle()
                try:
                    with self._holder.using() as opened, opened.looking_up.one() as gallery:
                        return change(opened, gallery)
                except BusyError:
                    if time.monotonic() > until:
                        raise
                time.sleep(_WAIT_STEP)

    def thumbnail(self, item_id: str, side: int) -> Rendered:
        """Render an item's picture small.

        Raises:
            UnknownItem: No item has this id.
            PictureMissing: Its file cannot be read any more.
            Overloaded: Too many requests wait already.
        """
        return self.picture(item_id, side, boxed=False)

    def picture(self, item_id: str, side: int, boxed: bool) -> Rendered:
        """Render an item's picture, its long side at most `side` pixels; or the part of it in its box.

        Raises:
            UnknownItem: No item has this id.
            PictureMissing: Its file cannot be read any more.
            Overloaded: Too many requests wait already.
        """
        item, _ = self.item(item_id)
        kept = self._pictures.kept(item, side, boxed=boxed)
        if kept is not None:
            return kept
        with self._rendering.passing():
            return self._pictures.render(item, side, boxed=boxed)

    def size(self, item_id: str) -> tuple[int, int]:
        """Give (width, height) in pixels of an item's upright picture, from its header.

        Raises:
            UnknownItem: No item has this id.
            PictureMissing: Its file cannot be read any more.
        """
        item, _ = self.item(item_id)
        try:
            return picture_size(self._pictures.file(item), limits=self._reading.limits)
        except CfcdError as error:
            raise PictureMissing(error.what, error.mend) from error

    def explain(self, hit_id: str, query: QueryPicture | str) -> Explanation:
        """Say which regions of an item and of a query make up their score; a text is an item's id.

        Raises:
            UnknownItem: No item has this id.
            PictureMissing: An item's file cannot be read any more.
            PictureError: The query cannot be read.
            ModelError: The scores of this model do not decompose.
            Overloaded: Too many requests wait already.
        """
        (source, box), (hit, hit_box) = self._side(query), self._side(hit_id)
        with self._explaining.passing(), self._holder.using() as opened:
            return opened.explainer.explain(source, hit, boxes=(box, hit_box))

    def explain_png(self, hit_id: str, query: QueryPicture | str) -> bytes:
        """Draw what `explain` gives, as a PNG."""
        from cfcd.explaining.drawing import draw_explanation

        explanation = self.explain(hit_id, query)
        names = ("query" if isinstance(query, QueryPicture) else query, hit_id)
        with self._explaining.passing(), TemporaryDirectory() as folder:
            path = Path(folder) / "explanation.png"
            draw_explanation(explanation, self._side(query)[0], self._side(hit_id)[0], path, names=names)
            return path.read_bytes()

    def _side(self, named: QueryPicture | str) -> tuple[PictureSource, Box | None]:
        if isinstance(named, QueryPicture):
            return named.data, named.box
        item, _ = self.item(named)
        return self._pictures.read(item), item.box

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request in the metrics; `route` is its path template."""
        self._metrics.count(method, route, status, seconds)

    def refuse(self, reason: str) -> None:
        """Count an upload that was refused before it came here."""
        self._metrics.refuse(reason)

    def metrics(self) -> bytes:
        """Give the metrics in Prometheus' text format."""
        with self._holder.using() as opened:
            with opened.looking_up.one() as gallery:
                self._metrics.note_gallery(*state_of(gallery))
            self._metrics.note_queue(opened.encoding.waiting)
        return self._metrics.text()


def _index(gallery: Gallery) -> dict[str, Any]:
    if not isinstance(gallery, HeldGallery):
        return {"kind": gallery.info()["index"]}
    with gallery._store.reading():
        return describe_index(gallery.folder, gallery._store, gallery.dim)


def _brief(calibration: dict[str, Any]) -> dict[str, Any]:
    """Give of a calibration what its readers need: the two scores and what they were measured on."""
    return {
        "match": calibration["match"]["score"],
        "maybe": calibration["maybe"]["score"],
        "items": calibration["items"],
        "made": calibration["made"],
    }
