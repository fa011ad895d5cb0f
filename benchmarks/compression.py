"""What compressing descriptors costs: mAP against bytes per descriptor, on real photos.

    python benchmarks/compression.py PHOTOS [PHOTOS ...] [--model imagenet-lite0] [--out compression]

PHOTOS is a catalog with queries and a gallery (splits test and train). Whatever is learnt (ranges, centroids,
means, principal components) is learnt from the gallery's descriptors, never from queries. Queries stay in
fp32: only what would be stored is compressed, except where a row says "both sides". A compressed descriptor
is scored as what it decodes to. PQ is 4-bit, 16 centroids to a part, as in the galleries of cfcd. Differences
are paired over queries, with 95 % bootstrap intervals.

Writes compression.md, compression.json and compression.png (with matplotlib, from the extra train) into OUT.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd import load_model, read_catalog
from cfcd.encoding.bulk import encode_items
from cfcd.errors import PictureError
from cfcd.evaluation import average_precision, paired_difference
from cfcd.evaluation.metrics import rankings
from cfcd.gallery.indexes.reduction import Reduction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]
    Method = tuple[str, float, Rows, Rows]  # name, bytes per descriptor, queries, gallery as decoded


def int8(gallery: Rows) -> Rows:
    """Round each component to 256 steps between its least and greatest value in the gallery."""
    least, most = gallery.min(0), gallery.max(0)
    step = np.maximum(most - least, 1e-12) / 255
    rounded: Rows = (least + np.round((gallery - least) / step) * step).astype(np.float32)
    return rounded


def signs(rows: Rows, mean: Rows) -> Rows:
    """Keep of each component whether it is above the gallery's mean."""
    return np.where(rows > mean, 1, -1).astype(np.float32)


def product(gallery: Rows, size: int) -> Rows | None:
    """Quantise to `size` bytes of 4-bit codes; None where the components cannot be cut into so many parts."""
    import faiss

    library: Any = faiss
    dim, parts = gallery.shape[1], 2 * size
    if parts > dim or dim % parts:
        return None
    quantizer = library.ProductQuantizer(dim, parts, 4)
    # Few rows are shown several times: k-means would complain of them on stderr.
    quantizer.train(np.ascontiguousarray(np.resize(gallery, (max(640, len(gallery)), dim))))
    decoded: Rows = quantizer.decode(quantizer.compute_codes(np.ascontiguousarray(gallery)))
    return decoded


def methods(queries: Rows, gallery: Rows) -> Iterator[Method]:
    """Compress the gallery in every way."""
    dim = gallery.shape[1]
    yield "fp32", 4 * dim, queries, gallery
    yield "fp16", 2 * dim, queries, gallery.astype(np.float16).astype(np.float32)
    yield "int8", dim, queries, int8(gallery)
    for size in (128, 64, 32):
        decoded = product(gallery, size)
        if decoded is not None:
            yield f"PQ {size} bytes", size, queries, decoded
    mean = gallery.mean(0)
    spread = np.abs(gallery - mean).mean(0)
    yield "1-bit", dim / 8, queries, mean + signs(gallery, mean) * spread
    yield "1-bit, both sides", dim / 8, signs(queries, mean), signs(gallery, mean)
    for kept in (256, 128):
        if kept >= dim:
            continue
        for name, whiten in ((f"PCA {kept}", False), (f"PCA-whitened {kept}", True)):
            reduction = Reduction.learn(gallery, kept, whiten=whiten)
            fewer, stored = reduction.apply(queries), reduction.apply(gallery)
            yield f"{name}, fp16", 2 * kept, fewer, stored.astype(np.float16).astype(np.float32)
            yield f"{name}, int8", kept, fewer, int8(stored)
            decoded = product(stored, kept // 8)
            if decoded is not None:
                yield f"{name}, PQ {kept // 8} bytes", kept / 8, fewer, decoded


def precisions(queries: Rows, gallery: Rows, right: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Compute the average precision of each query, in percent."""
    nowhere = np.full(len(queries), -1)
    found = zip(rankings(queries, gallery, nowhere), right, strict=True)
    return np.array(
        [100 * average_precision(ranking.ranks_of(places), len(places)) for ranking, places in found]
    )


def measure(photos: Path, model: str, size: int | None) -> dict[str, Any]:
    """Encode a collection and measure every method on it."""
    catalog = read_catalog(photos)
    sides = catalog.query_gallery()
    if sides is None:
        raise SystemExit(f"{photos} has no queries and gallery: give it splits test and train.")
    encoder = load_model(model, long_side=size)
    wanted = [catalog[at] for side in sides for at in side]
    is_query = np.arange(len(wanted)) < len(sides[0])
    vectors, labels, kept = [], [], []
    for at, (job, result) in enumerate(encode_items(encoder, wanted)):
        if not isinstance(result, PictureError) and job.item.label is not None:
            vectors.append(result)
            labels.append(job.item.label)
            kept.append(at)
    rows, names, asked = np.array(vectors, np.float32), np.array(labels), is_query[kept]
    queries, gallery, gallery_names = rows[asked], rows[~asked], names[~asked]
    right = [np.flatnonzero(gallery_names == name) for name in names[asked]]
    usable = [at for at, places in enumerate(right) if len(places)]
    queries, right = queries[usable], [right[at] for at in usable]
    results: list[dict[str, Any]] = []
    whole: NDArray[np.float64] | None = None
    for name, size_bytes, asked_rows, decoded in methods(queries, gallery):
        each = precisions(asked_rows, decoded, right)
        whole = each if whole is None else whole
        results.append({"method": name, "bytes": size_bytes, "mAP": float(each.mean())})
        if each is not whole:
            paired = paired_difference(whole, each)
            results[-1]["difference"] = (paired.mean, paired.low, paired.high)
    return {
        "photos": photos.name,
        "model": encoder.model.label,
        "dim": int(rows.shape[1]),
        "queries": len(queries),
        "gallery": len(gallery),
        "methods": results,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Lay the results out in Markdown, one table for each collection."""
    lines = []
    for result in results:
        lines += [
            f"{result['photos']}: {result['queries']} queries, {result['gallery']} in the gallery, "
            f"{result['model']}, {result['dim']}-D",
            "",
            "| stored as | bytes | mAP | difference to fp32 |",
            "|---|---|---|---|",
        ]
        for row in result["methods"]:
            value, low, high = row.get("difference", (0, 0, 0))
            shown = f"{value:+.2f} ({low:+.2f} to {high:+.2f})" if "difference" in row else ""
            lines.append(f"| {row['method']} | {row['bytes']:g} | {row['mAP']:.2f} | {shown} |")
        lines.append("")
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], file: Path) -> None:
    """Draw what each method loses against fp32; what loses more than is shown stands at the floor."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(6 * len(results), 4.5), squeeze=False)
    for one, result in zip(axes[0], results, strict=True):
        for family, marker in _FAMILIES.items():
            rows = [row for row in result["methods"] if _family(row["method"]) == family]
            rows.sort(key=lambda row: row["bytes"])
            lost = [row.get("difference", (0.0,))[0] for row in rows]
            sizes = [row["bytes"] for row in rows]
            (line,) = one.plot(sizes, np.maximum(lost, _FLOOR), marker, label=family)
            for size, value in zip(sizes, lost, strict=True):
                if value < _FLOOR:
                    one.annotate(
                        f"{value:.0f}",
                        (size, _FLOOR),
                        (0, 6),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8,
                        color=line.get_color(),
                    )
        one.set_xscale("log", base=2)
        one.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        one.set(
            xlabel="bytes per stored descriptor",
            ylabel="mAP less that of fp32",
            ylim=(_FLOOR, 1),
            title=f"{result['photos']}: fp32 has {result['methods'][0]['mAP']:.1f}",
        )
        one.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(file, dpi=110)


_FLOOR = -8
_FAMILIES = {
    "fp32, fp16, int8": "o",
    "PQ": "s",
    "1-bit": "^",
    "1-bit, both sides": "v",
    "PCA, fp16 and int8": "D",
    "PCA, PQ": "P",
    "PCA-whitened": "x",
}


def _family(method: str) -> str:
    if method.startswith("PCA-whitened"):
        return "PCA-whitened"
    if method.startswith("PCA"):
        return "PCA, PQ" if "PQ" in method else "PCA, fp16 and int8"
    return next(
        (name for name in ("PQ", "1-bit, both sides", "1-bit") if method.startswith(name)), "fp32, fp16, int8"
    )


def main() -> None:
    """Measure every collection and write table and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--model", default="imagenet-lite0")
    parser.add_argument("--size", type=int, default=None, help="limit of the long side in pixels")
    parser.add_argument("--out", type=Path, default=Path("compression"))
    options = parser.parse_args()
    results = [measure(photos, options.model, options.size) for photos in options.photos]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "compression.json").write_text(json.dumps(results, indent=2) + "\n")
    (options.out / "compression.md").write_text(table(results))
    print(table(results))
    try:
        plot(results, options.out / "compression.png")
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'cfcd[train]')")


if __name__ == "__main__":
    main()
