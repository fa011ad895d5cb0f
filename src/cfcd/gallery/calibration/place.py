"""Where a gallery keeps its calibration: in a file beside its store, unless it lies on a server.

A calibration is bound to the gallery's model identity and to the generation it was measured on, and carries
a digest: a damaged one, or one of another gallery, counts as none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cfcd.files import atomic_write
from cfcd.gallery.calibration.thresholds import Calibration, from_text, to_text
from cfcd.gallery.truth.database import state_of

if TYPE_CHECKING:
    from cfcd.gallery.truth.store import Store

FILE = "calibration.json"


class CalibrationPlace(Protocol):
    """Keeps the calibration of one gallery."""

    def read(self, store: Store, identity: str) -> Calibration | None:
        """Give the calibration; None when there is none, or not of this gallery with this model.

        Call it within `store.reading()`.
        """
        ...

    def write(self, calibration: Calibration) -> None:
        """Keep a calibration in the place of the last; it appears whole or not at all."""
        ...


class CalibrationFile:
    """Keeps the calibration in the gallery's folder; it is read again only when its file has changed.

    Args:
        folder: The gallery.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._state: tuple[int, int, int] | None = None
        self._held: Calibration | None = None

    def read(self, store: Store, identity: str) -> Calibration | None:
        """Give the calibration, see `CalibrationPlace`."""
        try:
            state = state_of(self._file)
            if state != self._state:
                self._held, self._state = from_text(self._file.read_bytes()), state
        except OSError:
            self._state = self._held = None
        held = self._held
        if held is None or held.identity != identity or held.generation > store.generation:
            return None
        # A store that was compacted has forgotten the marks of old generations.
        return held if store.token(held.generation).hex() in {held.token, ""} else None

    def write(self, calibration: Calibration) -> None:
        """Write the file."""
        with atomic_write(self._file) as file:
            file.write(f"{to_text(calibration)}\n".encode())
