"""A long mixed load on `cfcd serve` while another process changes its gallery: no 5xx, flat memory.

    python benchmarks/soak.py [--minutes 20] [--items 20000] [--clients 8] [--model imagenet-lite0]
        [--folder FOLDER] [--json FILE]

Clients search by vector, photo, item and condition, page through items, look at thumbnails and pictures, ask
for explanations, send broken pictures, and add and remove items. Meanwhile a writer adds and removes items
and compacts the gallery, and once in a while another gallery takes its name by mv. Memory counts from a
fifth of the time on, when caches are full. --minutes 0.3 --items 2000 is enough to try it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from serve import made_photos
from served import Served, load, request_of, start

from cfcd import Encoder, load_model
from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.errors import BusyError
from cfcd.gallery import Gallery
from cfcd.lock import only_writer

TOKEN = "a-token-of-this-benchmark-alone-0123456789"
SIDE = 320
# What memory may grow by after the first fifth: allocators keep pages that they will use again.
GROWTH_MB = 40.0
GROWTH_SHARE = 0.1


def prepare(folder: Path, photos: Path, items: int, encoder: Encoder) -> None:
    """Make a gallery of real photos and of made-up rows with a column."""
    rng = np.random.default_rng(8)
    rows = rng.standard_normal((items, encoder.dim)).astype(np.float32)
    made = [
        Item(f"made/{at}", Path(f"/made/{at}.jpg"), f"label {at % 90}", extra={"year": 1900 + at % 120})
        for at in range(items)
    ]
    catalog = Catalog.from_items(made, source=Path("/made"), root=Path("/made"), kind="made")
    with Gallery.create(folder, encoder) as gallery:
        gallery.update(read_catalog(photos))
        gallery.add(catalog, rows / np.linalg.norm(rows, axis=1, keepdims=True))


def mixture(served: Served, photos: list[bytes], names: list[str], dim: int) -> list[bytes]:
    """Make the requests of the clients, in an order that mixes them."""
    rng = np.random.default_rng(9)
    found = []
    for at in range(200):
        vector = rng.standard_normal(dim).round(5).tolist()
        photo, name = photos[at % len(photos)], names[at % len(names)]
        file = [("picture", ("a.jpg", photo, "image/jpeg"))]
        years = f"year >= {1900 + at % 100} and label like 'label 1%'"
        own = f"soak-{at % 10}"
        found += [
            request_of(served, "POST", "/v1/search", json={"vectors": [vector], "k": 20}),
            request_of(served, "POST", "/v1/search", json={"vectors": [vector], "k": 50, "offset": 50}),
            request_of(served, "POST", "/v1/search", json={"ids": [name], "where": years}),
            request_of(served, "POST", "/v1/search/pictures", files=file, data={"box": "9,9,300,400"}),
            request_of(served, "POST", "/v1/search/pictures", files=file * 2, data={"id": name}),
            request_of(served, "GET", f"/v1/thumbnails/{name}"),
            request_of(served, "GET", f"/v1/thumbnails/{name}", params={"side": 64 + at}),
            request_of(served, "GET", "/v1/items", params={"offset": 10 * at, "where": years}),
        ]
        if at % 4 == 0:
            broken = [("picture", ("a.jpg", photo[: 500 + at], "image/jpeg"))]
            row = {"row": json.dumps({"id": own, "label": "soak", "year": at})}
            found += [
                request_of(served, "POST", "/v1/search/pictures", files=broken),
                request_of(served, "GET", f"/v1/pictures/{name}", params={"boxed": "true"}),
                request_of(served, "GET", "/v1/gallery"),
                request_of(served, "GET", "/metrics"),
                request_of(served, "POST", "/v1/items?replace=true", TOKEN, files=file, data=row),
                request_of(served, "DELETE", f"/v1/items/{own}", TOKEN),
            ]
        if at % 20 == 0:
            two = {"hit": names[(at + 1) % len(names)], "id": name}
            found.append(
                request_of(served, "POST", "/v1/explain", files=[(k, (None, v)) for k, v in two.items()])
            )
    random.Random(3).shuffle(found)
    return found


def write(folder: Path, spare: Path) -> None:
    """Be the writer: change the gallery until told to stop, and print how often."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    counts = {"added": 0, "removed": 0, "compacted": 0, "replaced": 0, "waited": 0}
    rng = np.random.default_rng(os.getpid())
    turn = 0
    while not over.wait(0.5):
        turn += 1
        try:
            _turn(folder, spare, turn, rng, counts)
        except BusyError:  # the service writes now
            counts["waited"] += 1
    print(json.dumps(counts))


def _turn(folder: Path, spare: Path, turn: int, rng: np.random.Generator, counts: dict[str, int]) -> None:
    with Gallery(folder) as gallery:
        rows = rng.standard_normal((50, gallery.dim)).astype(np.float32)
        made = [Item(f"late/{turn % 10}/{at}", Path(f"/late/{at}.jpg"), "late") for at in range(50)]
        gallery.add(
            Catalog.from_items(made, source=Path("/late"), root=Path("/late"), kind="made"),
            rows / np.linalg.norm(rows, axis=1, keepdims=True),
        )
        counts["added"] += 50
        if turn > 3:
            counts["removed"] += 50 - len(gallery.remove(f"late/{(turn - 3) % 10}/{at}" for at in range(50)))
        if turn % 10 == 0:
            gallery.compact()
            counts["compacted"] += 1
    if turn % 15 == 0 and spare.exists():
        aside = folder.with_name("aside")
        with only_writer(folder):  # nobody may be in the middle of a change
            folder.rename(aside)
            spare.rename(folder)
        aside.rename(spare)
        counts["replaced"] += 1


def soak(working: Path, minutes: float, items: int, clients: int, model: str) -> dict[str, Any]:
    """Make everything, run for so many minutes, and say what happened."""
    photos = working / "photos"
    photos.mkdir()
    data = made_photos()[:30]
    for at, one in enumerate(data):
        (photos / f"{at:02}.jpg").write_bytes(one)
    encoder = load_model(model, long_side=SIDE)
    for name in ("gallery", "spare"):
        prepare(working / name, photos, items, encoder)
    log = working / "serve.log"
    served = start(working / "gallery", log=log, token=TOKEN)
    requests = mixture(served, data, [f"{at:02}.jpg" for at in range(30)], encoder.dim)
    found: dict[str, Any] = {}

    def run() -> None:
        found.update(load(served, requests, clients=clients, seconds=60 * minutes, working=working))

    writer = subprocess.Popen(
        [sys.executable, __file__, "--write", str(working / "gallery"), str(working / "spare")],
        stdout=subprocess.PIPE,
        text=True,
    )
    running = threading.Thread(target=run)
    running.start()
    began, samples = time.monotonic(), []
    while running.is_alive():
        running.join(min(5.0, 3 * minutes))
        samples.append((time.monotonic() - began, served.memory()))
    writer.terminate()
    written = json.loads(writer.communicate()[0] or "{}")
    code = served.stop()
    return {
        "minutes": minutes,
        "items": items,
        "clients": clients,
        **found,
        "writer": written,
        "writer_exit_code": writer.returncode,
        "exit_code": code,
        "memory": [
            {"s": round(at), "mb": round(one.get("resident_mb", 0)), "files": one.get("files", 0)}
            for at, one in samples
        ],
        "log": log.read_text()[-4000:],
    }


def verdict(result: dict[str, Any]) -> list[str]:
    """Say what is wrong; nothing when all is well."""
    faults = []
    for status, count in result["statuses"].items():
        if status[0] in "05":
            faults.append(f"{count} answers {status}" if status != "0" else f"{count} connections broke")
    if result["writer_exit_code"] or result["exit_code"]:
        faults.append(f"exit codes: writer {result['writer_exit_code']}, service {result['exit_code']}")
    first, last = memory_of(result, "mb")
    if last > first + max(GROWTH_MB, GROWTH_SHARE * first):
        faults.append(f"memory grew from {first:.0f} to {last:.0f} MB")
    files, files_last = memory_of(result, "files")
    if files_last > files + 20:
        faults.append(f"open files grew from {files:.0f} to {files_last:.0f}")
    return faults


def memory_of(result: dict[str, Any], what: str) -> tuple[float, float]:
    """Give the median of the second and of the last fifth of the samples."""
    values = [sample[what] for sample in result["memory"]]
    fifth = max(1, len(values) // 5)
    return float(np.median(values[fifth : 2 * fifth] or values[:1])), float(np.median(values[-fifth:]))


def main() -> None:
    """Run it and print a verdict; exit code 1 when something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--model", default="imagenet-lite0")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: the system's")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--write", nargs=2, type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(*options.write)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as working:
        result = soak(Path(working), options.minutes, options.items, options.clients, options.model)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    first, last = memory_of(result, "mb")
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(result["statuses"].items()))
    done = ", ".join(f"{name} {count:,}" for name, count in result["writer"].items())
    print(
        f"{result['minutes']:g} minutes, {result['clients']} clients, {result['items']:,} items: "
        f"{result['count']:,} answers ({statuses}); "
        f"p50 {result['p50_ms']:.0f} ms, p99 {result['p99_ms']:.0f} ms."
    )
    print(f"Writer: {done}. Memory {first:.0f} MB at first, {last:.0f} MB at last.")
    faults = verdict(result)
    print(f"verdict: {'; '.join(faults)}" if faults else "verdict: no 5xx, memory flat")
    if faults:
        print(result["log"], file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
