from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.catalog import Catalog, read_catalog
from cfcd.errors import TrainingError
from cfcd.training.data import TrainingSet
from tests.training.tables import table


def chosen(catalog: Catalog) -> list[int]:
    return [int(id.removesuffix(".jpg")) for id in TrainingSet.from_catalog(catalog).catalog.ids]


def test_a_folder_of_photos(photos: Path) -> None:
    data = TrainingSet.from_catalog(read_catalog(photos))
    assert data.classes == ("arch", "bridge", "church")
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(data) == len(data.catalog) == 12
    assert data.identity == data.catalog.identity() == read_catalog(photos).identity()
    with pytest.raises(ValueError, match="read-only"):
        data.labels[0] = 1


@given(st.lists(st.sampled_from([None, "b", "a", "é", "10", "9"]), min_size=1, max_size=30))
def test_labels_are_places_in_the_sorted_classes(labels: list[str | None]) -> None:
    catalog = table(labels)
    if len(set(labels) - {None}) < 2:
        with pytest.raises(TrainingError):
            TrainingSet.from_catalog(catalog)
        return
    data = TrainingSet.from_catalog(catalog)
    assert list(data.classes) == sorted(set(labels) - {None})
    assert [data.classes[number] for number in data.labels] == [name for name in labels if name is not None]
    assert list(data.catalog.labels or ()) == [name for name in labels if name is not None]


def test_the_split_train_comes_first() -> None:
    splits = ["Train", "test", " train ", None, "TRAIN", "val", "gallery"]
    # The columns of queries and gallery say otherwise, but training is what is asked here.
    flags = [False, True, True, True, False, False, True]
    assert chosen(table(["a", "a", "b", "b", None, "a", "a"], flags, splits=splits)) == [0, 2]


def test_else_the_gallery_without_the_queries() -> None:
    assert chosen(table(["a", "b", "a", "b"], splits=["query", "index", "index", None])) == [1, 2]
    both = table(["a", "b", "a", "b"], [True, True, False, False], [False, True, True, True])
    assert chosen(both) == [2, 3]


def test_else_all_labelled_rows() -> None:
    assert chosen(table(["a", None, "b", "a"])) == [0, 2, 3]
    assert chosen(table(["a", None, "b", "a"], splits=["left", "right", None, "left"])) == [0, 2, 3]


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        (table(None), "/data/photos.csv has no labels"),
        (table([None, None]), "/data/photos.csv has no labels"),
        (table(["a", "a", None]), "3 images of /data/photos.csv have one class only, 'a' .2 images"),
        (
            table([None, "a", "b"], splits=["train", "test", "test"]),
            '1 images of split "train" of .* no label',
        ),
        (table(["a", "b"], [True, True], [True, True]), "no images of the gallery that are no queries"),
        (
            table(["a", "b", "a"], splits=["Test", None, "Test"]),
            'images of split "Test" but none of split "train"',
        ),
        (
            table(["a", "b", "a"], splits=["training", "test", "val"]),
            'images of split "test" but none of split',
        ),
    ],
)
def test_refusals_name_what_is_missing(catalog: Catalog, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        TrainingSet.from_catalog(catalog)


def test_without_keeps_the_class_numbers() -> None:
    data = TrainingSet.from_catalog(table(["b", "a", "c", "a", "b", "c"]))
    less = data.without({0: "damaged", 3: "missing"})
    assert less.classes == data.classes
    assert list(less.catalog.ids) == ["1.jpg", "2.jpg", "4.jpg", "5.jpg"]
    assert less.labels.tolist() == [0, 2, 1, 2]
    assert less.identity != data.identity
    assert data.without([]).labels.tolist() == data.labels.tolist()
    assert len(data) == 6


def test_without_names_the_classes_that_are_gone() -> None:
    data = TrainingSet.from_catalog(table([*"abcdefg", "h", "h"]))
    with pytest.raises(TrainingError, match="1 of 8 classes have no readable image: 'c'"):
        data.without([2])
    with pytest.raises(TrainingError, match=r"7 of 8 .*: 'a', 'b', 'c', 'd', 'e' and 2 more"):
        data.without(range(8))


def test_identity_follows_the_labels() -> None:
    catalog = table(["a", "b", "a"])
    other = replace(catalog, labels=["a", "b", "b"])
    assert TrainingSet.from_catalog(catalog).identity != TrainingSet.from_catalog(other).identity
