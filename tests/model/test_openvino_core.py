from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cfcd.model.openvino_core import openvino_core
from tests.conftest import REPOSITORY

_TWO_ENCODERS = """
import faulthandler, gc, os, signal
from cfcd.encoding import load_model
from tests.support import make_photo

faulthandler.enable()  # as pytest and notebooks do: signals are then handled on a stack of their own
first, second = load_model(), load_model()
for encoder in (first, second):
    encoder.encode(make_photo(0, (64, 64)))
del encoder, first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="needs POSIX signals")
def test_signals_survive_encoders_that_end_in_the_order_they_began() -> None:
    """A core for each of them is a segmentation fault here."""
    done = subprocess.run(
        [sys.executable, "-c", _TWO_ENCODERS], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_threads_share_one_core() -> None:
    with ThreadPoolExecutor(8) as pool:
        cores = list(pool.map(lambda _: openvino_core(), range(32)))
    assert all(core is cores[0] for core in cores)
