"""A script: train, be killed with SIGKILL, resume, again and again until the run is done.

Every attempt is a process of its own, forked before torch has started a thread: imports are paid for once.

Arguments: DATA FOLDER. Makes three runs by one recipe: FOLDER/straight/run in one go, FOLDER/placed/run with
kills at chosen places, FOLDER/random/run with kills at random times. Prints the kills as a JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from cfcd.model import saving
from cfcd.training import loop, passes, run
from tests.training.runs.run_support import METRIC, cut_at, make_thin

# What a run imports when it needs it.
_LATER = (
    "torch._inductor",
    "torch.utils.tensorboard",
    "onnx",
    "openvino",
    "cfcd.model.export",
)
RANDOM_KILLS = 6

Arrange = Callable[[], None]


def kill() -> NoReturn:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def instead_of(
    owner: Any, name: str, *, when: Callable[..., bool] = lambda *_: True, call: int = 1
) -> Arrange:
    """Kill in place of the n-th call of a function that meets a condition."""

    def arrange() -> None:
        right, calls = getattr(owner, name), [0]

        def instead(*arguments: Any, **options: Any) -> Any:
            calls[0] += when(*arguments)
            if calls[0] == call:
                kill()
            return right(*arguments, **options)

        setattr(owner, name, instead)

    return arrange


def half_a_checkpoint() -> None:
    """Kill while the second checkpoint is being written."""
    right, calls = torch.save, [0]

    def instead(values: Any, file: Any) -> None:
        calls[0] += 1
        if calls[0] == 2:
            file.write(b"PK" * 100_000)
            file.flush()
            kill()
        right(values, file)

    torch.save = instead  # type: ignore[assignment]


PLACES: dict[str, dict[str, Any]] = {
    "before the first step": {"label": "looking at the pictures"},
    "in a step": {"label": "coarse", "call": 2},
    "between a step's row and its checkpoint": {"arrange": instead_of(loop, "save_checkpoint", call=2)},
    "while a checkpoint is written": {"arrange": half_a_checkpoint},
    "before a written checkpoint gets its name": {
        "arrange": instead_of(Path, "replace", when=lambda _, to: to.name == "checkpoint.pt", call=2)
    },
    "in mining": {"label": "mining"},
    "before the mined classes are written": {"arrange": instead_of(passes, "save_mined")},
    "in a step of the fine phase": {"label": "fine", "call": 1},
    "while the model is written": {"arrange": instead_of(saving, "write_files")},
    "between the model and the curves": {"arrange": instead_of(run, "draw_curves")},
    "before the summary is written": {"arrange": instead_of(run, "write_json")},
}


def attempt(
    data: Path,
    out: Path,
    *,
    arrange: Arrange | None = None,
    label: str = "",
    call: int = 1,
    seconds: float = 0,
) -> bool:
    """Train in a process of its own until it is done or killed; tell whether it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if arrange:
                arrange()
            # After this much time of the processor, which is steadier than the clock. Nobody handles SIGPROF:
            # it ends the process as abruptly as SIGKILL.
            signal.setitimer(signal.ITIMER_PROF, seconds)
            progress = cut_at(label, call, kill) if label else None
            run.train(data, out, options=METRIC, resume=True, progress=progress)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended not in (0, -signal.SIGKILL, -signal.SIGPROF):
        raise SystemExit(f"An attempt ended with {ended}.")
    return ended != 0


def main(data: Path, folder: Path) -> None:
    """Make the three runs."""
    for name in _LATER:
        importlib.import_module(name)
    make_thin(setattr)
    run.draw_curves = lambda _: Path()  # takes as long as all the rest
    attempt(data, folder / "straight" / "run")
    length = resource.getrusage(resource.RUSAGE_CHILDREN)

    killed = [name for name, how in PLACES.items() if attempt(data, folder / "placed" / "run", **how)]
    attempt(data, folder / "placed" / "run")

    rng, moments = random.Random(0), []
    for number in range(RANDOM_KILLS):
        # Anywhere in the run first, then in what is left: at least the end, which is a third.
        share = rng.uniform(0.03, 0.2) if number else rng.uniform(0.2, 0.6)
        moment = share * (length.ru_utime + length.ru_stime)
        if attempt(data, folder / "random" / "run", seconds=moment):
            moments.append(moment)
    attempt(data, folder / "random" / "run")
    print(json.dumps({"planned": list(PLACES), "killed": killed, "moments": moments}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
