"""A gallery on a Milvus server: the same calls and the same results as a gallery folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cfcd.catalog import Catalog
from cfcd.encoding.encoder import Encoder, Reading
from cfcd.errors import UsageError
from cfcd.gallery.gallery import Gallery, model_meta
from cfcd.gallery.milvus.address import MilvusAddress
from cfcd.gallery.milvus.calibration import CalibrationNote
from cfcd.gallery.milvus.client import MOST_HITS, MilvusClient
from cfcd.gallery.milvus.notes import only_milvus_writer
from cfcd.gallery.milvus.selection import ChosenThere
from cfcd.gallery.milvus.store import MilvusStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.calibration.place import CalibrationPlace
    from cfcd.gallery.indexes.choice import Choice
    from cfcd.gallery.selection import Chosen
    from cfcd.gallery.truth.store import Store


class MilvusGallery(Gallery):
    """Search, and change, a gallery that lies on a Milvus server; any number of machines may do so.

    Descriptors are rounded to fp16 as in a folder and searched exactly. Searches see all that was
    acknowledged before, on whatever machine; there is one writer at a time.

    Args:
        place: milvus://[user:password@]host[:port]/[database/]collection (see `MilvusGallery.create`).
        encoder: As for `Gallery`.
        device: As for `Gallery`.
        precision: As for `Gallery`.
        reading: As for `Gallery`.

    Raises:
        GalleryError: The server cannot be reached, or the collection is no gallery.
        IdentityMismatch: `encoder` has another identity than the gallery.
        MissingExtra: pymilvus is not installed.
    """

    def __init__(
        self,
        place: str | Path,
        encoder: Encoder | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        reading: Reading | None = None,
    ) -> None:
        self.address = MilvusAddress.parse(place)
        self.name = str(self.address)
        self._milvus = MilvusStore(self.address)
        # It has the methods of a store; the test of MilvusStore holds it to that.
        self._bind(cast("Store", self._milvus), encoder, device, precision, reading)

    @classmethod
    def create(cls, place: str | Path, encoder: Encoder) -> MilvusGallery:
        """Make an empty gallery for the descriptors of an encoder's model, and open it.

        Raises:
            GalleryError: There is a collection of that name, or the server cannot be reached.
        """
        MilvusStore.create(MilvusAddress.parse(place), model_meta(encoder.model))
        return cls(place, encoder)

    @staticmethod
    def exists(place: str | Path) -> bool:
        """Tell whether there is a collection, gallery or not.

        Raises:
            GalleryError: The server cannot be reached.
        """
        address = MilvusAddress.parse(place)
        client = MilvusClient(address)
        try:
            return client.description(address.collection) is not None
        finally:
            client.close()

    @cached_property
    def _calibrations(self) -> CalibrationPlace:
        return CalibrationNote(self._milvus.notes)

    @contextmanager
    def _writing(self) -> Iterator[Store]:
        """Open the store as its only writer."""
        self._milvus.notes.ensure()
        with only_milvus_writer(self._milvus.notes, self.name) as check:
            writer = MilvusStore(self.address, check)
            try:
                yield cast("Store", writer)
            finally:
                writer.close()

    def _nearest(
        self, query: NDArray[np.float32], k: int, chosen: Chosen | None, without: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Search among what the server has chosen itself, without asking which rows these are."""
        if not isinstance(chosen, ChosenThere):
            return super()._nearest(query, k, chosen, without)
        wanted = min(k + len(without), MOST_HITS)
        numbers, scores = self._milvus.nearest(query[None], wanted, chosen.expression)[0]
        keep = ~np.isin(numbers, without)
        return numbers[keep][:k], scores[keep][:k]

    @property
    def _index(self) -> Any:
        return _ServerIndex(self._milvus)

    def choose_index(self, choice: Choice) -> None:  # noqa: ARG002
        """Refuse: the server has an index of its own, which is exact.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{self.name} is searched by its server.", "Leave out the options of an index.")

    def compact(self) -> int:
        """Have the server write its files anew without what was changed or removed, when it finds the time.

        Returns:
            0: how much it will free is not known yet.
        """
        self._milvus.client.compact(self.address.collection)
        return 0

    def contents(self) -> tuple[Catalog, NDArray[np.float32]]:
        """Give the whole gallery: its catalog and (N, D) float32 unit descriptors in the same order."""
        items, vectors = [], []
        for stored, vector in self._milvus.contents():
            items.append(stored.item)
            vectors.append(vector)
        descriptors = np.array(vectors, np.float32).reshape(-1, self.dim)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        place = Path(self.name)
        return Catalog.from_items(items, source=place, root=place, kind="gallery"), descriptors

    def info(self) -> dict[str, Any]:
        """Describe the gallery: counts, model, index, sources."""
        calibration, items = self.calibration, len(self)
        return {
            "kind": "gallery",
            "store": self.name,
            "items": items,
            "labels": self._milvus.label_count(),
            "model": self.model_label,
            "identity": self.identity,
            "dim": self.dim,
            "long_side": self.long_side,
            "scales": list(self.scales),
            "index": _ServerIndex.kind,
            "calibration": None if calibration is None else calibration.summary(items),
            "sources": self._milvus.sources(),
            "skipped": {key: row.reason for key, row in self._milvus.skipped().items()},
        }


class _ServerIndex:
    """What an index of a folder is to its searches; the server keeps it up to date."""

    kind = "exact, on the Milvus server"

    def __init__(self, store: MilvusStore) -> None:
        self._store = store

    def catch_up(self, _store: Store) -> bool:
        """Change nothing."""
        return False

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the k nearest items of each (Q, D) query, as `ExactIndex.search`.

        Raises:
            UsageError: Milvus does not give so many.
        """
        if k > MOST_HITS:
            if len(self._store) > MOST_HITS:
                raise UsageError(f"Milvus gives {MOST_HITS:,} hits at most, not {k:,}.", "Ask for fewer.")
            k = MOST_HITS
        where = "" if allowed is None else f"number in {[int(number) for number in allowed]}"
        return self._store.nearest(queries, k, where)
