"""What `cfcd serve` costs over the encoder and the index alone: times, requests per second, memory, start.

    python benchmarks/serve.py [--items 1000000] [--seconds 10] [--index auto] [--model FOLDER]
        [--photos FOLDER] [--folder FOLDER] [--json FILE]

The gallery is that of `benchmarks/gallery.py`: 512-D descriptors in clusters. The model has 512 components
and is made for this run, from ImageNet weights (needs the extra train), unless --model names one; pictures
are limited to a long side of 320 pixels. The photos are made up, 640 x 480 pixels, unless --photos names a
folder of JPEGs. The bare times are those of one thread in a process of its own, before and after the service:
`Encoder.encode` of the bytes of a photo, and the search of the index for k rows; `Gallery.search` beside them
also reads the rows of the hits. A small size, such as --items 20000 --seconds 2, runs in under a minute.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from served import Served, load, request_of, start, summary

from cfcd.encoding import load_model
from cfcd.gallery import Choice, Gallery
from cfcd.gallery.gallery import model_meta
from cfcd.gallery.indexes.threads import one_thread
from cfcd.model import find_model
from gallery import DIM, make, vectors

CLIENTS = (1, 8, 32)
QUERIES = 200
PHOTOS = 60
SIDE = 320


def prepare(working: Path, items: int, model: str | None, index: str, photos: Path | None) -> Path:
    """Make gallery, model and queries in a folder; gives the gallery."""
    if model is None:
        from cfcd import create_model

        create_model("efficientnet_lite0", dim=DIM, long_side=SIDE).save(working / "model", name="served")
        model = str(working / "model")
    chosen = find_model(model).with_preprocessing(long_side=SIDE)
    if chosen.dim != DIM:
        raise SystemExit(f"{model} gives {chosen.dim} components; this gallery has {DIM}.")
    folder = working / "gallery"
    clusters = max(1, items // 100)
    make(folder, items, clusters, model_meta(chosen))
    (working / "made.npy").unlink()
    with Gallery(folder) as gallery:
        gallery.choose_index(Choice(index))
    np.save(working / "queries.npy", vectors(QUERIES, clusters, 5))
    (working / "photos").mkdir()
    for at, data in enumerate(made_photos() if photos is None else found_photos(photos)):
        (working / "photos" / f"{at:03}.jpg").write_bytes(data)
    return folder


def made_photos() -> list[bytes]:
    """Draw photos of 640 x 480 pixels that take about as many bytes as real ones."""
    found = []
    rng = np.random.default_rng(4)
    for _ in range(PHOTOS):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + rng.normal(0, 6, smooth.shape)
        stream = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
        found.append(stream.getvalue())
    return found


def found_photos(folder: Path) -> list[bytes]:
    """Read photos of a folder, spread over it."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise SystemExit(f"{folder} holds no JPEGs.")
    return [file.read_bytes() for file in files[:: max(1, len(files) // PHOTOS)][:PHOTOS]]


def bare(working: Path, seconds: float, k: int) -> dict[str, Any]:
    """Measure encoder, index and gallery alone, one call after another."""
    queries = np.load(working / "queries.npy")
    photos = [file.read_bytes() for file in sorted((working / "photos").iterdir())]
    with Gallery(working / "gallery") as gallery:
        encoder = gallery.encoder
        gallery.search(photos[0], k)

        def index(vector: Any) -> None:
            with gallery._store.reading(), one_thread():
                gallery._index.search(vector[None], k)

        def both(photo: bytes) -> None:
            index(encoder.encode(photo)[0])

        found = {
            "index": repeat(index, queries, seconds),
            "gallery": repeat(lambda vector: gallery.search_vector(vector, k), queries, seconds),
            "encoder_index": repeat(both, photos, seconds),
            "gallery_photo": repeat(lambda photo: gallery.search(photo, k), photos, seconds),
            "encoder": repeat(encoder.encode, photos, seconds),
        }
        began = time.perf_counter()
        encoder.encode(photos)
        found["encoder_many"] = {"requests_per_s": len(photos) / (time.perf_counter() - began)}
        return found


def repeat(call: Callable[[Any], Any], values: Any, seconds: float) -> dict[str, float]:
    """Call again and again; gives rate and times."""
    for value in values[:3]:
        call(value)
    taken: list[float] = []
    began = time.perf_counter()
    while (start_s := time.perf_counter()) - began < seconds:
        call(values[len(taken) % len(values)])
        taken.append(time.perf_counter() - start_s)
    return summary(taken, time.perf_counter() - began)


def bare_elsewhere(working: Path, seconds: float, k: int) -> dict[str, Any]:
    """Run `bare` in a process of its own."""
    result = subprocess.run(
        [sys.executable, __file__, "--bare", str(working), "--seconds", str(seconds), "--k", str(k)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def measure(working: Path, served: Served, seconds: float, k: int) -> dict[str, Any]:
    """Have 1, 8 and 32 clients search by vector and by photo."""
    queries = np.load(working / "queries.npy")
    by_vector = [
        request_of(served, "POST", "/v1/search", json={"vectors": [query.tolist()], "k": k})
        for query in queries
    ]
    by_photo = [
        request_of(
            served,
            "POST",
            "/v1/search/pictures",
            data={"k": str(k)},
            files=[("picture", (file.name, file.read_bytes(), "image/jpeg"))],
        )
        for file in sorted((working / "photos").iterdir())
    ]
    found: dict[str, Any] = {}
    for name, requests in (("vector", by_vector), ("photo", by_photo)):
        load(served, requests, clients=2, seconds=min(2.0, seconds), working=working)
        for clients in CLIENTS:
            found[f"{name}_{clients}"] = load(
                served, requests, clients=clients, seconds=seconds, working=working
            )
    return found


def main() -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="per measurement")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--index", default="auto", help="as cfcd index --index")
    parser.add_argument("--model", default=None)
    parser.add_argument("--photos", type=Path, default=None, help="a folder of JPEGs")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: the system's")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--bare", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare is not None:
        print(json.dumps(bare(options.bare, options.seconds, options.k)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        working = Path(place)
        print("making the gallery", file=sys.stderr)
        gallery = prepare(working, options.items, options.model, options.index, options.photos)
        with Gallery(gallery) as opened:
            index = opened.info()["index"]
            encoder = load_model(opened.stored_model())
            device = f"{encoder.runtime.device}, {encoder.runtime.precision}"
        print("measuring alone", file=sys.stderr)
        before = bare_elsewhere(working, options.seconds, options.k)
        print("measuring served", file=sys.stderr)
        served = start(gallery, log=working / "serve.log")
        try:
            idle = served.memory()
            found = measure(working, served, options.seconds, options.k)
            loaded = served.memory()
        finally:
            code = served.stop()
        print("measuring alone again", file=sys.stderr)
        after = bare_elsewhere(working, options.seconds, options.k)
    result = {
        "items": options.items,
        "k": options.k,
        "index": index,
        "encoder": device,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "start_s": served.start_s,
        "exit_code": code,
        "idle": idle,
        "loaded": loaded,
        "bare": [before, after],
        "served": found,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Lay the results out in Markdown."""
    before, after = result["bare"]
    said = {
        "index": "index alone",
        "gallery": "`Gallery.search_vector`",
        "encoder": "encoder alone",
        "encoder_index": "encoder + index",
        "gallery_photo": "`Gallery.search`",
    }
    lines = [
        f"{result['items']:,} items, {DIM}-D, index {result['index']['kind']}, k = {result['k']}, photos at "
        f"{SIDE} px ({result['encoder']}), {result['machine']}. Ready after {result['start_s']:.2f} s; "
        f"resident {result['idle'].get('resident_mb', 0):.0f} MB when ready, "
        f"{result['loaded'].get('resident_mb', 0):.0f} MB after the load.",
        "",
        "| in one process | p50 ms | p99 ms | per second |",
        "|---|---|---|---|",
    ]
    for name, text in said.items():
        p50, p99, rate = (
            (before[name][key] + after[name][key]) / 2 for key in ("p50_ms", "p99_ms", "requests_per_s")
        )
        lines.append(f"| {text} | {p50:.2f} | {p99:.2f} | {rate:.1f} |")
    rate = (before["encoder_many"]["requests_per_s"] + after["encoder_many"]["requests_per_s"]) / 2
    lines += [
        f"| encoder alone, all photos in one call | | | {rate:.1f} |",
        "",
        "| served: search by | clients | p50 ms | p99 ms | per second | time over bare | other than 200 |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, found in result["served"].items():
        name, _, clients = key.partition("_")
        alone = "index" if name == "vector" else "encoder_index"
        # With one client the time of a request, with more of them the time that the machine takes for each.
        took = "p50_ms" if clients == "1" else "requests_per_s"
        own = (before[alone][took] + after[alone][took]) / 2
        ratio = found[took] / own if clients == "1" else own / found[took]
        failed = sum(count for status, count in found["statuses"].items() if status != "200")
        lines.append(
            f"| {name} | {clients} | {found['p50_ms']:.2f} | {found['p99_ms']:.2f} "
            f"| {found['requests_per_s']:.1f} | {100 * (ratio - 1):+.0f} % | {failed} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
