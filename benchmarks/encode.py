"""Encoding speed: pictures on disk to descriptors, against bare OpenVINO on decoded tensors.

    python benchmarks/encode.py PHOTOS [--size 320] [--rounds 5] [--precision auto]

Both sides run the same compiled network on the same pictures in the same process, in turns: the bare
side gets every tensor ready-made, sorted by shape (its fastest order), the encoder gets the files.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from cfcd import load_model, read_catalog
from cfcd.encoding.bulk import encode_items
from cfcd.encoding.preprocess import to_pixels, wanted_long_side
from cfcd.errors import PictureError
from cfcd.pictures import load_picture


def main() -> None:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        to_pixels(load_picture(item.path, long_side=wanted_long_side(preprocessing)), preprocessing, scale)[None]
        for item in items
        for scale in preprocessing.scales
    ]
    tensors.sort(key=lambda tensor: tensor.shape)
    runtime = encoder.runtime

    def bare() -> float:
        start = time.perf_counter()
        running = [runtime.submit(tensor) for tensor in tensors]
        for future in running:
            future.result()
        return len(items) / (time.perf_counter() - start)

    def whole() -> float:
        start = time.perf_counter()
        for _, result in encode_items(encoder, items):
            if isinstance(result, PictureError):
                raise result
        return len(items) / (time.perf_counter() - start)

    bare(), whole()
    pairs = [(bare(), whole()) for _ in range(options.rounds)]
    ratios = [ours / theirs for theirs, ours in pairs]
    result = {
        "pictures": len(items),
        "shapes": len({tensor.shape for tensor in tensors}),
        "model": encoder.model.label,
        "precision": runtime.precision,
        "machine": platform.processor() or platform.machine(),
        "bare_images_per_s": round(statistics.median(theirs for theirs, _ in pairs), 1),
        "encoder_images_per_s": round(statistics.median(ours for _, ours in pairs), 1),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "megapixels_per_tensor": round(float(np.mean([t.shape[1] * t.shape[2] for t in tensors])) / 1e6, 4),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
