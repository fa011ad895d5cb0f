"""What is known of the two benchmarks, and what can be said of the copy at hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cfcd.catalog import IMAGE_SUFFIXES, Catalog, Item
from cfcd.errors import EvaluationError, UsageError
from cfcd.evaluation.revisited_protocol import Truth

_NAMED = 3


@dataclass(frozen=True)
class Benchmark:
    """One of the two published benchmarks.

    Attributes:
        title: Its name in papers.
        images: Images of the database.
        queries: Queries.
        shared: Queries whose landmark is in the usual training set as well.
        digest: `truth_digest` of the published ground truth.
    """

    title: str
    images: int
    queries: int
    shared: int
    digest: str

    @property
    def overlap(self) -> str:
        """Warn of training images that show the landmarks of the queries."""
        return (
            f"the training images of Google Landmarks v2 show the landmarks of {self.shared} of the "
            f"{self.queries} queries of {self.title}"
        )


BENCHMARKS: Mapping[str, Benchmark] = {
    "roxford5k": Benchmark(
        "ROxford", 4993, 70, 38, "04f42037a72a0a39a1d05332da1bb2748c2937707d376ad36e23ae0346ce3e06"
    ),
    "rparis6k": Benchmark(
        "RParis", 6322, 70, 36, "0c183352241f090206e825795254a92b70dafd2ab3599f6eda7d5e92f2d17404"
    ),
}


def check_name(dataset: str) -> None:
    """Raise UsageError unless this is the name of one of the two."""
    if dataset not in BENCHMARKS:
        raise UsageError(
            f"There is no benchmark {dataset!r}.", f"The revisited ones are {' and '.join(BENCHMARKS)}."
        )


def nearest_benchmark(name: str) -> str | None:
    """Guess which benchmark is meant, or None."""
    close = get_close_matches(name.lower(), BENCHMARKS, n=1, cutoff=0.7)
    return close[0] if close else None


def truth_digest(truth: Truth, plain: Mapping[str, Any]) -> str:
    """Hash names, boxes and kinds of a ground truth: equal for equal contents, however they are stored.

    Args:
        truth: The ground truth, checked.
        plain: What the file holds, for its boxes.
    """
    entries = [
        [_box(entry), *(rows[kind].tolist() for kind in ("easy", "hard", "junk"))]
        for entry, rows in zip(plain["gnd"], truth.rows, strict=True)
    ]
    return hashlib.sha256(json.dumps([truth.database, truth.queries, entries]).encode()).hexdigest()


def _box(entry: Mapping[str, Any]) -> list[float] | None:
    box = entry.get("bbx")
    known = isinstance(box, list) and all(isinstance(corner, int | float) for corner in box)
    return box if known else None


def name_benchmark(dataset: str | None, digest: str, source: Path) -> str | None:
    """Give the name under which to report: as told, or by the ground truth; None when neither knows it.

    Raises:
        UsageError: The name is unknown, or the ground truth is that of the other benchmark.
    """
    if dataset is not None:
        check_name(dataset)
    published = next((name for name, known in BENCHMARKS.items() if known.digest == digest), None)
    if dataset is not None and published not in (None, dataset):
        raise UsageError(f"{source} is the ground truth of {published}, not of {dataset}.", "Name that one.")
    return dataset or published


def find_ground_truth(dataset: str, root: Path) -> Path:
    """Find `gnd_DATASET.pkl` (or .json) in a folder or in the folder of that name in it.

    Raises:
        EvaluationError: It is in neither.
    """
    for folder in (root, root / dataset):
        for suffix in (".pkl", ".json"):
            if (file := folder / f"gnd_{dataset}{suffix}").is_file():
                return file
    raise EvaluationError(
        f"{root} holds no gnd_{dataset}.pkl.",
        "Put it beside the folder jpg/ with the images, or name it with --ground-truth.",
    )


def image_root(dataset: str, root: Path) -> Path:
    """Give the folder with the images: `root`, or the folder of the benchmark's name in it."""
    inner = root / dataset
    return inner if inner.is_dir() and not any((root / name).is_dir() for name in ("jpg", "images")) else root


def check_images(catalog: Catalog) -> None:
    """Refuse a catalog of a ground truth whose rows or files are not all there.

    Raises:
        EvaluationError: It names how many are missing, and some of them.
    """
    for problem in catalog.problems:
        if problem.fatal:
            where = f"row {problem.row}" if problem.row else problem.file
            raise EvaluationError(
                f"{catalog.source} has a name or a box that cannot be used ({where}): {problem.message}.",
                "Get the file from its publisher again.",
            )
    missing = [file for at in range(len(catalog)) if not (file := catalog.file(at)).is_file()]
    if missing:
        raise EvaluationError(
            f"{_of(len(missing), len(catalog))} are not there: {_some(missing)}.",
            "Give the folder that holds jpg/ with --root; the benchmark is defined on all of them.",
        )


def check_encoded(catalog: Catalog, skipped: Sequence[tuple[Item, str]]) -> None:
    """Refuse to go on without images that could not be read.

    Raises:
        EvaluationError: It names how many, and some of them.
    """
    if skipped:
        reasons = " ".join(reason for _, reason in skipped[:_NAMED])
        raise EvaluationError(
            f"{_of(len(skipped), len(catalog))} cannot be read: {reasons}",
            "Get them again; cfcd check names what is wrong with each.",
        )


def describe_truth(file: Path, digest: str) -> dict[str, Any]:
    """Say which ground truth was used, and whether its contents are the published ones."""
    published = any(known.digest == digest for known in BENCHMARKS.values())
    return {"file": str(file), "digest": digest, "published": published}


def describe_release(catalog: Catalog, digests: Sequence[bytes]) -> dict[str, Any]:
    """Say what is known of the images: how many, a fingerprint, and whether it is of a known release.

    Args:
        catalog: The images that the ground truth names.
        digests: Per image the digest of its file.
    """
    files = [catalog.file(at) for at in range(len(catalog))]
    fingerprint = hashlib.sha256()
    for name, digest in sorted(dict(zip((file.name for file in files), digests, strict=True)).items()):
        fingerprint.update(f"{name} {digest.hex()}\n".encode())
    folder, named = files[0].parent, {file.name for file in files}
    others = [
        one for one in folder.iterdir() if one.suffix.lower() in IMAGE_SUFFIXES and one.name not in named
    ]
    return {
        "folder": str(folder),
        "images": len(catalog),
        "further_images": len(others),
        "digest": fingerprint.hexdigest(),
        "release": "not verified: no checksum of the original or of the face-blurred release is known",
    }


def _of(count: int, total: int) -> str:
    return f"{count:,} of the {total:,} images that the ground truth names"


def _some(files: Sequence[Path]) -> str:
    shown = ", ".join(str(file) for file in files[:_NAMED])
    return shown if len(files) <= _NAMED else f"{shown} and others"
