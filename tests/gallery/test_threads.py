"""How many threads faiss works in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import pytest

from cfcd.gallery.indexes.search_index import ExactIndex
from cfcd.gallery.indexes.threads import one_thread
from tests.gallery.search_support import make_gallery, objects


def test_the_number_is_put_back_and_is_that_of_the_calling_thread() -> None:
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(3)
        with ThreadPoolExecutor(1) as threads:
            other = threads.submit(faiss.omp_get_max_threads).result()
            with pytest.raises(ValueError, match="inside"), one_thread():
                assert faiss.omp_get_max_threads() == 1
                assert threads.submit(faiss.omp_get_max_threads).result() == other
                raise ValueError("inside")
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_one_query_is_searched_in_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = objects(5, 4, 0.3)
    seen = []
    search = ExactIndex.search

    def noted(index: ExactIndex, *args: Any) -> Any:
        seen.append(faiss.omp_get_max_threads())
        return search(index, *args)

    monkeypatch.setattr(ExactIndex, "search", noted)
    with make_gallery(tmp_path / "g", rows, list(labels)) as gallery:
        assert gallery.search_vector(rows[3], 2, expand=1)[0].id == "item3"
    assert seen == [1, 1]
