"""A gallery of a million: recall, speed, memory, disk and changes of each index, through `Gallery` itself.

    python benchmarks/gallery.py [--items 1000000] [--per-object 100] [--kinds pq,codes] [--folder FOLDER]

The items are 512-D unit vectors in clusters, as descriptors of objects are: one centre for every 100 items
(--per-object; the more, the harder: noise around a centre has no structure that codes could use), centres
correlated among themselves. The queries are new vectors of the same clusters. The rate of numpy (one fp32
matrix-vector product and a partial sort) is measured in the same run and stands in the table as 1. Rows for
10,000,000 items are computed from those measured, not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Catalog, Item
from cfcd.errors import MissingExtra
from cfcd.gallery import Gallery
from cfcd.gallery.indexes.choice import KINDS, Choice
from cfcd.gallery.truth.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIM = 512
QUERIES = 200
BLOCK = 50_000
_OPEN = """
import sys, time
start = time.perf_counter()
import numpy as np
from cfcd.gallery import Gallery
ready = time.perf_counter()
with Gallery(sys.argv[1]) as gallery:
    gallery.search_vector(np.load(sys.argv[2])[0], 10)
print(time.perf_counter() - ready, time.perf_counter() - start)
"""


def vectors(count: int, clusters: int, seed: int) -> NDArray[np.float32]:
    """Draw (count, 512) float32 unit rows of the collection's clusters."""
    shape = np.random.default_rng(1)
    basis = shape.standard_normal((DIM // 4, DIM), dtype=np.float32)
    rng = np.random.default_rng([2, seed])
    chosen = rng.integers(0, clusters, count)
    codes = np.random.default_rng(3).standard_normal((clusters, DIM // 4), dtype=np.float32)[chosen]
    noise = rng.standard_normal((count, DIM), dtype=np.float32)
    rows: NDArray[np.float32] = codes @ basis / np.float32(np.sqrt(DIM // 4)) + np.float32(0.6) * noise
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def catalog(name: str, count: int) -> Catalog:
    """Make catalog rows for made-up items."""
    rows = [Item(id=f"{name}/{at}", path=Path(f"/{name}/{at}.jpg")) for at in range(count)]
    return Catalog.from_items(rows, source=Path(f"/{name}"), root=Path(f"/{name}"), kind="made")


def make(
    folder: Path, items: int, clusters: int, meta: dict[str, str] | None = None
) -> tuple[NDArray[np.float16], float]:
    """Fill a gallery; give the descriptors, (N, 512) on disk, and the seconds that adding them took.

    `meta` is what its store says of a model (`cfcd.gallery.gallery.model_meta`); without, of none.
    """
    rows = np.lib.format.open_memmap(
        folder.parent / "made.npy", mode="w+", dtype=np.float16, shape=(items, DIM)
    )
    for start in range(0, items, BLOCK):
        rows[start : start + BLOCK] = vectors(min(BLOCK, items - start), clusters, 10 + start)
    settings = {"identity": "made", "model": "made@0", "model_reference": "made", "dim": str(DIM)}
    Store.create(folder, meta or {**settings, "long_side": "null", "scales": "[1.0]"})
    made = catalog("items", items)
    with Gallery(folder) as gallery:
        gallery.choose_index(Choice("exact"))  # the others come one after another
        start_s = time.perf_counter()
        gallery.add(made, rows)
        return rows, time.perf_counter() - start_s


def exact(rows: NDArray[np.float16], queries: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    """Search with numpy: the 100 best items of each query, (Q, 100), and the seconds of a single query."""
    held = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), BLOCK):
        held[start : start + BLOCK] = rows[start : start + BLOCK]
    best = np.empty((len(queries), 100), np.int64)
    for first in range(0, len(queries), 10):
        scores = queries[first : first + 10] @ held.T
        top = np.argpartition(scores, -100, axis=1)[:, -100:]
        order = np.argsort(-np.take_along_axis(scores, top, 1), axis=1)
        best[first : first + 10] = np.take_along_axis(top, order, 1)

    def one(query: NDArray[np.float32]) -> None:
        scores = held @ query
        top = np.argpartition(scores, -10)[-10:]
        top[np.argsort(-scores[top])]

    return best, seconds_each(one, queries[:21])


def seconds_each(search: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32]) -> float:
    """Measure a search with one query at a time: the median in seconds."""
    search(queries[0])
    times = []
    for query in queries:
        start = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure(folder: Path, kind: str, queries: NDArray[np.float32], best: NDArray[np.int64]) -> dict[str, Any]:
    """Build one kind of index and measure it."""
    found: dict[str, Any] = {"kind": kind}
    for file in folder.glob("index*"):
        file.unlink()
    with Gallery(folder) as gallery:
        start = time.perf_counter()
        gallery.choose_index(Choice(kind))
        found["build_s"] = time.perf_counter() - start
        for depth in (10, 100):
            right = 0
            for query, expected in zip(queries, best, strict=True):
                names = {f"items/{at}" for at in expected[:depth]}
                right += sum(hit.id in names for hit in gallery.search_vector(query, depth))
            found[f"recall@{depth}"] = right / (depth * len(queries))
        found["search_s"] = seconds_each(lambda query: gallery.search_vector(query, 10), queries)
        with gallery._store.reading():
            gallery._index.catch_up(gallery._store)
            index = gallery._index
            found["search_index_s"] = seconds_each(lambda query: index.search(query[None], 10), queries)
        found["own_recall@10"] = gallery.info()["index"].get("recall@10", 1.0)
        found["resident_bytes"] = gallery._index.resident_bytes / len(gallery)
        written = sum(file.stat().st_size for file in folder.glob("index*"))
        found["index_bytes"] = written / len(gallery)
    np.save(folder.parent / "query.npy", queries[:1])
    opening = [
        [float(number) for number in result.stdout.split()]
        for _ in range(3)
        for result in [
            subprocess.run(
                [sys.executable, "-c", _OPEN, str(folder), str(folder.parent / "query.npy")],
                capture_output=True,
                text=True,
                check=True,
            )
        ]
    ]
    found["open_s"], found["open_with_imports_s"] = (
        float(value) for value in np.median(np.array(opening), axis=0)
    )
    with Gallery(folder) as gallery:
        added = vectors(1000, 1000, 7)
        start = time.perf_counter()
        gallery.add(catalog(f"added-{kind}", 1000), added)
        found["add_1000_s"] = time.perf_counter() - start
        start = time.perf_counter()
        hit = gallery.search_vector(added[0], 1)[0]
        found["search_after_add_s"] = time.perf_counter() - start
        assert hit.id == f"added-{kind}/0"
        start = time.perf_counter()
        gallery.remove([f"added-{kind}/{at}" for at in range(1000)])
        found["remove_1000_s"] = time.perf_counter() - start
        assert gallery.search_vector(added[0], 1)[0].id != hit.id
    return found


def main() -> None:
    """Measure every kind and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--per-object", type=int, default=100, help="items in a cluster")
    parser.add_argument("--kinds", default="exact,pq,codes,turbovec")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: the system's")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    if unknown := set(options.kinds.split(",")) - set(KINDS):
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(dir=options.folder) as working:
        folder = Path(working) / "gallery"
        clusters = max(1, options.items // options.per_object)
        made, filled = make(folder, options.items, clusters)
        queries = vectors(QUERIES, clusters, 5)
        best, numpy_s = exact(made, queries)
        store_bytes = sum(
            file.stat().st_size for file in folder.iterdir() if not file.name.startswith("index")
        )
        rows = []
        for kind in options.kinds.split(","):
            print(f"measuring {kind}", file=sys.stderr)
            try:
                found = measure(folder, kind, queries, best)
            except MissingExtra as error:
                print(error, file=sys.stderr)
                continue
            rows.append(found)
    result = {
        "items": options.items,
        "per_object": options.per_object,
        "queries": QUERIES,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "numpy_search_s": numpy_s,
        "fill_s": filled,
        "store_bytes_per_item": store_bytes / options.items,
        "kinds": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Lay the results out in Markdown."""
    items, numpy_s = result["items"], result["numpy_search_s"]
    times = 10_000_000 / items
    lines = [
        f"{items:,} items, {result['per_object']:,} to an object, {DIM}-D, "
        f"{result['queries']} queries, {result['machine']}; numpy exact search "
        f"takes {1000 * numpy_s:.1f} ms. Filled in {result['fill_s']:.0f} s; items and descriptors take "
        f"{result['store_bytes_per_item']:.0f} bytes per item on disk.",
        "",
        "| index | recall@10 | recall@100 | rate to numpy | ms | resident bytes | bytes on disk | build s "
        "| open + first search s | add 1,000 s | remove 1,000 s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['kind']} | {row['recall@10']:.3f} | {row['recall@100']:.3f} "
        f"| {numpy_s / row['search_s']:.1f} | {1000 * row['search_s']:.2f} | {row['resident_bytes']:.0f} "
        f"| {row['index_bytes']:.0f} | {row['build_s']:.1f} | {row['open_s']:.2f} "
        f"({row['open_with_imports_s']:.2f} with imports) "
        f"| {row['add_1000_s']:.2f} | {row['remove_1000_s']:.2f} |"
        for row in result["kinds"]
    ]
    lines += [
        "",
        f"Extrapolated, not measured: 10,000,000 items ({10_000_000 / items:g} times as many; linear in the "
        "number of items, which holds for kinds that scan everything).",
        "",
        "| index | GB resident | GB of index on disk | ms | build s | open + first search s |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['kind']} | {row['resident_bytes'] / 100:.2f} | {row['index_bytes'] / 100:.2f} "
        f"| {1000 * row['search_s'] * times:.0f} | {row['build_s'] * times:.0f} "
        f"| {row['open_s'] * times:.1f} |"
        for row in result["kinds"]
        if row["kind"] in ("exact", "pq", "codes", "turbovec")
    ]
    if items >= 100_000:
        lines += code_extrapolation(times, result)
    return "\n".join(lines)


def code_extrapolation(times: float, result: dict[str, Any]) -> list[str]:
    """Give 10,000,000 items at 128-D codes: a quarter of the components that `codes` was measured with."""
    measured = [row for row in result["kinds"] if row["kind"] == "codes"]
    if not measured:
        return []
    row = measured[0]
    resident = (DIM / 8 / 4 + 9) * 10_000_000 / 1e9
    return [
        "",
        f"With the codes reduced to 128 dimensions (--index codes --reduce 128), extrapolated as well: "
        f"{resident:.2f} GB resident and at most {1000 * row['search_s'] * times:.0f} ms; its recall is not "
        "known before it is measured on the collection.",
    ]


if __name__ == "__main__":
    main()
