"""`cfcd evaluate-landmarks`: retrieval and recognition on Google Landmarks v2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import AllowTruncated, Device, Json, ModelName, Precision, Scales, Size

_NEIGHBOURS = 5


def evaluate_landmarks(
    task: Annotated[str, typer.Argument(metavar="TASK", help="retrieval or recognition.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Folder of the dataset: index/, train/, test/, their tables and the solutions.",
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="What is searched: pictures, a folder made by cfcd encode, or X.npy with ids in X.txt.",
            show_default="DATA/index.csv, DATA/index; or DATA/train_clean.csv, DATA/train.csv",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="What searches, like --gallery.", show_default="DATA/test.csv, DATA/test"),
    ] = None,
    solution: Annotated[
        Path | None, typer.Option(help="The right answers.", show_default="DATA/TASK_solution_v2.1.csv")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="train_clean.csv or train.csv, for a gallery that does not know its landmarks."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", min=1, help="Neighbours that vote in recognition.", show_default=str(_NEIGHBOURS)
        ),
    ] = None,
    vote: Annotated[
        str | None,
        typer.Option(
            help="sum of a landmark's similarities, or their max, in recognition.", show_default="sum"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.json, queries.csv, and the descriptors of pictures."),
    ] = None,
    model: ModelName = None,
    size: Size = None,
    scales: Scales = None,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Measure on Google Landmarks v2: mAP@100 of retrieval, or GAP of recognition.

    Public, Private and all queries are given apart; those that the solution ignores are left out.
    Encoding goes on where it was stopped when the command is run again.

    \b
    cfcd evaluate-landmarks retrieval gldv2/ --model runs/mine --out report/
    cfcd evaluate-landmarks recognition gldv2/ --model runs/mine --out report/ --k 10
    cfcd evaluate-landmarks retrieval gldv2/ --gallery index.npy --queries test.npy
    """
    from cfcd.cli.options import make_encoder
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.errors import UsageError
    from cfcd.evaluation.landmarks_v2 import VOTES
    from cfcd.evaluation.landmarks_v2_run import TASKS, needs_model
    from cfcd.evaluation.landmarks_v2_run import evaluate_landmarks as run_evaluation

    chosen = next((name for name in TASKS if name == task), None)
    if chosen is None:
        raise UsageError(f"TASK {task!r} is unknown.", f"Write {' or '.join(TASKS)}.")
    rule = next((name for name in VOTES if name == (vote or VOTES[0])), None)
    if rule is None:
        raise UsageError(f"--vote {vote!r} is unknown.", f"Write {' or '.join(VOTES)}.")
    if chosen == "retrieval":
        _refuse({"--k": k, "--vote": vote, "--labels": labels}, "is for recognition")
    encoder = None
    if needs_model(chosen, data, gallery, queries):
        encoder = make_encoder(model, size, scales, device, precision, allow_truncated)
    else:
        named = {"--model": model, "--size": size, "--scales": scales, "--allow-truncated": allow_truncated}
        named |= {"--device": device != "auto", "--precision": precision != "auto"}
        _refuse(named, "has no effect, since gallery and queries hold descriptors already")
    evaluation = run_evaluation(
        chosen,
        data,
        gallery=gallery,
        queries=queries,
        solution=solution,
        labels=labels,
        model=encoder,
        out=out,
        k=k or _NEIGHBOURS,
        vote=rule,
        progress=progress,
    )
    note_skipped(evaluation.skipped, evaluation.problems)
    text = evaluation.report.summary()
    if out is not None:
        text += "\nwrote " + ", ".join(str(file) for file in evaluation.write(out))
    emit(evaluation.to_json(), text, as_json)


def _refuse(options: Mapping[str, object], reason: str) -> None:
    """Raise UsageError when one of the options is given."""
    from cfcd.errors import UsageError

    if idle := [option for option, value in options.items() if value]:
        raise UsageError(f"{idle[0]} {reason}.", "Leave it out.")
