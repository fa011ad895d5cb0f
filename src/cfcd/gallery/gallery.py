"""The gallery: a folder of descriptors, items and a search index, bound to one model identity."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Catalog
from cfcd.encoding.encoder import Encoder, Reading
from cfcd.errors import GalleryError, IdentityMismatch, ModelError
from cfcd.files import is_free
from cfcd.gallery.changing import Changing
from cfcd.gallery.indexes.choice import AUTO, Choice, read_choice, write_choice
from cfcd.gallery.indexes.search_index import SearchIndex, make_index
from cfcd.gallery.indexes.upkeep import describe_index, index_in_memory, keep_index
from cfcd.gallery.searching import Searching
from cfcd.gallery.truth.healing import healing
from cfcd.gallery.truth.store import Store
from cfcd.model import ModelFolder, find_model

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Gallery(Searching, Changing):
    """Search, and change, the descriptors of a picture collection.

    Searches always see one whole generation; a change by another process is noticed at the next search.

    Args:
        folder: A gallery folder (see `Gallery.create`).
        encoder: Encodes queries; by default the model the gallery was made with.
        device: Where the default encoder runs.
        precision: "auto", "bf16" or "fp32" for the default encoder.
        reading: How the default encoder reads pictures.

    Raises:
        GalleryError: The folder holds no gallery, or a damaged one.
        IdentityMismatch: `encoder` has another identity than the gallery.
    """

    def __init__(
        self,
        folder: str | Path,
        encoder: Encoder | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        reading: Reading | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.name = str(folder)
        self._bind(Store(self.folder), encoder, device, precision, reading)

    def _bind(
        self, store: Store, encoder: Encoder | None, device: str, precision: str, reading: Reading | None
    ) -> None:
        """Take over a store and what it says of the model."""
        self._store = store
        self.identity = self._store.meta("identity")
        self.model_label = self._store.meta("model")
        self.dim = int(self._store.meta("dim"))
        self.long_side: int | None = json.loads(self._store.meta("long_side"))
        self.scales: tuple[float, ...] = tuple(json.loads(self._store.meta("scales")))
        self._device, self._precision, self._reading = device, precision, reading
        self._held_index: SearchIndex | None = None
        if encoder is not None:
            self.use(encoder)

    @classmethod
    def create(cls, folder: str | Path, encoder: Encoder) -> Gallery:
        """Make an empty gallery for the descriptors of an encoder's model, and open it.

        Raises:
            GalleryError: The folder holds something already.
        """
        folder = Path(folder)
        if not is_free(folder):
            raise GalleryError(f"{folder} exists and is not empty.", "Give a new or empty folder.")
        Store.create(folder, model_meta(encoder.model))
        return cls(folder, encoder)

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Tell whether a folder is a gallery."""
        return Store.exists(Path(folder))

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def __len__(self) -> int:
        with self._store.reading():
            return len(self._store)

    @cached_property
    def encoder(self) -> Encoder:
        """Load the model the gallery was made with.

        Raises:
            ModelError: It is not where it was.
            IdentityMismatch: The model there has changed.
        """
        model = self.with_its_preprocessing(self.stored_model())
        self._check_model(model)
        return Encoder(model, self._device, self._precision, self._reading)

    def use(self, encoder: Encoder) -> None:
        """Encode queries and new pictures with this encoder from now on.

        Raises:
            IdentityMismatch: It makes other descriptors than the gallery holds.
        """
        self._check_model(encoder.model)
        self.encoder = encoder

    def stored_model(self) -> ModelFolder:
        """Find the model the gallery was made with, by the name or folder it had then.

        Raises:
            ModelError: It is not there any more.
        """
        try:
            return find_model(self._store.meta("model_reference"))
        except ModelError as error:
            raise ModelError(
                f"The model of {self.name}, {self.model_label}, cannot be loaded: {error.what}",
                "Name the folder it is in now with --model.",
            ) from error

    def with_its_preprocessing(self, model: ModelFolder) -> ModelFolder:
        """Give a model with the size limit and scales the gallery was made with."""
        return model.with_preprocessing(long_side=self.long_side, scales=self.scales)

    def _check_identity(
        self, identity: str, label: str, long_side: int | None, scales: Iterable[float]
    ) -> None:
        if identity != self.identity:
            own, other = _settings(self.long_side, self.scales), _settings(long_side, scales)
            raise IdentityMismatch(
                f"{self.name} holds descriptors of {self.model_label} ({own}), "
                f"and {label} ({other}) makes others.",
                "Use the model, --size and --scales of the gallery, or index into a new folder.",
            )

    def _check_model(self, model: ModelFolder) -> None:
        preprocessing = model.config.preprocessing
        self._check_identity(model.identity, model.label, preprocessing.long_side, preprocessing.scales)

    def choose_index(self, choice: Choice) -> None:
        """Choose how items are searched from now on; the index is built anew when that changes it.

        Raises:
            UsageError: The choice contradicts itself.
            MissingExtra: It needs a package that is not installed.
            BusyError: Another process writes to the gallery now.
        """
        if choice.kind != AUTO:
            make_index(choice.spec(choice.kind, self.dim), self.dim)  # what cannot be had is not chosen
        with self._writing() as writer:
            if replace(read_choice(writer), chosen=None) != replace(choice, chosen=None):
                with writer.changing():
                    write_choice(writer, choice)

    def _save_index(self, store: Store) -> None:
        keep_index(self.folder, store, self.dim)

    @property
    def _index(self) -> SearchIndex:
        """Give the index to search with; within `reading`, as it may be read from the folder anew."""
        self._held_index = index_in_memory(self.folder, self._store, self.dim, self._held_index)
        return self._held_index

    @healing
    def contents(self) -> tuple[Catalog, NDArray[np.float32]]:
        """Give the whole gallery: its catalog and (N, D) float32 unit descriptors in the same order."""
        with self._store.reading():
            stored = list(self._store.items())
            descriptors = np.empty((len(stored), self.dim), np.float32)
            done = 0
            for _, vectors in self._store.descriptors_above(0, self.dim):
                descriptors[done : done + len(vectors)] = vectors
                done += len(vectors)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        folder = self.folder.absolute()
        items = [one.item for one in stored]
        catalog = Catalog.from_items(items, source=folder, root=folder, kind="gallery")
        return catalog, descriptors

    @healing
    def shared_pictures(self) -> tuple[int, list[str]]:
        """Count pictures that were indexed from several folders or tables; gives these too."""
        with self._store.reading():
            sources = list(self._store.sources())
            return (self._store.shared_pictures() if len(sources) > 1 else 0), sources

    @healing
    def info(self) -> dict[str, Any]:
        """Describe the gallery: counts, model, index, calibration, sources, bytes on disk."""
        with self._store.reading():
            calibration = self.calibration
            return {
                "kind": "gallery",
                "folder": str(self.folder),
                "items": len(self._store),
                "labels": self._store.label_count(),
                "model": self.model_label,
                "identity": self.identity,
                "dim": self.dim,
                "long_side": self.long_side,
                "scales": list(self.scales),
                "index": describe_index(self.folder, self._store, self.dim),
                "calibration": None if calibration is None else calibration.summary(len(self._store)),
                "generation": self._store.generation,
                "sources": self._store.sources(),
                "skipped": {key: row.reason for key, row in self._store.skipped().items()},
                "bytes": self._bytes(),
            }


def model_meta(model: ModelFolder) -> dict[str, str]:
    """Give what a store keeps of the model that its descriptors are made with."""
    preprocessing = model.config.preprocessing
    return {
        "identity": model.identity,
        "model": model.label,
        "model_reference": model.reference,
        "dim": str(model.dim),
        "long_side": json.dumps(preprocessing.long_side),
        "scales": json.dumps(preprocessing.scales),
    }


def _settings(long_side: int | None, scales: Iterable[float]) -> str:
    size = "original size" if long_side is None else f"{long_side} px"
    return f"{size}, scales {','.join(f'{scale:g}' for scale in scales)}"
