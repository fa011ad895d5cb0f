"""Write the descriptors and rows of a gallery for other programs: Parquet, `.npy`, or autofaiss's folder."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import GalleryError, UsageError
from cfcd.files import atomic_write, is_free, sync_folder, write_json
from cfcd.gallery.exchange.origin import BLOCK, DESCRIPTOR, METADATA_KEY, Origin, beside
from cfcd.gallery.exchange.rows import base_columns, descriptor_column, extra_columns, rows_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.gallery import Gallery
    from cfcd.gallery.truth.rows import StoredItem
    from cfcd.gallery.truth.store import Store

Progress = Callable[[int, int], None]
DTYPES = ("float16", "float32")
# Rows of one .npy of a folder: 1,280 numbers each in fp16 make 250 MB.
PART_ROWS = 12 * BLOCK


@dataclass(frozen=True)
class ExportSummary:
    """What was written, and how long it took in seconds."""

    files: tuple[Path, ...]
    items: int
    dim: int
    dtype: str
    seconds: float

    def text(self) -> str:
        """Give the summary in one line."""
        shown = ", ".join(map(str, self.files[:4])) + (", ..." if len(self.files) > 4 else "")
        return f"wrote {self.items:,} x {self.dim} {self.dtype} to {shown} ({self.seconds:.1f} s)"

    def to_json(self) -> dict[str, Any]:
        """Give the summary as plain data."""
        return {
            "files": [str(file) for file in self.files],
            "items": self.items,
            "dim": self.dim,
            "dtype": self.dtype,
            "seconds": round(self.seconds, 3),
        }


def export_gallery(
    gallery: Gallery, out: str | Path, *, dtype: str = "float16", progress: Progress | None = None
) -> ExportSummary:
    """Export all items of one generation, block by block; files and folders appear whole or not at all.

    Args:
        gallery: What to export.
        out: NAME.parquet: one table with a column `descriptor` of fixed-size lists. NAME.npy: the
            descriptors, their ids as NAME.ids.txt and their model as NAME.cfcd.json. Any other name: a new
            folder as clip-retrieval makes and autofaiss reads it, img_emb/img_emb_0.npy and
            metadata/metadata_0.parquet with `image_path`, and so on, and cfcd.json.
        dtype: "float16", what a gallery holds, or "float32", the same numbers.
        progress: Called with (done, total) items.

    Raises:
        UsageError: Another `dtype`.
        GalleryError: The gallery is empty, the folder is not, or an id does not fit on a line of text.
    """
    start = time.monotonic()
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}.", f"Give one of {', '.join(DTYPES)}.")
    out = Path(out)
    with gallery._store.reading():
        work = _Export(gallery, gallery._store, np.dtype(dtype), progress)
        if not work.count:
            raise GalleryError(f"{gallery.name} holds nothing to export.", "Index pictures first.")
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix.lower() in {".parquet", ".pq"}:
            files = work.to_parquet(out)
        elif out.suffix.lower() == ".npy":
            files = work.to_array(out)
        else:
            files = work.to_folder(out)
        return ExportSummary(tuple(files), work.count, gallery.dim, dtype, time.monotonic() - start)


class _Export:
    def __init__(
        self, gallery: Gallery, store: Store, dtype: np.dtype[Any], progress: Progress | None
    ) -> None:
        self.store, self.dim, self.dtype, self.progress = store, gallery.dim, dtype, progress
        self.count = len(store)
        self._reference = store.meta("model_reference")
        self._gallery = gallery

    def origin(self, extra: dict[str, tuple[str, str, str]]) -> Origin:
        own = self._gallery
        return Origin(
            own.identity,
            own.model_label,
            self._reference,
            own.dim,
            own.long_side,
            own.scales,
            self.count,
            {column: (name, way) for column, (name, way, _) in extra.items()},
        )

    def blocks(self) -> Iterator[tuple[list[StoredItem], NDArray[Any]]]:
        """Give rows and descriptors, BLOCK of them and in the end the rest."""
        items = self.store.items()
        done = 0
        for numbers, vectors in self.store.descriptors_above(0, self.dim, block=BLOCK):
            rows = list(itertools.islice(items, len(numbers)))
            if [row.number for row in rows] != numbers.tolist():
                raise GalleryError(
                    f"{self._gallery.name} has items without descriptors.", "Index the pictures again."
                )
            done += len(rows)
            if self.progress:
                self.progress(done, self.count)
            yield rows, vectors.astype(self.dtype)

    def extra(self) -> dict[str, tuple[str, str, str]]:
        items = (row.item for row in self.store.items())
        return extra_columns(items, [*base_columns(), "image_path"])

    def to_parquet(self, out: Path) -> list[Path]:
        import pyarrow.parquet

        extra = self.extra()
        origin = self.origin(extra)
        with atomic_write(out) as file, ExitStack() as stack:
            writer = None
            for rows, vectors in self.blocks():
                table = rows_table(rows, extra).append_column(DESCRIPTOR, descriptor_column(vectors))
                table = _described(table, origin)
                if writer is None:
                    # Random bits do not compress: only the words are worth a dictionary.
                    words = [name for name in table.column_names if name != DESCRIPTOR]
                    writer = stack.enter_context(
                        pyarrow.parquet.ParquetWriter(file, table.schema, use_dictionary=words)
                    )
                writer.write_table(table)
        return [out]

    def to_array(self, out: Path) -> list[Path]:
        files = [beside(out, "ids.txt"), beside(out, "cfcd.json"), out]
        with atomic_write(files[0]) as ids, atomic_write(out) as array:
            _write_header(array, (self.count, self.dim), self.dtype)
            for rows, vectors in self.blocks():
                for row in rows:
                    if len(row.item.id.splitlines()) != 1:
                        raise GalleryError(
                            f"The id {row.item.id!r} does not fit on a line of {files[0].name}.",
                            "Export to NAME.parquet.",
                        )
                    ids.write(row.item.id.encode() + b"\n")
                array.write(np.ascontiguousarray(vectors).tobytes())
            write_json(files[1], self.origin({}).to_json())
        return files

    def to_folder(self, out: Path) -> list[Path]:
        if not is_free(out):
            raise GalleryError(
                f"{out} exists and is not empty.",
                "Give a new folder, or a name that ends in .parquet or .npy.",
            )
        # Made beside its place: a folder with some of the parts would read like a smaller collection.
        temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        try:
            files = self._fill(temporary)
            if out.exists():
                shutil.rmtree(out)
            temporary.replace(out)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(out.parent)
        return [out / file.relative_to(temporary) for file in files]

    def _fill(self, folder: Path) -> list[Path]:
        import pyarrow.parquet

        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(parents=True)
        extra = self.extra()
        parts = math.ceil(self.count / PART_ROWS)
        digits = int(math.log10(parts)) + 1  # as clip-retrieval does: readers sort names as text
        files = []
        blocks = self.blocks()
        for part in range(parts):
            rows_here = min(PART_ROWS, self.count - part * PART_ROWS)
            array = folder / "img_emb" / f"img_emb_{part:0{digits}d}.npy"
            words = folder / "metadata" / f"metadata_{part:0{digits}d}.parquet"
            with atomic_write(array) as file, atomic_write(words) as table_file, ExitStack() as stack:
                _write_header(file, (rows_here, self.dim), self.dtype)
                writer = None
                for rows, vectors in itertools.islice(blocks, math.ceil(rows_here / BLOCK)):
                    file.write(np.ascontiguousarray(vectors).tobytes())
                    table = rows_table(rows, extra)
                    table = table.rename_columns(
                        ["image_path" if name == "path" else name for name in table.column_names]
                    )
                    if writer is None:
                        writer = stack.enter_context(pyarrow.parquet.ParquetWriter(table_file, table.schema))
                    writer.write_table(table)
            files += [array, words]
        write_json(folder / "cfcd.json", self.origin(extra).to_json())
        return [*files, folder / "cfcd.json"]


def _described(table: Any, origin: Origin) -> Any:
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(origin.to_json()).encode()})


def _write_header(file: IO[bytes], shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
