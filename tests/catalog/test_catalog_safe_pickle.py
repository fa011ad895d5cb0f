from __future__ import annotations

import collections
import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.catalog import read_catalog
from cfcd.catalog.safe_pickle import load_plain_pickle
from cfcd.errors import CatalogError


class Bomb:
    """Makes a folder when unpickled by an ordinary unpickler."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.mark,)


def load(folder: Path, content: bytes, **options: Any) -> Any:
    (folder / "t.pkl").write_bytes(content)
    return load_plain_pickle(folder / "t.pkl", **options)


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(_PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int) -> None:
    assert load(tmp_path_factory.mktemp("pickle"), pickle.dumps(value, protocol)) == value


def test_shared_parts_and_bytes(tmp_path: Path) -> None:
    names = ["a", "b"] * 600
    value = {"one": names, "two": names, "raw": b"\0\xff", "many": [str(number) for number in range(3000)]}
    for protocol in (3, 4, 5):
        assert load(tmp_path, pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_called(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps({"imlist": [Bomb(mark)]}, protocol)
    with pytest.raises(CatalogError, match=r"instruction (GLOBAL|STACK_GLOBAL)"):
        load(tmp_path, content)
    assert not mark.exists()
    pickle.loads(content)
    assert mark.exists(), "the bomb must be a real one"


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3),
        np.float64(1),
        collections.OrderedDict(a=1),
        {1, 2},
        frozenset((1, 2)),
        (1, 2),
        Path("x"),
        1j,
        len,
    ],
    ids=str,
)
def test_other_objects_are_refused(tmp_path: Path, value: Any) -> None:
    for protocol in (2, 4):
        with pytest.raises(CatalogError, match="is not a pickle of plain data"):
            load(tmp_path, pickle.dumps([value], protocol))


@pytest.mark.parametrize(
    "content",
    [
        b"(S'echo'\nios\nsystem\n.",  # INST
        b"cos\nsystem\n(S'echo'\ntR.",  # GLOBAL, REDUCE
        b"\x80\x02\x82\x01.",  # EXT1
        b"Pname\n.",  # PERSID
        b"\x80\x02K\x01Q.",  # BINPERSID
        b"\x80\x02}(cbuiltins\neval\nK\x01u.",
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of 64 GiB
        b"]p4294967295\n.",
        b"\x80\x02]p-1\n.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes without end
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f].",  # a frame without end
        b"\x80\x02h\x05.",  # a memo entry that is not there
        b"\x80\x02}]]s.",  # a list as key
        b"\x80\x02a.",  # an empty stack
        b"\x80\x63].",  # a protocol to come
        b"I" + b"9" * 10_000 + b"\n.",
        b"L" + b"9" * 10_000 + b"L\n.",
        b"",
        b".",
        b"no pickle at all",
    ],
)
def test_hand_made_pickles_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CatalogError, match="is not a pickle of plain data"):
        load(tmp_path, content)


def test_nested_tuples_as_keys_do_not_hang_the_hash(tmp_path: Path) -> None:
    doubled = b"\x80\x02}K\x01" + b"2\x86" * 200 + b"K\x01s."  # DUP, TUPLE2
    with pytest.raises(CatalogError, match="instruction DUP"):
        load(tmp_path, doubled)
    with pytest.raises(CatalogError, match="instruction TUPLE1"):
        load(tmp_path, b"\x80\x02}K\x01" + b"\x85" * 500_000 + b"K\x01s.")


def test_deep_nesting_is_read_and_no_ground_truth(tmp_path: Path) -> None:
    depth = 200_000
    value = load(tmp_path, b"]" * depth + b"a" * (depth - 1) + b".")
    for _ in range(depth - 1):
        (value,) = value
    assert value == []
    with pytest.raises(CatalogError, match="holds a list, not a ground truth"):
        read_catalog(tmp_path / "t.pkl")


def test_a_pickle_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"imlist": ["a", "b"], "gnd": [{"bbx": [1.5, 2, 300, 70_000]}]}, 4)
    for end in range(len(content)):
        with pytest.raises(CatalogError):
            load(tmp_path, content[:end])


@given(st.binary(max_size=60))
def test_any_bytes_load_or_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with contextlib.suppress(CatalogError):
        load(tmp_path_factory.mktemp("pickle"), content)


def test_size_limit_and_missing_file(tmp_path: Path) -> None:
    content = pickle.dumps(["x" * 100])
    assert load(tmp_path, content, max_bytes=len(content)) == ["x" * 100]
    with pytest.raises(CatalogError, match="are read as a pickle"):
        load(tmp_path, content, max_bytes=len(content) - 1)
    with pytest.raises(CatalogError, match="No such file"):
        load_plain_pickle(tmp_path / "absent.pkl")
