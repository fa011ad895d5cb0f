"""Filters, expansion, combined queries and what hits carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cfcd.errors import GalleryError, UsageError
from cfcd.gallery import Gallery
from cfcd.gallery import selection as selection_room
from cfcd.gallery.query import combine, expand_query
from cfcd.gallery.selection import Selection
from tests.gallery.search_support import DIM, make_catalog, make_gallery, objects

ROWS, LABELS = objects(30, 4, 0.5)
YEARS = [str(1900 + at) for at in range(len(ROWS))]
QUERY = ROWS[17]


@pytest.fixture(params=["few rows", "by the index"])
def gallery(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gallery]:
    if request.param == "by the index":
        monkeypatch.setattr(selection_room, "FEW_ROWS", -1)
    with make_gallery(tmp_path / "g", ROWS, LABELS, year=YEARS) as opened:
        yield opened


def slow(allowed: list[int], query: np.ndarray = QUERY, k: int = 10) -> list[str]:
    scores = ROWS.astype(np.float64) @ query.astype(np.float64)
    return [f"item{at}" for at in sorted(allowed, key=lambda at: (-scores[at], at))[:k]]


def ids(hits: list) -> list[str]:
    return [hit.id for hit in hits]


def test_filters_find_what_the_slow_way_finds(gallery: Gallery) -> None:
    late = [at for at in range(len(ROWS)) if at >= 60]
    assert ids(gallery.search_vector(QUERY, where="year >= 1960")) == slow(late)
    some = [at for at in range(len(ROWS)) if LABELS[at] in ("object 3", "object 9")]
    assert ids(gallery.search_vector(QUERY, labels=["object 3", "object 9", "none"])) == slow(some)
    assert ids(gallery.search_vector(QUERY, labels="object 3")) == slow([12, 13, 14, 15])
    assert ids(gallery.search_vector(QUERY, ids=["item5", "item80", "gone"])) == slow([5, 80])
    both = gallery.search_vector(QUERY, where="year < 1914", labels=["object 3"], ids=["item12", "item15"])
    assert ids(both) == ["item12"]
    assert gallery.search_vector(QUERY, labels=[]) == []
    assert gallery.search_vector(QUERY, where="year < 0", expand=3) == []


def test_a_selection_is_shared_until_the_gallery_changes(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    whole = Selection._look_up
    monkeypatch.setattr(Selection, "_look_up", lambda self, store: looked_up.append(1) or whole(self, store))
    selection, chosen = gallery.select("year >= 1960", labels=["object 20", "object 1", "nowhere"])
    assert chosen.unknown == ("nowhere",)
    for _ in range(3):
        assert set(ids(gallery.search_vector(QUERY, where=selection))) == {
            f"item{at}" for at in range(80, 84)
        }
    assert len(looked_up) == 1
    gallery.remove(["item80"])
    assert set(ids(gallery.search_vector(QUERY, where=selection))) == {"item81", "item82", "item83"}
    assert len(looked_up) == 2
    with pytest.raises(UsageError, match="selection and ids"):
        gallery.search_vector(QUERY, where=selection, ids=["item1"])


def test_search_by_id_within_a_filter_leaves_the_item_out(gallery: Gallery) -> None:
    assert ids(gallery.search_id("item17", labels=["object 4"])) == slow([16, 18, 19])
    assert ids(gallery.search_id("item17", k=2, where="year < 1920")) == slow(
        [at for at in range(20) if at != 17], k=2
    )


def test_bad_filters(gallery: Gallery) -> None:
    with pytest.raises(UsageError, match="no column 'yaer'; the nearest is 'year'"):
        gallery.search_vector(QUERY, where="yaer > 1960")
    with pytest.raises(UsageError, match="ends where"):
        gallery.search_vector(QUERY, where="year >")
    with pytest.raises(UsageError, match="k is 0"):
        gallery.search_vector(QUERY, 0)
    with pytest.raises(UsageError, match="-1 hits"):
        gallery.search_vector(QUERY, expand=-1)


def test_hits_carry_their_row_uri_and_on_request_descriptor(gallery: Gallery) -> None:
    hit = gallery.search_vector(QUERY, 1)[0]
    assert (hit.id, hit.item.extra["year"], hit.uri) == ("item17", "1917", "file:///photos/item%2017.jpg")
    assert hit.descriptor is None
    assert "descriptor" not in hit.to_json()
    hit = gallery.search_vector(QUERY, 1, descriptors=True)[0]
    assert np.allclose(hit.descriptor, QUERY / np.linalg.norm(QUERY), atol=1e-6)
    assert len(hit.to_json()["descriptor"]) == DIM
    assert np.allclose(gallery.descriptor("item17"), hit.descriptor)
    assert gallery.search_id("item16", 1, descriptors=True)[0].descriptor is not None


def test_expansion_is_the_formula(gallery: Gallery) -> None:
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    scores = unit @ unit[17]
    best = np.argsort(-scores)[:5]
    moved = unit[17].astype(np.float64)
    for at in best:
        moved = moved + max(0.0, float(scores[at])) ** 3 * unit[at]
    expected = moved / np.linalg.norm(moved)
    assert np.allclose(expand_query(unit[17], unit[best]), expected, atol=1e-6)
    hits = gallery.search_vector(QUERY, 8, expand=5)
    assert ids(hits) == slow(list(range(len(ROWS))), expected, 8)
    assert hits[0].score == pytest.approx(float((ROWS @ expected).max()), abs=1e-4)


def test_search_by_picture_takes_the_same_options(gallery: Gallery) -> None:
    gallery.encoder = SimpleNamespace(encode=lambda picture, box=None: QUERY[None])
    hits = gallery.search("x.jpg", 3, where="year < 1920", expand=2, descriptors=True)
    assert ids(hits) == ids(gallery.search_vector(QUERY, 3, where="year < 1920", expand=2))
    assert hits[0].descriptor is not None


def test_combined_queries_leave_out_what_they_are_told(gallery: Gallery) -> None:
    query = combine([gallery.descriptor("item16"), gallery.descriptor("item17")], gallery.descriptor("item0"))
    hits = gallery.search_vector(query, 200, without=["item16", "item17"])
    assert len(hits) == len(ROWS) - 2
    assert not {"item16", "item17"} & set(ids(hits))
    assert {hit.id for hit in hits[:2]} == {"item18", "item19"}
    with pytest.raises(GalleryError, match="no item 'nothing'"):
        gallery.search_vector(query, without=["nothing"])


def test_combine_is_the_formula() -> None:
    plus, minus = ROWS[:3] * 7, ROWS[50:52] * 0.1
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    expected = unit(plus).mean(axis=0) - 0.5 * unit(minus).mean(axis=0)
    assert np.allclose(combine(plus, minus), expected / np.linalg.norm(expected), atol=1e-6)
    assert np.allclose(combine(ROWS[3] * 2), ROWS[3] / np.linalg.norm(ROWS[3]), atol=1e-6)
    assert np.allclose(combine(ROWS[3], []), combine([ROWS[3]]))
    for positives, negatives in (([], None), (np.zeros(DIM), None), (ROWS[0], np.full(DIM, np.nan))):
        with pytest.raises(UsageError, match="descriptors"):
            combine(positives, negatives)
    with pytest.raises(UsageError, match="cancel"):
        combine(ROWS[0], ROWS[0], minus=1.0)
    with pytest.raises(UsageError, match="cannot be combined"):
        combine(ROWS[0], np.ones(3))


def test_a_store_without_sqlite_is_asked_alike(gallery: Gallery) -> None:
    catalog = make_catalog(LABELS, year=YEARS)
    items = [SimpleNamespace(number=at + 1, item=item) for at, item in enumerate(catalog)]
    elsewhere = SimpleNamespace(
        folder="milvus",
        generation=3,
        token=lambda _: b"x",
        items=lambda: items,
        descriptors=lambda numbers: ROWS[numbers - 1],
    )
    chosen = Selection("year >= 1960", labels=["object 20"]).choose(elsewhere)
    assert chosen.numbers.tolist() == [81, 82, 83, 84]
