"""Encoding speed: pictures on disk to descriptors, against bare OpenVINO on decoded tensors.

    python benchmarks/encode.py PHOTOS [--size 320] [--rounds 5] [--precision auto]

Three sides run the same compiled network on the same pictures in the same process, in turns: bare
OpenVINO on ready-made tensors in the order of the files, the same sorted by shape (its fastest order),
and the encoder, which gets the files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cfcd import load_model, read_catalog
from cfcd.encoding.bulk import encode_items
from cfcd.encoding.preprocess import to_pixels, wanted_long_side
from cfcd.errors import PictureError
from cfcd.pictures import load_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray


def main() -> None:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="imagenet-lite0")
    parser.add_argument("--size", type=int, default=None)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--limit", type=int, default=700)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    catalog = read_catalog(options.photos)
    items = list(catalog)[: options.limit]
    encoder = load_model(options.model, device="cpu", precision=options.precision, long_side=options.size)
    preprocessing = encoder.model.config.preprocessing
    tensors = [
        to_pixels(load_picture(item.path, long_side=wanted_long_side(preprocessing)), preprocessing, scale)[
            None
        ]
        for item in items
        for scale in preprocessing.scales
    ]
    by_shape = sorted(tensors, key=lambda tensor: tensor.shape)
    runtime = encoder.runtime

    def bare(ready: list[NDArray[np.uint8]]) -> float:
        start = time.perf_counter()
        running = [runtime.submit(tensor) for tensor in ready]
        for future in running:
            future.result()
        return len(items) / (time.perf_counter() - start)

    def whole() -> float:
        start = time.perf_counter()
        for _, result in encode_items(encoder, items):
            if isinstance(result, PictureError):
                raise result
        return len(items) / (time.perf_counter() - start)

    bare(tensors), whole()
    rounds = [(bare(tensors), bare(by_shape), whole()) for _ in range(options.rounds)]
    file_order, sorted_order, ours = (list(side) for side in zip(*rounds, strict=True))
    result = {
        "pictures": len(items),
        "shapes": len({tensor.shape for tensor in tensors}),
        "model": encoder.model.label,
        "precision": runtime.precision,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "images_per_s": {
            "bare": round(statistics.median(file_order), 1),
            "bare_sorted": round(statistics.median(sorted_order), 1),
            "encoder": round(statistics.median(ours), 1),
        },
        "encoder_to_bare": _ratios(ours, file_order),
        "encoder_to_bare_sorted": _ratios(ours, sorted_order),
    }
    print(json.dumps(result, indent=2))


def _ratios(ours: list[float], theirs: list[float]) -> dict[str, float | list[float]]:
    each = [round(a / b, 3) for a, b in zip(ours, theirs, strict=True)]
    return {"median": round(statistics.median(each), 3), "each": each}


if __name__ == "__main__":
    main()
