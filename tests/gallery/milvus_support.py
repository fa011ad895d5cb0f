"""What tests of a gallery on a Milvus server share: everything is done in a folder as well."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest

from cfcd.catalog import Catalog
from cfcd.gallery import Gallery, UpdateSummary
from tests.support import make_photo

Cli = Callable[..., subprocess.CompletedProcess[str]]
needs_client = pytest.mark.skipif(find_spec("pymilvus") is None, reason="pymilvus is not installed")


def counts(summary: UpdateSummary) -> dict[str, object]:
    skipped = {key: (row.path, row.reason) for key, row in summary.skipped.items()}
    return {**summary.counts(), "skipped": skipped}


def alike(folder: Gallery, remote: Gallery) -> None:
    """Both hold the same items with the same descriptors, and find the same."""
    (items, our_rows), (remote_items, their_rows) = folder.contents(), remote.contents()
    assert len(folder) == len(remote_items)
    assert sorted(items, key=lambda item: item.id) == sorted(remote_items, key=lambda item: item.id)
    order = np.argsort(items.ids), np.argsort(remote_items.ids)
    assert np.array_equal(our_rows[order[0]], their_rows[order[1]])
    query = folder.encoder.encode(make_photo(0, (90, 70)))[0]
    hits, remote_hits = folder.search_vector(query, 100), remote.search_vector(query, 100)
    assert {hit.id: hit.item for hit in hits} == {hit.id: hit.item for hit in remote_hits}
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in remote_hits], abs=1e-6)
    assert [hit.rank for hit in remote_hits] == list(range(1, len(hits) + 1))
    ours, theirs = folder.info(), remote.info()
    for name in ("items", "labels", "sources", "skipped", "identity", "model", "dim", "long_side", "scales"):
        assert ours[name] == theirs[name], name


def update_both(both: tuple[Gallery, Gallery], catalog: Catalog, **options: bool) -> dict[str, object]:
    one, other = (counts(gallery.update(catalog, **options)) for gallery in both)
    assert one == other
    alike(*both)
    return one
