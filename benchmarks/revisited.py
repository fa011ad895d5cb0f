"""Revisited Oxford with a million distractors: streamed in blocks, against sorting all scores.

    python benchmarks/revisited.py GND.pkl [--distractors 1001001] [--dim 512] [--dtype float32] [--rounds 1]

GND.pkl is the benchmark's ground truth. Descriptors are synthetic: Gaussian rows of unit length; easy images
lean to their query by a cosine of about 0.25 and hard ones by 0.1, where chance gives 0.04 (one standard
deviation), so that the right images lie spread through the ranking. The distractors are written to a
temporary file and memory-mapped by both sides:

- streamed: `cfcd.evaluation.revisited`;
- full argsort: the way of the authors' code and its many copies: the scores of all images by matrix product,
  `argsort(-scores, axis=0)` (stable, so that ties are comparable), and for each of the three protocols the
  places of right and ignored images found in these rankings by `isin`.

The figures of both sides must agree to 1e-9. Memory is RssAnon of the process, looked at every 5 ms: mapped
files are not in it, the small arrays of queries and database are in what it starts from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfcd.catalog.revisited import load_ground_truth
from cfcd.evaluation.revisited_protocol import revisited

Floats = NDArray[np.floating]
Figures = dict[str, list[float | None]]

KINDS = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}


def main() -> None:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ground_truth", type=Path)
    parser.add_argument("--distractors", type=int, default=1_001_001)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary file goes")
    options = parser.parse_args()

    truth = load_ground_truth(options.ground_truth)
    rng = np.random.default_rng(0)
    queries, database = make_labelled(rng, truth, options.dim)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        file = Path(folder) / "distractors.npy"
        write_distractors(rng, file, options.distractors, options.dim, options.dtype)
        revisited(queries, database, truth)  # load the libraries and start their threads
        rounds = [one_round(queries, database, truth, file) for _ in range(options.rounds)]
    document = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "numpy": np.__version__,
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", "all"),
        "distractors": options.distractors,
        "dim": options.dim,
        "dtype": options.dtype,
        "rounds": rounds,
    }
    print(json.dumps(document, indent=2))
    print(f"\n{'':<14}{'seconds':>9}{'of it sorting':>15}{'peak memory above the start':>30}")
    for found in rounds:
        print(f"{'streamed':<14}{found['streamed_s']:>9.2f}{'-':>15}{found['streamed_mib']:>26.0f} MiB")
        print(
            f"{'full argsort':<14}{found['argsort_s']:>9.2f}{found['argsort_sorting_s']:>15.2f}"
            f"{found['argsort_mib']:>26.0f} MiB"
        )
        print(f"{found['speedup']:.1f} times faster; APs differ by {found['largest_difference']:.0e} at most")


def one_round(queries: Floats, database: Floats, truth: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Run both sides once and compare."""
    with watched_memory() as memory:
        start = time.perf_counter()
        report = revisited(queries, database, truth, distractors=file)
        streamed = time.perf_counter() - start
    streamed_mib = memory["peak"]
    with watched_memory() as memory:
        start = time.perf_counter()
        figures, sorting = full_argsort(queries, database, truth, np.load(file, mmap_mode="r"))
        full = time.perf_counter() - start
    difference = 0.0
    for protocol, aps in figures.items():
        for query, ap in zip(report.per_query, aps, strict=True):
            mine = query.ap[protocol]
            if (mine is None) != (ap is None):
                raise SystemExit(f"{query.id} counts on one side only under {protocol}")
            if mine is not None and ap is not None:
                difference = max(difference, abs(mine / 100 - ap))
    if difference > 1e-9:
        raise SystemExit(f"the two sides differ by {difference} in an average precision")
    return {
        "streamed_s": streamed,
        "streamed_mib": streamed_mib,
        "argsort_s": full,
        "argsort_sorting_s": sorting,
        "argsort_mib": memory["peak"],
        "speedup": full / streamed,
        "largest_difference": difference,
        "mAP": {result.protocol: result.mAP for result in report.protocols},
    }


def make_labelled(rng: np.random.Generator, truth: Mapping[str, Any], dim: int) -> tuple[Floats, Floats]:
    """Draw queries and database; labelled images lean to their queries."""
    queries = unit(rng.standard_normal((len(truth["qimlist"]), dim), dtype=np.float32))
    database = unit(rng.standard_normal((len(truth["imlist"]), dim), dtype=np.float32))
    for query, entry in zip(queries, truth["gnd"], strict=True):
        database[entry["easy"]] += np.float32(0.26) * query
        database[entry["hard"]] += np.float32(0.1) * query
    return queries, unit(database)


def write_distractors(rng: np.random.Generator, file: Path, rows: int, dim: int, dtype: str) -> None:
    """Write unit rows a block at a time."""
    out = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=(rows, dim))
    for start in range(0, rows, 8192):
        size = min(8192, rows - start)
        out[start : start + size] = unit(rng.standard_normal((size, dim), dtype=np.float32))
    out.flush()


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide rows by their lengths, in place."""
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def full_argsort(
    queries: Floats, database: Floats, truth: Mapping[str, Any], distractors: Floats
) -> tuple[Figures, float]:
    """Rank everything, then walk down the rankings; also give the seconds that sorting took."""
    wide = np.asarray(distractors, dtype=np.float32)  # a float32 file stays mapped
    scores = np.concatenate([database @ queries.T, wide @ queries.T])
    start = time.perf_counter()
    ranks = np.argsort(-scores, axis=0, kind="stable")
    sorting = time.perf_counter() - start
    figures: Figures = {}
    for protocol, (right, ignored) in KINDS.items():
        figures[protocol] = [
            ap_of(ranks[:, number], gather(entry, right), gather(entry, ignored))
            for number, entry in enumerate(truth["gnd"])
        ]
    return figures, sorting


def gather(entry: Mapping[str, list[int]], kinds: Sequence[str]) -> NDArray[np.int64]:
    """Join the images of some kinds."""
    return np.concatenate([np.array(entry[kind], np.int64) for kind in kinds])


def ap_of(ranking: NDArray[np.int64], right: NDArray[np.int64], junk: NDArray[np.int64]) -> float | None:
    """Compute AP from a ranking of everything, as the authors do: places of the right, less junk before."""
    if not len(right):
        return None
    places = np.flatnonzero(np.isin(ranking, right))
    places = places - np.searchsorted(np.flatnonzero(np.isin(ranking, junk)), places)
    j = np.arange(len(places))
    before = np.where(places == 0, 1.0, j / np.maximum(places, 1))
    return float(((before + (j + 1) / (places + 1)) / 2).sum() / len(right))


@contextmanager
def watched_memory() -> Iterator[dict[str, float]]:
    """Measure how far RssAnon rises above where it starts, in MiB."""
    found = {"peak": 0.0}
    start, over = anonymous_kib(), threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            found["peak"] = max(found["peak"], (anonymous_kib() - start) / 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def anonymous_kib() -> int:
    """Read the resident memory of this process that no file backs (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise SystemExit("This system does not tell RssAnon; run the benchmark on Linux.")


if __name__ == "__main__":
    main()
