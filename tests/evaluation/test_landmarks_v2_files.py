from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.catalog import Item, read_catalog
from cfcd.encoding import load_model
from cfcd.encoding.bulk import encode_catalog
from cfcd.encoding.shards import FileStamp, write_settings, write_shard
from cfcd.errors import CatalogError, EvaluationError
from cfcd.evaluation.landmarks_v2_files import (
    Descriptors,
    image_id,
    is_descriptors,
    open_descriptors,
    read_solution,
)


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def test_retrieval_solution(tmp_path: Path) -> None:
    many = " ".join(
        f"{number:016x}" for number in range(20_000)
    )  # longer than the csv module takes as a cell
    file = write(
        tmp_path / "retrieval_solution_v2.1.csv",
        f'id,images,Usage\nq1,a b,Public\nq2,"{many}",Private\nq3,None,Ignored\n\nq4,c,Private\n',
    )
    solution = read_solution(file, "retrieval")
    assert dict(solution.usage) == {"q1": "Public", "q2": "Private", "q4": "Private"}
    assert solution.answers["q1"] == {"a", "b"}
    assert len(solution.answers["q2"]) == 20_000
    assert (solution.ignored, solution.of(None)) == (1, ["q1", "q2", "q4"])
    assert (solution.of("Public"), solution.of("Private")) == (["q1"], ["q2", "q4"])


def test_recognition_solution_keeps_queries_without_landmark(tmp_path: Path) -> None:
    file = write(tmp_path / "x.csv", "id,landmarks,Usage\r\nq1,,Public\r\nq2,17 4,Private\r\n")
    solution = read_solution(file, "recognition")
    assert dict(solution.answers) == {"q1": frozenset(), "q2": {"17", "4"}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "id,landmarks,Usage\nq,1,Public\n",
            "is no retrieval solution: its columns are id, landmarks, usage",
        ),
        ("", "its columns are none"),
        ("id,images,Usage\nq,a,public\n", "Line 2 .* has the usage 'public'"),
        ("id,images,Usage\nq,a,Public\nq,b,Private\n", "Line 3 .* names 'q' again"),
        ("id,images,Usage\nq,a,Ignored\nq,b,Private\n", "Line 3 .* names 'q' again"),
        ("id,images,Usage\nq,a\n", "Line 2 .* is not id,answers,usage"),
        ("id,images,Usage\nq,,Public\n", "Line 2 .* names no image"),
        ("id,images,Usage\nq,a,Ignored\n", "no query with an answer"),
    ],
)
def test_solutions_that_make_no_sense_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(EvaluationError, match=says):
        read_solution(write(tmp_path / "s.csv", text), "retrieval")


def test_a_solution_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read"):
        read_solution(tmp_path / "none.csv", "retrieval")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0123456789abcdef", "0123456789abcdef"),
        ("0/1/2/0123456789abcdef.jpg", "0123456789abcdef"),
        ("index/0/1/2/0123456789abcdef.JPG", "0123456789abcdef"),
        ("a.b", "a.b"),
    ],
)
def test_ids_of_images(name: str, expected: str) -> None:
    assert image_id(name) == expected


def unit(n: int, dim: int = 4) -> np.ndarray:
    rows = np.random.default_rng(n).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(
    n=st.integers(1, 20),
    size=st.integers(1, 7),
    wanted=st.lists(st.integers(0, 25), unique=True, min_size=1),
    cut=st.integers(0, 20),
)
def test_chosen_rows_come_in_the_order_asked_for(n, size, wanted, cut):
    rows = unit(n)
    parts = [(np.arange(n)[part], lambda part=part: rows[part]) for part in (slice(cut), slice(cut, n))]
    whole = Descriptors([str(at) for at in range(n)], 4, parts)
    chosen = whole.only([str(at) for at in wanted])
    kept = [at for at in wanted if at < n]
    assert list(chosen.ids) == [str(at) for at in kept]
    assert np.array_equal(chosen.whole(), rows[kept])
    assert np.array_equal(chosen.only(chosen.ids[::-1]).whole(), rows[kept][::-1])
    assert all(len(at) == len(block) <= size for at, block in chosen.blocks(size))


def test_arrays_with_ids_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, unit(3).astype(np.float16))
    assert is_descriptors(file)
    with pytest.raises(EvaluationError, match=r"x\.txt, which names the images of x\.npy, does not exist"):
        open_descriptors(file)
    write(tmp_path / "x.txt", "a\n0/1/2/b.jpg\n\nc\n")
    found, labels = open_descriptors(file)
    assert (found.ids, found.dim, found.model, labels) == (["a", "b", "c"], 4, None, {})
    assert np.array_equal(found.whole(), unit(3).astype(np.float16))
    write(tmp_path / "x.txt", "a\nb\n")
    with pytest.raises(EvaluationError, match="2 ids for 3 descriptors"):
        open_descriptors(file)
    write(tmp_path / "x.txt", "a\nb\na\n")
    with pytest.raises(EvaluationError, match="'a' comes twice"):
        open_descriptors(file)


@pytest.mark.parametrize("rows", [np.zeros(3), np.zeros((3, 2), int), np.zeros((3, 0))])
def test_arrays_that_are_no_descriptors(tmp_path: Path, rows: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", rows)
    write(tmp_path / "x.txt", "a\nb\nc\n")
    with pytest.raises(EvaluationError, match="are not rows of floats"):
        open_descriptors(tmp_path / "x.npy")


def test_pickled_and_broken_arrays_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.txt", "a\n")
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(EvaluationError, match=r"cannot be read.*numpy\.save"):
        open_descriptors(tmp_path / "x.npy")
    for broken in (b"nonsense", b""):
        (tmp_path / "x.npy").write_bytes(broken)
        with pytest.raises(EvaluationError, match="cannot be read"):
            open_descriptors(tmp_path / "x.npy")
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, rows=unit(1))
    with pytest.raises(EvaluationError, match="is an archive of arrays"):
        open_descriptors(tmp_path / "x.npy")


def test_a_header_that_claims_more_than_can_be_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.txt", "a\n")
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**30, 4)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(EvaluationError, match="cannot be read"):
        open_descriptors(tmp_path / "x.npy")


def test_letters_of_the_official_folders_are_no_landmarks(tmp_path: Path) -> None:
    write_settings(tmp_path, {"model": "m@1", "identity": "1", "dim": 4})
    names = {"1/0/2/1020.jpg": "1/0/2", "train/1/0/3/1030.jpg": "train/1/0/3", "1040": "1", "9/1050.jpg": "9"}
    items = [Item(name, tmp_path / name, label=label) for name, label in names.items()]
    write_shard(tmp_path, 0, items, [FileStamp(1, 1, b"0" * 16)] * 4, unit(4))
    assert open_descriptors(tmp_path)[1] == {"1040": "1", "1050": "9"}


def test_encoded_folders_know_ids_labels_and_model(photos: Path, tmp_path: Path) -> None:
    encoder = load_model("imagenet-lite0", long_side=64)
    for label in ("arch", "bridge", "church"):
        for file in (photos / label).iterdir():
            file.rename(file.with_name(f"{label}{file.name}"))
    encode_catalog(read_catalog(photos), encoder, tmp_path / "encoded", shard_rows=5)
    assert is_descriptors(tmp_path / "encoded")
    found, labels = open_descriptors(tmp_path / "encoded")
    assert (len(found), found.model) == (12, encoder.model.label)
    assert {name[:-1]: label for name, label in labels.items()} == {
        n: n for n in ("arch", "bridge", "church")
    }
    rows = np.load(tmp_path / "encoded" / "descriptors-00001.npy")
    assert np.array_equal(found.whole()[5:10], rows)


def test_of_rows_that_an_encoded_folder_holds_twice_the_newest_count(tmp_path: Path) -> None:
    write_settings(tmp_path, {"model": "m@1", "identity": "1", "dim": 4})
    rows = unit(5)
    for number, names in enumerate((["a", "b", "c"], ["b", "d"])):
        items = [Item(name, tmp_path / name, label=f"{name}{number}") for name in names]
        stamps = [FileStamp(1, 1, b"0" * 16)] * len(names)
        write_shard(tmp_path, number, items, stamps, rows[number * 3 : number * 3 + len(names)])
    found, labels = open_descriptors(tmp_path)
    assert dict(zip(found.ids, found.whole().tolist(), strict=True)) == {
        "a": rows[0].tolist(),
        "b": rows[3].tolist(),
        "c": rows[2].tolist(),
        "d": rows[4].tolist(),
    }
    assert labels == {"a": "a0", "b": "b1", "c": "c0", "d": "d1"}


def test_an_encoded_folder_without_shards_is_refused(tmp_path: Path) -> None:
    write_settings(tmp_path, {"model": "m@1", "identity": "1", "dim": 4})
    with pytest.raises(EvaluationError, match="holds no finished shard"):
        open_descriptors(tmp_path)
