"""`cfcd evaluate`: how well pictures find their own kind, on labelled data or by a published benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfcd.cli.options import AllowTruncated, Device, Json, ModelName, Precision, Scales, Size

_OF_BENCHMARKS = {"--queries", "--database", "--ground-truth", "--distractors", "--no-crop", "--normalise"}
_OF_PICTURES = {
    *("--model", "--size", "--scales", "--root"),
    *("--device", "--precision", "--allow-truncated"),
}
_WORST = 20


def evaluate(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help=(
                "Pictures: a folder (one sub-folder per object, or flat), a CSV or Parquet table, a text "
                "list; a gallery; a folder made by cfcd encode; or a benchmark: roxford5k, rparis6k."
            ),
            show_default=False,
        ),
    ] = None,
    model: ModelName = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the report, the worst queries as pictures, and the descriptors."),
    ] = None,
    worst: Annotated[
        int | None,
        typer.Option(min=1, help="Queries shown in the pictures of --out.", show_default=str(_WORST)),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that relative paths in a table start from; of a benchmark the one with jpg/.",
            show_default="the table's own",
        ),
    ] = None,
    distractors: Annotated[
        Path | None,
        typer.Option(help="Benchmark: more images to search: made by cfcd encode, .npy, or pictures."),
    ] = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option(help="Benchmark: its ground truth.", show_default="gnd_DATA.pkl in --root"),
    ] = None,
    no_crop: Annotated[
        bool,
        typer.Option("--no-crop", help="Benchmark: whole queries, not their boxes (of descriptors: say so)."),
    ] = False,
    queries: Annotated[
        Path | None, typer.Option(help="Benchmark from descriptors: .npy with one row per query.")
    ] = None,
    database: Annotated[
        Path | None, typer.Option(help="Benchmark from descriptors: .npy with one row per image.")
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Divide rows of --queries and --database by their lengths.")
    ] = False,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Search with pictures that are turned, cropped, blurred and so on, at graded levels.",
        ),
    ] = False,
    size: Size = None,
    scales: Scales = None,
    device: Device = "auto",
    precision: Precision = "auto",
    allow_truncated: AllowTruncated = False,
    as_json: Json = False,
) -> None:
    """Measure retrieval on labelled pictures: mAP, mAP@R, R@1/5/10 in percent, and per class.

    With splits train and test (or query and gallery) the one searches the other; otherwise every
    picture searches all others. Pictures without a label count as wrong hits.

    DATA roxford5k or rparis6k (Revisited Oxford and Paris): mAP and mP@1/5/10, Easy, Medium, Hard, by
    the images in --root or by descriptors of any method.

    \b
    cfcd evaluate photos/
    cfcd evaluate catalog.csv --model runs/mine --out report/
    cfcd evaluate gallery/ --json
    cfcd evaluate photos/ --robustness --out report/
    cfcd evaluate roxford5k --root roxford5k/ --model runs/mine --scales 5 --out report/
    cfcd evaluate roxford5k --queries q.npy --database x.npy --ground-truth gnd_roxford5k.pkl
    """
    from cfcd.cli.output import emit, note_skipped, progress

    given = {
        **{"--model": model, "--size": size, "--scales": scales, "--root": root},
        **{"--queries": queries, "--database": database, "--ground-truth": ground_truth},
        **{"--distractors": distractors, "--no-crop": no_crop or None, "--normalise": normalise or None},
        **{"--robustness": robustness or None, "--worst": worst, "--out": out},
        **{"--device": None if device == "auto" else device, "--allow-truncated": allow_truncated or None},
        "--precision": None if precision == "auto" else precision,
    }
    way = _way(data, {option for option, value in given.items() if value is not None})
    settings = (model, size, scales, device, precision, allow_truncated)
    if robustness:
        _robustness(Path(str(data)), root, out, settings, as_json)
        return
    if way == "labelled":
        _labelled(Path(str(data)), root, out, worst or _WORST, settings, as_json)
        return
    from cfcd.evaluation.revisited_run import evaluate_files, evaluate_images

    if way == "files":
        evaluation = evaluate_files(
            str(queries),
            str(database),
            str(ground_truth),
            dataset=None if data is None else str(data),
            distractors=distractors,
            normalise=normalise,
            cropped=False if no_crop else None,
            progress=progress,
        )
    else:
        from cfcd.cli.options import make_encoder

        evaluation = evaluate_images(
            str(data),
            str(root),
            make_encoder(*settings),
            distractors=distractors,
            ground_truth=ground_truth,
            crop=not no_crop,
            out=out,
            progress=progress,
        )
    note_skipped(evaluation.skipped, evaluation.problems)
    text = evaluation.text()
    if out is not None:
        from cfcd.evaluation.revisited_document import write_revisited

        text += "\nwrote " + ", ".join(
            str(file) for file in write_revisited(evaluation, out, worst or _WORST)
        )
    emit(evaluation.to_json(), text, as_json)


def _way(data: Path | None, named: set[str]) -> str:
    """Tell what is asked for: "labelled" data, or a benchmark by its "images" or by descriptor "files".

    Raises:
        UsageError: The options given do not belong together.
    """
    from cfcd.errors import UsageError
    from cfcd.evaluation.revisited_data import BENCHMARKS, nearest_benchmark
    from cfcd.evaluation.run import holds_descriptors
    from cfcd.gallery.opening import name_of

    known = " and ".join(BENCHMARKS)
    if "--worst" in named and ("--out" not in named or "--robustness" in named):
        raise UsageError("--worst is for the pictures of --out without --robustness.", "Leave it out.")
    if str(data) in BENCHMARKS or (data is None and named & {"--queries", "--database"}):
        return _way_of_benchmark(data, named, known)
    if data is None:
        raise UsageError("DATA is not given.", f"Name pictures, or a benchmark: {known}.")
    if alien := named & _OF_BENCHMARKS:
        raise UsageError(f"{min(alien)} is for the benchmarks {known}, not {name_of(data)}.", "Leave it out.")
    if not data.exists() and (meant := nearest_benchmark(str(data))):
        raise UsageError(f"There is no {str(data)!r}.", f"Did you mean the benchmark {meant}?")
    if holds_descriptors(data) and (idle := named & _OF_PICTURES):
        raise UsageError(
            f"{name_of(data)} holds descriptors already, so {min(idle)} has no effect.",
            "Leave it out, or give the pictures.",
        )
    return "labelled"


def _way_of_benchmark(data: Path | None, named: set[str], known: str) -> str:
    from cfcd.errors import UsageError

    if "--robustness" in named:
        raise UsageError(
            f"--robustness is for labelled pictures, not for the benchmarks {known}.", "Leave it out."
        )
    if named & {"--queries", "--database"}:
        for option in ("--queries", "--database", "--ground-truth"):
            if option not in named:
                raise UsageError(
                    f"{option} is not given.", "Descriptors need --queries, --database, --ground-truth."
                )
        if idle := named & _OF_PICTURES:
            raise UsageError(f"Descriptors are made already, so {min(idle)} has no effect.", "Leave it out.")
        return "files"
    if "--normalise" in named:
        raise UsageError("--normalise is for --queries and --database.", "Leave it out.")
    if "--root" not in named:
        raise UsageError(
            f"The folder of {data} is not given.",
            "Name it with --root, or give descriptors with --queries and --database.",
        )
    return "images"


def _labelled(
    data: Path,
    root: Path | None,
    out: Path | None,
    worst: int,
    settings: tuple[str | None, int | None, str | None, str, str, bool],
    as_json: bool,
) -> None:
    from cfcd.cli.options import make_encoder
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.evaluation.run import evaluate as run_evaluation
    from cfcd.evaluation.run import holds_descriptors, refuse_inside

    if out is not None:
        refuse_inside(out, data)
    encoder = None if holds_descriptors(data) else make_encoder(*settings)
    with progress("encoding") as advance:
        evaluation = run_evaluation(data, encoder, root=root, out=out and out / "encoded", progress=advance)
    note_skipped(evaluation.skipped, evaluation.catalog.problems)
    text = f"{evaluation.report.summary()}\n\nmodel {evaluation.model}"
    if out is not None:
        from cfcd.evaluation.rows import write_evaluation

        files = write_evaluation(evaluation, out, worst)
        text += "\nwrote " + ", ".join(str(file) for file in files)
    emit(evaluation.to_json(), text, as_json)


def _robustness(
    data: Path,
    root: Path | None,
    out: Path | None,
    settings: tuple[str | None, int | None, str | None, str, str, bool],
    as_json: bool,
) -> None:
    from cfcd.cli.options import make_encoder
    from cfcd.cli.output import emit, note_skipped, progress
    from cfcd.evaluation.robustness import evaluate_robustness
    from cfcd.evaluation.robustness_document import write_robustness
    from cfcd.evaluation.run import refuse_inside

    if out is not None:
        refuse_inside(out, data)
    encoder = make_encoder(*settings)
    with progress("encoding") as advance:
        report = evaluate_robustness(data, encoder, root=root, out=out and out / "encoded", progress=advance)
    note_skipped(report.evaluation.skipped, report.evaluation.catalog.problems)
    text = f"{report.text()}\n\nmodel {report.evaluation.model}"
    if out is not None:
        text += "\nwrote " + ", ".join(str(file) for file in write_robustness(report, out))
    emit(report.to_json(), text, as_json)
