"""The log of a training run: one JSON object per line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cfcd.errors import TrainingError
from cfcd.files import atomic_write
from cfcd.model.extras import need

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
_SECONDS_TO_FLUSH = 10  # a killed run loses this much of its TensorBoard events at most

Value = float | int | str | None


class MetricsLog:
    """Write what a run measures to `metrics.jsonl` and, if wanted, to TensorBoard events.

    Each row is on its way to the disk when `write` returns: a killed process loses none, at most it leaves a
    torn last line. A resumed run takes up the file where its checkpoint stands: later rows are dropped, in
    TensorBoard too, and so is a torn last line. To be used by one process at a time, as a context manager.

    Args:
        folder: Folder of the run; made if missing.
        after_step: Step of the checkpoint a run goes on from; rows up to it are kept. 0 starts anew.
        measured: How many rows with an mAP the checkpoint knows of; later ones of its step are dropped: the
            last measuring of a run comes after its last step. None: all.
        tensorboard: Write events to the folder `tensorboard` as well.

    Raises:
        MissingExtra: if events are wanted and the packages for them are not installed.
        TrainingError: if the file to go on with is damaged before its last line.
    """

    def __init__(
        self, folder: Path, *, after_step: int = 0, measured: int | None = None, tensorboard: bool = True
    ) -> None:
        folder = Path(folder)
        if tensorboard:
            # Before anything is touched.
            need("torch", "Writing TensorBoard events")
            need("tensorboard", "Writing TensorBoard events")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS_FILE
        rows = read_metrics(folder) if after_step and path.exists() else []
        with atomic_write(path) as file:
            file.writelines(_line(row) for row in _kept(rows, after_step, measured))
        self._events: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # Events of an earlier run stay on disk; TensorBoard hides those from the purged step on.
            purged = after_step + 1 if after_step else 0
            self._events = SummaryWriter(
                str(folder / TENSORBOARD_FOLDER), purge_step=purged, flush_secs=_SECONDS_TO_FLUSH
            )
        self._file = path.open("ab")

    def write(self, row: Mapping[str, Value]) -> None:
        """Write one row; what is not finite becomes null.

        In TensorBoard the numbers of a training row are "training/KEY", those of a row that has an mAP
        "monitor/KEY/OF", with OF the row's "of".

        Args:
            row: Has "step", a whole number; the values are numbers, words or None.
        """
        step = row["step"]
        if not isinstance(step, int):
            raise TypeError(f"step is no whole number: {step!r}")
        finite = {key: None if _is_broken(value) else value for key, value in row.items()}
        self._file.write(_line(finite))
        self._file.flush()
        if self._events is None:
            return
        group, of = ("monitor", f"/{row.get('of') or 'test'}") if "mAP" in row else ("training", "")
        for key, value in finite.items():
            if key != "step" and isinstance(value, int | float):
                self._events.add_scalar(f"{group}/{key}{of}", value, step)

    def close(self) -> None:
        """Write out everything and close the files; twice does no harm."""
        self._file.close()
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of a run in the order they were written; each has a whole number as "step".

    A last line that is cut off, as a killed run leaves it, is left out.

    Raises:
        TrainingError: if there is no such file, or another line is damaged.
    """
    path = Path(folder) / METRICS_FILE
    try:
        *lines, unfinished = path.read_bytes().split(b"\n")
    except OSError as error:
        raise TrainingError(
            f"The log {path} cannot be read ({error.strerror}).",
            "Name the folder of a training run.",
        ) from error
    rows = []
    for number, line in enumerate(lines, 1):
        row = _parsed(line)
        if row is None:
            raise TrainingError(
                f"Line {number} of {path} is no row of a training log.",
                "Delete that line, or the whole file: models and checkpoints do not depend on it.",
            )
        rows.append(row)
    last = _parsed(unfinished)
    return rows if last is None else [*rows, last]


def _kept(rows: list[dict[str, Any]], after_step: int, measured: int | None) -> Iterator[dict[str, Any]]:
    """Choose the rows that a run has behind it."""
    seen = 0
    for row in rows:
        seen += "mAP" in row
        if row["step"] <= after_step and ("mAP" not in row or measured is None or seen <= measured):
            yield row


def _line(row: Mapping[str, Value]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except ValueError:
        return None
    right = isinstance(row, dict) and isinstance(row.get("step"), int)
    return row if right else None


def _is_broken(value: Value) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
