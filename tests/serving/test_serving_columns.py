from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cfcd.gallery import Gallery
from cfcd.serving import columns as room
from cfcd.serving.columns import ColumnsCache, read_columns
from cfcd.serving.holding import HeldGallery
from tests.serving.service_support import gallery_of_rows, rows, small_encoder


def _gallery(folder: Path, count: int, **columns: list[Any]) -> HeldGallery:
    gallery_of_rows(folder, rows(count), "item", **columns)
    return HeldGallery(folder, small_encoder())


def test_columns_have_kinds_and_their_most_frequent_values(tmp_path: Path) -> None:
    cities = [None if n % 10 == 9 else ("Nice", "Paris", "Nice", "")[n % 4] for n in range(80)]
    years: list[Any] = [1990 + n % 3 for n in range(80)]
    mixed: list[Any] = [n % 2 or "odd" for n in range(80)]
    tags: list[Any] = [["a", "list"] for _ in range(80)]
    numbers = [f"no {n}" for n in range(80)]
    with _gallery(
        tmp_path / "g", 80, city=cities, year=years, mixed=mixed, tags=tags, code=numbers
    ) as gallery:
        found = {column.name: column for column in read_columns(gallery).columns}
    assert set(found) == {"city", "year", "mixed", "code"}
    frequent = [city for city, _ in Counter(filter(None, cities)).most_common()]
    assert found["city"].values == tuple(frequent)
    assert (found["city"].kind, found["city"].count_distinct) == ("text", 2)
    assert found["year"].kind == "number"
    assert set(found["year"].values or ()) == {1990, 1991, 1992}
    assert found["mixed"].kind == "text"
    assert (found["code"].values, found["code"].count_distinct) == (None, 80)  # all have their own


def test_at_most_fifty_values_and_a_hundred_columns(tmp_path: Path) -> None:
    many = [f"v{min(n % 75, n // 2)}" for n in range(150)]
    others: dict[str, list[Any]] = {f"c{n}": [1] * 150 for n in range(120)}
    with _gallery(tmp_path / "g", 150, many=many, **others) as gallery:
        found = read_columns(gallery).columns
    assert len(found) <= room.MOST_COLUMNS
    values = next(column for column in found if column.name == "many").values
    assert values is not None
    assert len(values) == room.MOST_VALUES
    assert values[0] == Counter(many).most_common(1)[0][0]


def test_a_large_gallery_is_sampled_all_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quarter = [f"q{n // 100}" for n in range(400)]
    turn = [n % 50 for n in range(400)]
    with _gallery(tmp_path / "g", 400, quarter=quarter, turn=turn) as gallery:
        whole = read_columns(gallery)
        monkeypatch.setattr(room, "SAMPLE", 80)
        sampled = list(room._rows(gallery))
        assert len(sampled) == 80
        turns = {cells["turn"] for cells in sampled}
        assert len(turns) > 20  # what comes back in equal steps is not missed
        assert set(read_columns(gallery).columns[0].values or ()) == set(whole.columns[0].values or ())


def test_columns_are_read_once_per_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    with _gallery(tmp_path / "g", 5, city=["Nice"] * 5) as gallery:

        def counted(one: Gallery) -> room.Columns:
            reads.append(one)
            return read_columns(one)

        monkeypatch.setattr(room, "read_columns", counted)
        cache = ColumnsCache()
        first = cache.of(gallery, "model", 5, 1)
        assert cache.of(gallery, "model", 5, 1) is first
        assert len(reads) == 1
        assert cache.of(gallery, "model", 5, 2) == first
        assert cache.of(gallery, "other", 5, 2) == first
        assert len(reads) == 3
        cache.of(gallery, "other", room.SAMPLE + 1, 3)
        cache.of(gallery, "other", room.SAMPLE + 1, 4)  # a large one may be some seconds old
        assert len(reads) == 4
        cache.of(gallery, "model", room.SAMPLE + 1, 4)
        assert len(reads) == 5
