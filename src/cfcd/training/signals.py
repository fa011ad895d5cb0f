"""Stopping between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopAsked:
    """Tell whether the user or the system has asked the run to stop."""

    asked = False


@contextmanager
def stop_between_steps(wanted: bool = True) -> Iterator[StopAsked]:
    """Turn the first SIGINT or SIGTERM within the block into a wish; the second one interrupts at once.

    Args:
        wanted: Leave the signals alone when False: processes that train together would stop apart.
    """
    stop = StopAsked()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
