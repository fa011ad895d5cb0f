"""Evaluations from pictures, an encoded folder and a gallery: the same numbers, whatever was there before."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder, encode_catalog, load_model, read_encoded
from cfcd.errors import EncodingError, EvaluationError, UsageError
from cfcd.evaluation.run import evaluate, refuse_inside
from cfcd.gallery import open_or_create
from tests.support import make_photo

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model(precision="fp32")


@pytest.fixture
def hard(photos: Path) -> Path:
    """The photos with one of each label exchanged for noise, so that the measure is not 100."""
    for number, label in enumerate(("arch", "bridge", "church")):
        make_photo(20 + number).save(photos / label / "3.jpg")
    return photos


def test_every_kind_of_data_gives_the_same_numbers(hard: Path, tmp_path: Path, encoder: Encoder) -> None:
    straight = evaluate(hard, encoder)
    assert straight.report.queries == 12
    assert 20 < straight.report.mAP < 95
    assert straight.model == encoder.model.label
    out = tmp_path / "out"
    first, again = evaluate(hard, encoder, out=out), evaluate(hard, encoder, out=out)
    with open_or_create(tmp_path / "g", precision="fp32") as gallery:
        gallery.update(read_catalog(hard))
        others = [first, again, evaluate(out), evaluate(read_encoded(out)), evaluate(gallery)]
    for other in others:
        assert other.report.mAP == pytest.approx(straight.report.mAP, abs=0.05)
        assert other.report.queries == 12


def test_descriptors_stay_with_their_rows(hard: Path, tmp_path: Path, encoder: Encoder) -> None:
    """Shards in another order than the catalog, as after a change, must not mix up the labels."""
    catalog, out = read_catalog(hard), tmp_path / "out"
    encode_catalog(catalog.select(range(8, 12)), encoder, out)
    encode_catalog(catalog, encoder, out)
    assert list(read_encoded(out).catalog.ids) != list(catalog.ids)
    found = evaluate(hard, encoder, out=out)
    assert list(found.catalog.ids) == list(catalog.ids)
    assert found.report.mAP == pytest.approx(evaluate(hard, encoder).report.mAP, abs=1e-3)


def test_a_kept_folder_follows_labels_and_files(hard: Path, tmp_path: Path, encoder: Encoder) -> None:
    out = tmp_path / "out"
    evaluate(hard, encoder, out=out)
    make_photo(0).save(hard / "arch" / "3.jpg")
    (hard / "church" / "3.jpg").unlink()
    (hard / "bridge" / "3.jpg").rename(hard / "church" / "9.jpg")
    now = evaluate(hard, encoder, out=out)
    assert now.report.mAP == pytest.approx(evaluate(hard, encoder).report.mAP, abs=1e-3)
    assert now.catalog.ids == read_catalog(hard).ids


def test_a_folder_of_another_collection_is_refused(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    evaluate(photos, encoder, out=tmp_path / "out")
    other = tmp_path / "other"
    photos.rename(other)
    with pytest.raises(EncodingError, match="Give another --out folder"):
        evaluate(other, encoder, out=tmp_path / "out")


@pytest.mark.parametrize("keep", [True, False])
def test_unreadable_pictures_are_skipped_and_named(
    photos: Path, tmp_path: Path, encoder: Encoder, keep: bool
) -> None:
    out = tmp_path / "out" if keep else None
    (photos / "arch" / "0.jpg").write_bytes(b"no picture")
    found = evaluate(photos, encoder, out=out)
    assert [item.id for item, _ in found.skipped] == ["arch/0.jpg"]
    assert found.report.queries == 11
    assert found.to_json()["skipped"][0]["id"] == "arch/0.jpg"
    for file in photos.rglob("*.jpg"):
        file.write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match="None of the 12 pictures") as caught:
        evaluate(photos, encoder, out=out)
    assert caught.value.mend == "cfcd check names what is wrong with each."


def test_rows_of_neither_side_are_left_out(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    rows = ["path,label,split"]
    for label in ("arch", "bridge", "church"):
        rows += [
            f"{label}/{n}.jpg,{label},{split}" for n, split in enumerate(("train", "train", "test", "val"))
        ]
    (photos / "catalog.csv").write_text("\n".join(rows))
    found = evaluate(photos, encoder, out=tmp_path / "out")
    assert (found.report.queries, found.report.gallery) == (3, 6)
    assert len(read_encoded(tmp_path / "out").catalog) == 9


def test_rows_of_a_table_that_cannot_be_used_are_named(photos: Path, cli: Cli) -> None:
    rows = [f"{label}/{n}.jpg,{label},,,," for label in ("arch", "bridge") for n in range(3)]
    table = ["path,label,x_1,y_1,x_2,y_2", *rows, "church/0.jpg,church,9,9,1,1"]
    (photos / "some.csv").write_text("\n".join(table))
    found = cli("evaluate", photos / "some.csv", "--json")
    report = json.loads(found.stdout)
    assert report["gallery"] == 6
    assert [(one["file"], one["row"]) for one in report["unusable_rows"]] == [("church/0.jpg", 8)]
    assert "skipped church/0.jpg row 8: the box 9,9,1,1 has no area" in found.stderr


def test_pictures_without_labels_are_refused(tmp_path: Path, encoder: Encoder) -> None:
    make_photo(0).save(tmp_path / "a.jpg")
    with pytest.raises(EvaluationError, match="no labels"):
        evaluate(tmp_path, encoder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_for_descriptors_is_refused(photos: Path, tmp_path: Path, encoder: Encoder, cli: Cli) -> None:
    encode_catalog(read_catalog(photos), encoder, tmp_path / "out")
    with pytest.raises(UsageError, match="--model, --size and --scales have no effect"):
        evaluate(tmp_path / "out", encoder)
    errors = cli("evaluate", "out", "--size", "96", code=2).stderr
    assert "out holds descriptors already, so --size has no effect" in errors


def test_progress_counts_every_picture(photos: Path, encoder: Encoder) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(photos, encoder, progress=lambda *counts: seen.append(counts))
    assert seen == [(done, 12) for done in range(13)]


def test_results_stay_out_of_the_pictures(photos: Path, tmp_path: Path, cli: Cli) -> None:
    link = tmp_path / "link"
    link.symlink_to(photos)
    for out in (photos, photos / "report", link / "a" / "b", photos / "arch" / ".." / "report"):
        with pytest.raises(UsageError, match="lies inside"):
            refuse_inside(out, photos)
    refuse_inside(tmp_path / "report", photos)
    refuse_inside(tmp_path / "photos-report", photos)
    refuse_inside(tmp_path, photos)
    assert "lies inside" in cli("evaluate", "photos", "--out", "photos/report", code=2).stderr
    assert not (photos / "report").exists()
    cli("index", "photos", "--out", "gallery")
    cli("evaluate", "gallery", "--out", "gallery/report")
    assert (tmp_path / "gallery" / "report" / "report.json").is_file()


def test_no_module_hides_a_public_function():
    import importlib
    import pkgutil

    import cfcd.evaluation

    modules = {module.name for module in pkgutil.iter_modules(cfcd.evaluation.__path__)}
    assert modules.isdisjoint(cfcd.evaluation.__all__)
    for name in cfcd.evaluation.__all__:
        assert getattr(cfcd.evaluation, name) is not None
    assert importlib.import_module("cfcd.evaluation.comparison").compare is cfcd.evaluation.compare
