"""The calibration of a gallery on a Milvus server, kept in a note beside its collection."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from cfcd.gallery.calibration.thresholds import Calibration, from_text, to_text

if TYPE_CHECKING:
    from cfcd.gallery.milvus.notes import MilvusNotes
    from cfcd.gallery.truth.store import Store

NOTE = "calibration"
# Every search asks for it, and every question to the server takes up to a tick of its clock.
FRESH_SECONDS = 10.0


class CalibrationNote:
    """Keeps the calibration among a gallery's notes; one of another process is seen within 10 seconds.

    Args:
        notes: The gallery's notes.
    """

    def __init__(self, notes: MilvusNotes) -> None:
        self._notes = notes
        self._held: Calibration | None = None
        self._asked: float | None = None

    def read(self, store: Store, identity: str) -> Calibration | None:
        """Give the calibration, see `CalibrationPlace`; not that of a collection that was dropped."""
        if self._asked is None or time.monotonic() - self._asked > FRESH_SECONDS:
            text = self._notes.get(NOTE)
            self._held, self._asked = (None if text is None else from_text(text)), time.monotonic()
        held = self._held
        if held is None or held.identity != identity or held.token != store.token(0).hex():
            return None
        return held

    def write(self, calibration: Calibration) -> None:
        """Write the note; generations are counted by each process for itself, and mean nothing in it."""
        self._notes.ensure()
        self._notes.put({NOTE: to_text(replace(calibration, generation=0))})
        self._asked = None
