"""The changing half of a gallery: update, add, remove; one writer at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Catalog
from cfcd.encoding.encoder import Encoder
from cfcd.encoding.shards import Encoded, FileStamp
from cfcd.errors import CfcdError
from cfcd.gallery.adding import add
from cfcd.gallery.intake import CatalogIntake, EncodedIntake
from cfcd.gallery.truth.healing import healing
from cfcd.gallery.truth.repair import only_writer_of
from cfcd.gallery.truth.store import Store
from cfcd.gallery.update import UpdateSummary, update

if TYPE_CHECKING:
    from numpy.typing import NDArray

# An index in a reader's memory that is more changes behind than this is built anew after a compaction.
_KEPT_GENERATIONS = 1000


class Changing:
    """Change a gallery; `Gallery` inherits from it and brings what is declared here."""

    folder: Path
    dim: int

    if TYPE_CHECKING:

        @property
        def encoder(self) -> Encoder: ...  # noqa: D102

        def _check_identity(
            self, identity: str, label: str, long_side: int | None, scales: Iterable[float]
        ) -> None: ...
        def _save_index(self, store: Store) -> None: ...

    @healing
    def update(
        self,
        data: Catalog | Encoded,
        *,
        remove_missing: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> UpdateSummary:
        """Bring the items that come from this catalog in line with it; items of other catalogs stay.

        New and changed pictures are encoded, renamed ones keep their descriptors, what the catalog no
        longer lists is removed. Finished batches survive whatever interrupts the update.

        Args:
            data: A catalog, or a folder encoded before.
            remove_missing: False only adds and changes.
            progress: Called with (done, total) pictures to encode.

        Raises:
            IdentityMismatch: `data` was encoded with another model.
            BusyError: Another process writes to the gallery now.
        """
        if isinstance(data, Encoded):
            made = data.settings["preprocessing"]
            self._check_identity(
                data.identity, str(data.settings["model"]), made["long_side"], made["scales"]
            )
            intake: CatalogIntake | EncodedIntake = EncodedIntake(data)
            retry = True
        else:
            intake = CatalogIntake(data, self.encoder)
            retry = self.encoder.reading.allow_truncated
        with self._writing() as writer:
            return update(
                writer, intake, remove_missing=remove_missing, retry_skipped=retry, progress=progress
            )

    @healing
    def add(
        self,
        catalog: Catalog,
        descriptors: NDArray[np.floating[Any]],
        *,
        source: str | None = None,
        stamps: Sequence[FileStamp] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> UpdateSummary:
        """Add many items whose descriptors are at hand; no picture is read and nothing is removed.

        A row that the gallery holds already, from the same source under the same id, is replaced. An id
        that another source has taken gets the source's name before it, as in `update`. Rows come in
        batches of 4,096: finished batches survive whatever interrupts.

        Args:
            catalog: N rows with ids of their own; only the words in it are used.
            descriptors: (N, D) fp16 or fp32 of this gallery's model; a memory map will do. Rows of unit
                length are stored as fp16 bit for bit, others are normalised first.
            source: What the rows come from; by default the catalog's own source.
            stamps: What the files looked like when they were encoded; without, an `update` of the same
                source encodes them again.
            progress: Called with (done, total) rows.

        Raises:
            UsageError: The shape is wrong, an id comes twice, or a descriptor is zero or not finite.
            BusyError: Another process writes to the gallery now.
        """
        with self._writing() as writer:
            return add(
                writer, catalog, descriptors, self.dim, source=source, stamps=stamps, progress=progress
            )

    @healing
    def remove(self, ids: Iterable[str]) -> list[str]:
        """Remove items by id, all in one transaction.

        Returns:
            The ids that the gallery did not hold.
        """
        with self._writing() as writer:
            found, unknown = [], []
            for item_id in dict.fromkeys(ids):
                stored = writer.find(item_id)
                if stored is None:
                    unknown.append(item_id)
                else:
                    found.append(stored.number)
            if found:
                with writer.changing() as generation:
                    writer.remove(found, generation)
            return unknown

    @healing
    def remove_source(self, source: str) -> int:
        """Remove everything that was indexed from one folder or table, all in one transaction.

        Args:
            source: As `info` names it.

        Returns:
            How many items it was.
        """
        with self._writing() as writer:
            numbers = [stored.number for stored in writer.items(source)]
            with writer.changing() as generation:
                writer.remove(numbers, generation)
                writer.replace_skipped(source, {})
            return len(numbers)

    @healing
    def compact(self) -> int:
        """Write the gallery's files anew without what was changed or removed since.

        Needs free space of about twice the gallery's size while it runs; searches go on.

        Returns:
            How many bytes it takes less than before.

        Raises:
            GalleryError: The disk is full; the gallery is as it was.
            BusyError: Another process writes to the gallery now.
        """
        before = self._bytes()
        with self._writing() as writer:
            writer.rewrite(_KEPT_GENERATIONS)
        return before - self._bytes()

    def _bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())

    @contextmanager
    def _writing(self) -> Iterator[Store]:
        """Open the store as its only writer; the index follows, also after an interrupt."""
        with only_writer_of(self.folder) as tell:
            writer = Store(self.folder, write=True)
            tell("writing")
            try:
                with writer.noticing():
                    yield writer
            except BaseException:
                # The first error is the one to tell; readers catch up with what is not in the index.
                with suppress(CfcdError, OSError, sqlite3.Error):
                    self._save_index(writer)
                raise
            else:
                self._save_index(writer)
            finally:
                writer.close()
