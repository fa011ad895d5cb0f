"""Which gallery is served: the one of this name, and without a gap the next one of it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cfcd.errors import CfcdError
from cfcd.serving.errors import NotReady
from cfcd.serving.holding import Opened, Opener

_LOG = logging.getLogger("cfcd.serving")
_AGAIN_SECONDS = 0.5
_TRIES = 20
_TRY_SECONDS = 0.1


class Holder:
    """Hold the gallery that is served; its successor is opened beside it, and takes over when it is ready.

    Args:
        open_now: Opens it.

    Raises:
        CfcdError: It cannot be opened.
    """

    def __init__(self, open_now: Opener) -> None:
        self._open_now = open_now
        self._lock = threading.Lock()
        self._now = open_now(None)
        self._opening: threading.Thread | None = None
        self._not_before = 0.0
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing is served any more."""
        return self._is_closed

    @contextmanager
    def using(self) -> Iterator[Opened]:
        """Have the gallery during the block; it stays open as long.

        Raises:
            NotReady: The service is closing.
        """
        with self._lock:
            if self._is_closed:
                raise NotReady("The service is closing.", "Try again in a moment.")
            self._follow()
            opened = self._now
            opened.users += 1
        try:
            yield opened
        finally:
            self._leave(opened)

    def _leave(self, opened: Opened) -> None:
        with self._lock:
            opened.users -= 1
            over = opened.is_retired and opened.users == 0
        if over:
            opened.close()

    def _follow(self) -> None:
        """Begin to open the successor if there is one; the lock is held."""
        if self._now.has_moved and self._opening is None and time.monotonic() >= self._not_before:
            self._opening = threading.Thread(target=self._succeed, args=(self._now,), name="reopen")
            self._opening.start()

    def _succeed(self, before: Opened) -> None:
        following: Opened | None = None
        try:
            following = self._open_now(before)
            _LOG.info("%s was replaced: %d items now", before.gallery.name, len(following.gallery))
        except (CfcdError, OSError, sqlite3.Error) as error:
            _LOG.warning("%s was moved, and cannot be opened again: %s", before.gallery.name, error)
        with self._lock:
            self._opening = None
            self._not_before = time.monotonic() + _AGAIN_SECONDS
            if following is None:
                return
            retired = following if self._is_closed else before
            if not self._is_closed:
                self._now = following
            retired.is_retired = True
            over = retired.users == 0
        if over:
            retired.close()

    def settle(self) -> None:
        """Wait until the gallery is the one that has the name now; changes are made to that one.

        Raises:
            NotReady: There is none now.
        """
        for _ in range(_TRIES):
            with self.using() as opened:
                moved = opened.has_moved
                opening = self._opening
            if not moved:
                return
            if opening is not None:
                opening.join()
            else:
                time.sleep(_TRY_SECONDS)
        raise NotReady("The gallery is being replaced.", "Try again in a moment.")

    def close(self) -> None:
        """Close the gallery once nobody uses it."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            opening, retired = self._opening, self._now
            retired.is_retired = True
            over = retired.users == 0
        if over:
            retired.close()
        if opening is not None:
            opening.join()
