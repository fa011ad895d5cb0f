"""The one OpenVINO core of a process."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

_lock = Lock()
_cores: list[openvino.Core] = []


def openvino_core() -> openvino.Core:
    """Give the core that lasts as long as the process.

    OpenVINO's CPU plugin gives the thread that makes a core another stack for signal handlers, and unmaps it
    with the core. When cores end in another order or thread than they began, the kernel is left with a stack
    that is gone: the next Ctrl-C is a segmentation fault (OpenVINO 2026.4). So no core may end.
    """
    with _lock:
        if not _cores:
            import openvino

            _cores.append(openvino.Core())
        return _cores[0]
