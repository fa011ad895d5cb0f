"""Hard-negative tuples for one epoch of a data set of the size and shape of Google Landmarks v2 clean.

    python benchmarks/tuples.py [--images 1580470] [--classes 81313] [--wrong 0.15] [--processes 1]

The labels are made up: class sizes fall off like a power of their rank, and wrong predictions go half to
a neighbouring class, half to any image's class. The peak is that of the whole process, the interpreter
and the made-up data included. Prints JSON; `passed` holds it to 10 seconds and 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import numpy as np
from numpy.typing import NDArray

from cfcd.training.tuples import TupleSampler

Integers = NDArray[np.int64]


def made_up_classes(n_images: int, n_classes: int, rng: np.random.Generator) -> Integers:
    """Draw a shuffled (N,) array of labels: each class has two images or more, the largest thousands."""
    weights = (np.arange(n_classes) + 15.0) ** -1.0
    sizes = 2 + np.floor((n_images - 2 * n_classes) * weights / weights.sum()).astype(np.int64)
    sizes[: n_images - sizes.sum()] += 1
    return rng.permutation(np.repeat(rng.permutation(n_classes), sizes))


def made_up_predictions(labels: Integers, share_wrong: float, rng: np.random.Generator) -> Integers:
    """Predict a share of the images wrong."""
    n_images, n_classes = len(labels), int(labels.max()) + 1
    near = (labels + rng.integers(1, 4, n_images)) % n_classes
    popular = labels[rng.integers(0, n_images, n_images)]
    guess = np.where(rng.random(n_images) < 0.5, near, popular)
    return np.where(rng.random(n_images) < share_wrong, guess, labels)


def main() -> None:
    """Draw one epoch and print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_580_470)
    parser.add_argument("--classes", type=int, default=81_313)
    parser.add_argument("--wrong", type=float, default=0.15)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    labels = made_up_classes(options.images, options.classes, rng)
    predicted = made_up_predictions(labels, options.wrong, rng)
    before = peak_mib()

    start = time.perf_counter()
    sampler = TupleSampler(labels, predicted, seed=0)
    prepared = time.perf_counter()
    epoch = sampler.epoch(0, options.processes)
    end = time.perf_counter()
    peak = peak_mib()

    anchors, negatives = epoch.images[:, :1], epoch.images[:, 2:]
    times_used = np.bincount(epoch.images.ravel(), minlength=len(labels))
    result = {
        "images": len(labels),
        "classes": len(np.unique(labels)),
        "largest_class": int(np.bincount(labels).max()),
        "predicted_wrong": round(float((labels != predicted).mean()), 4),
        "tuples": len(epoch.images),
        "passes": int(epoch.passes[-1]) + 1,
        "prepare_s": round(prepared - start, 2),
        "epoch_s": round(end - prepared, 2),
        "total_s": round(end - start, 2),
        "peak_mib": round(peak, 1),
        "peak_before_mib": round(before, 1),
        "images_used_once": round(float((times_used == 1).mean()), 4),
        "images_not_used": round(float((times_used == 0).mean()), 4),
        "negatives_predicted_as_the_anchor": round(
            float((predicted[negatives] == labels[anchors]).mean()), 4
        ),
        "passed": end - start < 10 and peak < 1024,
    }
    print(json.dumps(result, indent=2))


def peak_mib() -> float:
    """Give the largest memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    main()
