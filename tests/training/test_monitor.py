from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.catalog import Catalog, read_catalog  # noqa: E402
from cfcd.evaluation.folder import evaluate_descriptors  # noqa: E402
from cfcd.training.data import TrainingSet  # noqa: E402
from cfcd.training.monitor import Monitor  # noqa: E402
from cfcd.training.passes import Passes  # noqa: E402
from tests.support import make_photo  # noqa: E402
from tests.training.tables import table  # noqa: E402

if TYPE_CHECKING:
    from cfcd.training.crew import Crew
    from tests.training.conftest import TinyBuilt, TinyRecipe


def choose(catalog: Catalog, most: int) -> Monitor:
    monitor = Monitor.choose(catalog, TrainingSet.from_catalog(catalog), most)
    assert monitor is not None
    return monitor


def sides(monitor: Monitor) -> tuple[list[str], list[str]]:
    """Name the queries and the gallery."""
    ids = monitor.catalog.ids
    return [ids[row] for row in monitor.queries or ()], [ids[row] for row in monitor.gallery or ()]


def unit(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 4))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@st.composite
def two_sides(draw: st.DrawFn) -> Catalog:
    """Any labels, some unknown; rows are queries, of the gallery, both or neither; two classes at least."""
    kinds = st.sampled_from([(True, False), (False, True), (True, True), (False, False)])
    rows = draw(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), kinds), max_size=40))
    rows += [("a", (False, True)), ("b", (False, True)), ("a", (True, False))]
    order = draw(st.permutations(range(len(rows))))
    labels, flags = zip(*[rows[at] for at in order], strict=True)
    return table(list(labels), [query for query, _ in flags], [gallery for _, gallery in flags])


@settings(deadline=None)
@given(two_sides(), st.integers(2, 60))
def test_queries_and_gallery_are_those_of_the_catalog(catalog: Catalog, most: int) -> None:
    monitor = choose(catalog, most)
    queries, gallery = sides(monitor)
    assert 1 <= len(queries) <= max(1, most // 3)
    assert len(queries) + len(gallery) <= most
    every = catalog.query_gallery()
    assert every is not None
    # In the order of the catalog, which settles ties, and none twice.
    for some, whole in ((queries, every[0]), (gallery, every[1])):
        names = [catalog.ids[row] for row in whole]
        assert some == [name for name in names if name in some]
    # Nothing else is carried along.
    assert set(monitor.catalog.ids) == {*queries, *gallery}
    # Every query has another picture of its label in the whole gallery.
    labels = dict(zip(catalog.ids, catalog.labels or (), strict=True))
    for query in queries:
        others = [row for row in every[1] if catalog.ids[row] != query]
        assert labels[query] is not None
        assert labels[query] in [labels[catalog.ids[row]] for row in others]
    assert monitor.of == f"{len(queries)} queries in {len(gallery)} pictures"


def test_all_are_taken_where_they_fit() -> None:
    labels = [f"{number % 4}" for number in range(40)]
    flags = [number < 10 for number in range(40)]
    catalog = table([*labels], [*flags], [not flag for flag in flags])
    queries, gallery = sides(choose(catalog, 40))
    assert (queries, gallery) == (catalog.ids[:10], catalog.ids[10:])


def test_queries_are_spread_over_the_catalog() -> None:
    catalog = table(["a", "b"] * 50, [True] * 60 + [False] * 40, [False] * 60 + [True] * 40)
    queries, gallery = sides(choose(catalog, 30))
    assert [int(name[:-4]) for name in queries] == [0, 6, 12, 18, 24, 30, 36, 42, 48, 54]
    assert [int(name[:-4]) for name in gallery] == list(range(60, 100, 2))


def test_of_many_classes_the_gallery_holds_what_is_looked_for() -> None:
    """A tenth of 500 classes with one query and two pictures each: a spread over all would find a tenth."""
    labels = [f"{number % 500:03}" for number in range(1500)]
    catalog = table(
        [*labels], [number < 500 for number in range(1500)], [number >= 500 for number in range(1500)]
    )
    monitor = choose(catalog, 150)
    queries, gallery = sides(monitor)
    assert (len(queries), len(gallery)) == (50, 100)
    found = Counter(labels[int(name[:-4])] for name in gallery)
    assert all(found[labels[int(name[:-4])]] == 2 for name in queries)
    assert monitor.measure(unit(150)) is not None


def test_room_that_is_left_goes_to_other_pictures() -> None:
    labels = ["a", "a", "a", *["b"] * 50, *[None] * 50]
    catalog = table([*labels], [number == 0 for number in range(103)], [number > 0 for number in range(103)])
    queries, gallery = sides(choose(catalog, 13))
    assert queries == ["0.jpg"]
    assert gallery[:2] == ["1.jpg", "2.jpg"]
    assert len(gallery) == 12
    rest = [int(name[:-4]) for name in gallery[2:]]
    assert max(np.diff(rest)) <= 10
    assert rest[-1] > 90


def test_queries_that_can_find_nothing_are_passed_over() -> None:
    labels: list[str | None] = [None] * 90 + ["z"] * 5 + ["a"] * 5 + ["a", "b"] * 10
    flags = [number < 100 for number in range(120)]
    queries, _ = sides(choose(table(labels, [*flags], [not flag for flag in flags]), 12))
    assert [int(name[:-4]) for name in queries] == [95, 96, 97, 98]


def test_where_no_query_can_find_anything_there_is_no_mean() -> None:
    labels: list[str | None] = ["z"] * 5 + ["a", "b"] * 10
    flags = [number < 5 for number in range(25)]
    monitor = choose(table(labels, [*flags], [not flag for flag in flags]), 12)
    assert monitor.measure(unit(len(monitor.catalog))) is None


def test_without_queries_the_training_pictures_search_each_other() -> None:
    catalog = table(["a", "b", None, "a", "b", "a"])
    monitor = choose(catalog, 100)
    assert monitor.queries is None
    assert monitor.gallery is None
    assert monitor.catalog.ids == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert monitor.of == "5 training pictures"
    descriptors = unit(5, seed=3)
    expected = evaluate_descriptors(descriptors, ["a", "b", "a", "b", "a"], list("01345"))
    assert expected.protocol == "leave-one-out"
    assert expected.mAP < 99
    assert monitor.measure(descriptors) == expected.mAP


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=40), st.integers(1, 100))
def test_some_pictures_of_some_classes(sizes: list[int], most: int) -> None:
    labels = [f"{label:02}" for label, size in enumerate(sizes) for _ in range(size)]
    monitor = choose(table([*labels]), most)
    rows = [int(name[:-4]) for name in monitor.catalog.ids]
    assert rows == sorted(set(rows))
    if len(labels) <= most:
        assert rows == list(range(len(labels)))
        return
    assert 1 <= len(rows) <= most
    found = Counter(labels[row] for row in rows)
    if max(sizes) > 1 and most >= 4:
        # Each class brings several pictures: all of its, or its share of the room.
        share = most // max(1, min(most // 4, sum(size > 1 for size in sizes)))
        assert all(found[label] == min(share, sizes[int(label)]) > 1 for label in found)
        assert monitor.measure(unit(len(rows))) is not None


def test_classes_and_their_pictures_are_spread() -> None:
    labels = [f"{label:02}" for label in range(30) for _ in range(20)]
    rows = [int(name[:-4]) for name in choose(table([*labels]), 40).catalog.ids]
    assert [row // 20 for row in rows] == [label for label in range(0, 30, 3) for _ in range(4)]
    assert [row % 20 for row in rows] == [0, 5, 10, 15] * 10


def test_a_class_per_picture_is_no_measure() -> None:
    labels = [f"{number}" for number in range(50)]
    assert choose(table([*labels]), 20).measure(unit(20)) is None


def test_nobody_asked() -> None:
    catalog = table(["a", "b"])
    assert Monitor.choose(catalog, TrainingSet.from_catalog(catalog), 0) is None


@given(two_sides(), st.integers(0, 2**32 - 1), st.data())
@settings(deadline=None)
def test_measured_as_an_evaluation_would(catalog: Catalog, seed: int, data: st.DataObject) -> None:
    """With some pictures unreadable, whose descriptors are zeros; by their names."""
    monitor = choose(catalog, 12)
    count = len(monitor.catalog)
    unreadable = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=count))
    descriptors = unit(count, seed)
    descriptors[unreadable] = 0
    good = [row for row in range(count) if row not in unreadable]
    queries, gallery = sides(monitor)
    names = [monitor.catalog.ids[row] for row in good]
    labels = dict(zip(catalog.ids, catalog.labels or (), strict=True))
    asked = [names.index(name) for name in queries if name in names]
    given_ = [names.index(name) for name in gallery if name in names]
    possible = any(
        labels[names[query]] == labels[names[row]] for query in asked for row in given_ if row != query
    )
    found = monitor.measure(descriptors, unreadable)
    if not possible:
        assert found is None
        return
    report = evaluate_descriptors(
        descriptors[good], [labels[name] for name in names], names, queries=asked, gallery=given_
    )
    assert found == report.mAP


@pytest.mark.parametrize("lost", [[0], [1, 2], [0, 1, 2]])
def test_nothing_left_is_no_measure(lost: list[int]) -> None:
    monitor = choose(table(["a", "a", "b"], [True, False, False], [False, True, True]), 10)
    assert monitor.measure(unit(3)) is not None
    assert monitor.measure(unit(3), lost) is None


@pytest.mark.parametrize("mode", [True, False])
def test_the_network_is_measured_with_and_without_whitening(
    tiny: TinyRecipe, built: TinyBuilt, crew: Crew, tmp_path: Path, mode: bool
) -> None:
    for number in range(12):
        path = tmp_path / f"{number % 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        make_photo(number, (64, 64)).save(path)
    (tmp_path / "1" / "4.png").write_bytes(b"nothing")
    catalog = read_catalog(tmp_path)
    monitor = choose(catalog, 100)
    made = built(tiny({"whitening.kind": "learned"}))
    net = made.net.train(mode)
    with torch.no_grad():
        net.net.whitening.linear.bias.copy_(torch.randn(8, generator=torch.Generator().manual_seed(0)))
    passes = Passes(net, made.preprocessing, crew, 1, None)

    pooled, unreadable = passes.pooled(catalog, range(12), lambda _done, _total: None)
    assert list(unreadable) == [catalog.ids.index("1/4.png")]
    good = np.delete(np.arange(12), list(unreadable))
    with torch.no_grad():
        whitened = net.eval().net.whitening(torch.from_numpy(pooled)).numpy()
    net.train(mode)
    expected = []
    for descriptors in (pooled[good], whitened[good]):
        unit_rows = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
        names = [catalog.ids[row] for row in good]
        expected.append(evaluate_descriptors(unit_rows, [name[0] for name in names], names).mAP)
    assert abs(expected[0] - expected[1]) > 1

    seen: list[tuple[int, int]] = []
    plain = monitor.run(passes, lambda *given: seen.append(given), plain=True)
    assert seen[-1] == (11, 12)
    assert plain == pytest.approx(expected[0])
    assert monitor.run(passes, lambda *_given: None) == pytest.approx(expected[1])
    assert net.training == mode
    assert net.net.whitening.training == mode
