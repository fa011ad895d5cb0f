from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder, load_model
from cfcd.encoding.bulk import encode_catalog
from cfcd.errors import CfcdError, IdentityMismatch
from cfcd.evaluation.landmarks_v2_run import evaluate_landmarks, needs_model
from tests.evaluation.landmarks_dataset import (
    INDEX,
    TEST,
    TRAIN,
    check_recognition,
    check_retrieval,
    image,
    make_dataset,
    picture,
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model("imagenet-lite0", long_side=64)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "gldv2")


def test_retrieval_from_pictures(dataset: Path, tmp_path: Path, encoder: Encoder) -> None:
    found = evaluate_landmarks("retrieval", dataset, model=encoder, out=tmp_path / "out")
    check_retrieval(found.to_json())
    assert found.report.model == encoder.model.label
    report, queries = found.write(tmp_path / "out")
    assert report.name == "report.json"
    lines = queries.read_text().splitlines()
    assert lines[0] == "id,usage,ap,positives,found,top"
    assert lines[2].startswith(f"{image(TEST, 1)},Private,50.0,6,3,{image(INDEX, 1)[:2]}")
    assert len(lines) == 4
    # Only the queries that count were encoded, and a second run encodes nothing.
    assert len(np.load(tmp_path / "out" / "test-retrieval" / "descriptors-00000.npy")) == 3
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.npy")}
    assert evaluate_landmarks("retrieval", dataset, model=encoder, out=tmp_path / "out") == found
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_retrieval_from_encoded_folders(dataset: Path, tmp_path: Path, encoder: Encoder) -> None:
    """The ids in these folders are paths such as 2/0/0/2000000000000000.jpg."""
    for part in ("index", "test"):
        encode_catalog(read_catalog(dataset / part), encoder, tmp_path / part)
    sides = {"gallery": tmp_path / "index", "queries": tmp_path / "test"}
    assert not needs_model("retrieval", dataset, **sides)
    found = evaluate_landmarks("retrieval", dataset, **sides).to_json()
    check_retrieval(found)
    assert found["model"] == encoder.model.label


def test_retrieval_from_arrays(dataset: Path, tmp_path: Path, encoder: Encoder) -> None:
    for part in ("index", "test"):
        encode_catalog(read_catalog(dataset / f"{part}.csv"), encoder, tmp_path / part)
        (tmp_path / part / "descriptors-00000.npy").rename(tmp_path / f"{part}.npy")
        (tmp_path / f"{part}.txt").write_text("\n".join((dataset / f"{part}.csv").read_text().split()[1:]))
    found = evaluate_landmarks(
        "retrieval",
        gallery=tmp_path / "index.npy",
        queries=tmp_path / "test.npy",
        solution=dataset / "retrieval_solution_v2.1.csv",
    ).to_json()
    check_retrieval(found)
    assert found["model"] is None


def test_recognition_from_pictures_encoded_folders_and_arrays(
    dataset: Path, tmp_path: Path, encoder: Encoder
) -> None:
    out = tmp_path / "out"
    found = evaluate_landmarks("recognition", dataset, model=encoder, out=out, k=3)
    check_recognition(found.to_json())
    lines = found.write(out)[1].read_text().splitlines()
    assert lines[0] == "id,usage,landmark,score,right,has_landmark"
    assert [line.split(",")[2] for line in lines[1:4]] == ["0", "1", "2"]
    ends = [line.split(",")[4:] for line in lines[1:]]
    assert ends == [["True", "True"]] * 3 + [["False", "True"], ["False", "False"]]

    queries = out / "test-recognition"
    encoded = evaluate_landmarks("recognition", dataset, gallery=out / "train", queries=queries, k=3)
    assert encoded == found
    (out / "train" / "descriptors-00000.npy").rename(tmp_path / "train.npy")
    names = [image(TRAIN, landmark, number) for landmark in range(3) for number in range(3)]
    (tmp_path / "train.txt").write_text("\n".join(names))
    arrays = {"gallery": tmp_path / "train.npy", "queries": queries, "k": 3}
    with pytest.raises(CfcdError, match="None of the 9 images of the gallery has a landmark"):
        evaluate_landmarks("recognition", dataset, **arrays)
    labels = dataset / "train_clean.csv"
    assert evaluate_landmarks("recognition", dataset, **arrays, labels=labels) == found


def test_of_a_folder_of_training_pictures_those_with_a_label_are_encoded(
    dataset: Path, tmp_path: Path, encoder: Encoder
) -> None:
    labels = dataset / "few.csv"
    rows = [f"{landmark},{image(TRAIN, landmark)}" for landmark in range(3)]
    labels.write_text("\n".join(["landmark_id,images", *rows, ""]))
    found = evaluate_landmarks(
        "recognition", dataset, gallery=dataset / "train", labels=labels, model=encoder, out=tmp_path / "out"
    ).to_json()
    assert (found["gallery"], found["public"]) == (3, 100)


def test_folders_stand_in_for_tables(dataset: Path, tmp_path: Path, encoder: Encoder) -> None:
    for name in ("index.csv", "test.csv"):
        (dataset / name).unlink()
    check_retrieval(evaluate_landmarks("retrieval", dataset, model=encoder, out=tmp_path / "out").to_json())


def test_rows_of_a_table_that_cannot_be_used_are_kept(
    dataset: Path, tmp_path: Path, encoder: Encoder
) -> None:
    with (dataset / "index.csv").open("a") as file:
        file.write("a/b\n")
    found = evaluate_landmarks("retrieval", dataset, model=encoder, out=tmp_path / "out").to_json()
    check_retrieval(found)
    assert [row["row"] for row in found["unusable_rows"]] == [11]


def test_pictures_that_cannot_be_read_are_skipped_and_counted(
    dataset: Path, tmp_path: Path, encoder: Encoder
) -> None:
    query, right = image(TEST, 0), image(INDEX, 1)
    picture(dataset, "test", query).write_bytes(b"no picture")
    picture(dataset, "index", right).unlink()
    found = evaluate_landmarks("retrieval", dataset, model=encoder, out=tmp_path / "out").to_json()
    assert (found["public"], found["missing_queries"], found["gallery"]) == (0, 1, 8)
    assert found["right_images_not_in_gallery"] == 4
    assert {entry["id"] for entry in found["skipped"]} == {query, right}
    for file in (dataset / "index").rglob("*.jpg"):
        file.write_bytes(b"no picture")
    with pytest.raises(CfcdError, match="None of the 9 pictures"):
        evaluate_landmarks("retrieval", dataset, model=encoder, out=tmp_path / "again")


def test_another_model_is_refused_before_anything_is_encoded(
    dataset: Path, tmp_path: Path, encoder: Encoder
) -> None:
    other = load_model("imagenet-lite0", long_side=96)
    encode_catalog(read_catalog(dataset / "index.csv"), other, tmp_path / "index")
    with pytest.raises(IdentityMismatch, match=encoder.model.label):
        evaluate_landmarks(
            "retrieval", dataset, gallery=tmp_path / "index", model=encoder, out=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"task": "retrieve"}, "'retrieve' is unknown"),
        ({"out": None}, "holds pictures to encode"),
        ({"gallery": "gldv2/index", "out": "gldv2/index/out"}, "lies inside"),
        ({"data": None}, "The solution is not given"),
        ({"data": None, "solution": "gldv2/retrieval_solution_v2.1.csv"}, "The gallery is not given"),
        ({"data": "photos"}, "holds no retrieval_solution_v2.1.csv"),
        ({"data": "photos", "solution": "gldv2/retrieval_solution_v2.1.csv"}, "no index.csv and no index"),
        ({"solution": "gldv2/recognition_solution_v2.1.csv"}, "is no retrieval solution"),
        ({"task": "recognition", "gallery": "gldv2/train"}, "is wanted for train"),
        ({"gallery": "x.npy", "queries": "x.npy"}, "have no effect"),
        ({"gallery": "x.npy", "queries": "x.npy", "model": None}, "x.txt, which names the images"),
        ({"gallery": "photos"}, "two pictures of one name"),
    ],
)
def test_what_cannot_work_is_refused(
    dataset: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoder: Encoder,
    arguments: dict[str, object],
    says: str,
) -> None:
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    monkeypatch.chdir(tmp_path)
    given = {"task": "retrieval", "data": "gldv2", "model": encoder, "out": "out", **arguments}
    with pytest.raises(CfcdError, match=says):
        evaluate_landmarks(**given)
