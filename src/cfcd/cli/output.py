"""What every command prints: results on stdout, chatter and progress on stderr, errors in two sentences."""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cfcd.errors import CfcdError, Interrupted

if TYPE_CHECKING:
    from pathlib import Path

    from cfcd.catalog import Item, Problem
    from cfcd.model import ModelFolder

Command = TypeVar("Command", bound=Callable[..., None])
Advance = Callable[[int, int], None]


def emit(json_value: Any, text: str, as_json: bool) -> None:
    """Print a result to stdout: one JSON document when `as_json`, otherwise the text."""
    print(json.dumps(_finite(json_value), indent=2, default=str) if as_json else text)  # noqa: T201


def emit_model(model: ModelFolder, out: Path, shown: Sequence[str], as_json: bool) -> None:
    """Print what a new model in `out` is, with these facts of its making."""
    training = model.config.training
    found = {
        "path": str(out),
        "name": model.name,
        "identity": model.identity,
        "dim": model.dim,
        "backbone": model.config.network.backbone,
        "scales": model.config.preprocessing.scales,
        "training": training,
    }
    lines = [f"{out}: {model.label}, {model.dim} numbers per picture"]
    lines += [f"  {key.replace('_', ' ')}: {training[key]}" for key in shown if key in training]
    emit(found, "\n".join(lines), as_json)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not know, by null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def one_line(text: str) -> str:
    """Make a label or an id safe for a line of a terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def note(text: str) -> None:
    """Print a line of chatter to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def note_skipped(skipped: Sequence[tuple[Item | str, str]], problems: Sequence[Problem] = ()) -> None:
    """Name what a run left out, a line each on stderr: (item or path, reason) pairs and bad catalog rows."""
    for left_out, reason in skipped:
        note(f"skipped {left_out if isinstance(left_out, str) else left_out.path}: {reason}")
    for problem in problems:
        if problem.fatal:
            place = [problem.file, None if problem.row is None else f"row {problem.row}"]
            note(f"skipped {' '.join(filter(None, place))}: {problem.message}")


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """Show a bar with an estimate of the time left on stderr; stay quiet when stderr is not a terminal.

    Yields:
        A function to call with (done, total).
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def interruptible(command: Command) -> Command:
    """Turn Ctrl-C within a command into an error of ours, before the argument parser swallows it."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            raise Interrupted(
                "Interrupted; what encode and index have finished is kept.",
                "The same command goes on from there.",
            ) from None

    return cast("Command", run)


def guarded(run: Callable[[], None], debug: bool) -> int:
    """Run a command and turn what it raises into an exit code: 2 usage, 1 data, 130 interrupted.

    Args:
        run: The command line application.
        debug: Print the traceback as well.
    """
    try:
        run()
    except CfcdError as error:
        if debug:
            traceback.print_exc()
        note(f"error: {error.what}\n  {error.mend}")
        return error.exit_code
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except BrokenPipeError:
        # The reader (head, less) left early; keep Python from complaining again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.strerror:
            place = f" {error.filename}" if error.filename else ""
            note(f"error: The system refused to read or write{place}: {error.strerror}.")
            note("  Check the path, its permissions and the space of its disk.")
        elif type(error).__module__ == "sqlite3":
            note(f"error: The gallery could not be read or changed: {error}.")
            note("  Check the permissions and the space of its disk; what was finished is kept.")
        else:
            note(f"error: this should not happen: {type(error).__name__}: {error}")
            note("  Run the command with --debug and report what it prints.")
        return 1
    return 0
