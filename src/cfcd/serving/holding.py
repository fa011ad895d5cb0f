"""The served gallery: opened several times for many threads, with its model and its index in memory."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from cfcd.encoding.encoder import Encoder, Reading
from cfcd.explaining import Explainer
from cfcd.gallery import Gallery
from cfcd.gallery.calibration.thresholds import Calibration
from cfcd.gallery.opening import gallery_class
from cfcd.gallery.truth.store import Store
from cfcd.model import find_model
from cfcd.serving.batching import Encoding
from cfcd.serving.errors import NotReady

_LOOKUPS = 3
_TRIES = 20


class HeldStore(Store):
    """Read a gallery's truth, and stay with the folder that was opened when another takes its name.

    Its files stay readable while they are open, also when their folder is deleted.
    """

    def __init__(self, folder: Path) -> None:
        self._there = _state_of(folder)
        self._identity: str | None = None
        super().__init__(folder)

    def _open(self) -> None:
        super()._open()
        identity = self.meta("identity")
        if self._identity not in (None, identity):
            self._there = None
            raise self._lost()
        self._identity = identity

    @property
    def has_moved(self) -> bool:
        """Tell whether the folder that was opened has lost its name."""
        return self._there is None or _state_of(self.folder) != self._there

    def _lost(self) -> NotReady:
        return NotReady(f"{self.folder.name} is of another model now.", "Try again in a moment.")

    def _is_replaced(self) -> bool:
        if self._there is None:
            raise self._lost()
        return super()._is_replaced() and not self.has_moved


class HeldGallery(Gallery):
    """Read a gallery folder, also when another one has taken its name."""

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
        self._held = HeldStore(self.folder)
        self._bind(self._held, encoder, device, precision, reading)
        self._thresholds: Calibration | None = None

    @property
    def calibration(self) -> Calibration | None:
        """Give the thresholds; once another folder has the name, those from before."""
        if not self.has_moved:
            self._thresholds = super().calibration
        return self._thresholds

    @property
    def has_moved(self) -> bool:
        """Tell whether the folder that was opened has lost its name."""
        return self._held.has_moved


def _state_of(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Pool:
    """Lend galleries, each to one thread at a time."""

    def __init__(self, galleries: Sequence[Gallery]) -> None:
        self._free: queue.LifoQueue[Gallery] = queue.LifoQueue()
        for gallery in galleries:
            self._free.put(gallery)

    @contextmanager
    def one(self) -> Iterator[Gallery]:
        """Wait for a gallery, and have it alone during the block."""
        gallery = self._free.get()
        try:
            yield gallery
        finally:
            self._free.put(gallery)


class Opened:
    """One gallery ready to be searched: its model and its index are in memory.

    A folder is opened once for searches, which share the index and come one after another, and a few times
    for what needs only a row or two and should not wait for them. Searches of a server run side by side.

    Args:
        galleries: The same gallery, opened several times.
        encoding: With the gallery's model.
        explainer: Likewise.
    """

    def __init__(self, galleries: Sequence[Gallery], encoding: Encoding, explainer: Explainer) -> None:
        self.gallery = galleries[0]
        self.encoding = encoding
        self.explainer = explainer
        self._galleries = galleries
        folder = isinstance(self.gallery, HeldGallery)
        self.searching = Pool(galleries[:1] if folder else galleries)
        self.looking_up = Pool(galleries[1:]) if folder else self.searching
        self.users = 0
        self.is_retired = False

    @property
    def has_moved(self) -> bool:
        """Tell whether a gallery of this name would be another one now."""
        return any(isinstance(one, HeldGallery) and one.has_moved for one in self._galleries)

    def close(self) -> None:
        """Close everything."""
        for gallery in self._galleries:
            gallery.close()


class Opener(Protocol):
    """Open a gallery for serving, given what is open now."""

    def __call__(self, before: Opened | None) -> Opened:  # noqa: D102 (said above)
        ...


def opener(
    place: str | Path,
    *,
    model: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    reading: Reading | None = None,
    workers: int | None = None,
    max_waiting: int = 64,
) -> Opener:
    """Make what opens a gallery, with the model it has then; see `Service.open` for the arguments."""

    def galleries(encoder: Encoder | None) -> list[Gallery]:
        kind: Callable[..., Gallery] = gallery_class(place)
        kind = HeldGallery if kind is Gallery else kind
        opened: list[Gallery] = []
        try:
            first = kind(place, device=device, precision=precision, reading=reading)
            opened.append(first)
            if encoder is not None and encoder.identity == first.identity:
                first.use(encoder)
            elif model is not None:
                chosen = first.with_its_preprocessing(find_model(model))
                first.use(Encoder(chosen, device, precision, reading))
            opened += [kind(place, first.encoder) for _ in range(_LOOKUPS)]
        except BaseException:
            for one in opened:
                one.close()
            raise
        return opened

    def open_now(before: Opened | None) -> Opened:
        for _ in range(_TRIES):
            opened = galleries(None if before is None else before.encoding.encoder)
            if not any(isinstance(one, HeldGallery) and one.has_moved for one in opened):
                break
            # Another folder took the name between one opening and the next.
            for one in opened:
                one.close()
        try:
            first = opened[0]
            if before is not None and first.encoder is before.encoding.encoder:
                encoding, explainer = before.encoding, before.explainer
            else:
                encoding = Encoding(first.encoder, workers=workers, max_waiting=max_waiting)
                explainer = Explainer(first.encoder)
            # The first search loads the index.
            first.search_vector(np.eye(1, first.dim, dtype=np.float32)[0], 1)
        except BaseException:
            for one in opened:
                one.close()
            raise
        return Opened(opened, encoding, explainer)

    return open_now
