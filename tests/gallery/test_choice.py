from __future__ import annotations

from pathlib import Path

import pytest

from cfcd.errors import UsageError
from cfcd.gallery.indexes.choice import (
    KINDS,
    Choice,
    estimated_bytes,
    parse_latency,
    parse_memory,
    parse_recall,
    read_choice,
    wanted_spec,
    write_choice,
)
from cfcd.gallery.indexes.files import Header, Spec
from tests.gallery.index_support import make_store


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2GB", 2e9), ("1.5 GiB", 1.5 * 2**30), ("500mb", 5e8), ("100 kB", 1e5), (".5TB", 5e11), ("7b", 7)],
)
def test_memory(text: str, expected: float) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("20ms", 0.02), ("0.5 s", 0.5), ("300us", 3e-4), ("300µs", 3e-4)]
)
def test_latency(text: str, expected: float) -> None:
    assert parse_latency(text) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "expected"), [("0.99", 0.99), ("99%", 0.99), (".5", 0.5), ("1", 1)])
def test_recall(text: str, expected: float) -> None:
    assert parse_recall(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "2", "GB", "2 XB", "-1GB", "1e3GB", "0GB", "2GB 3", "20ms", "nan GB"])
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["", "20", "ms", "20 m", "-1ms", "0s", "20GB"])
def test_what_is_no_latency(text: str) -> None:
    with pytest.raises(UsageError, match="--latency"):
        parse_latency(text)


@pytest.mark.parametrize("text", ["", "99", "0", "-0.5", "101%", "high"])
def test_what_is_no_recall(text: str) -> None:
    with pytest.raises(UsageError, match="--recall"):
        parse_recall(text)


def test_contradictions_are_refused() -> None:
    for wrong, word in (
        ({"kind": "annoy"}, "annoy"),
        ({"kind": "pq", "recall": 0.9}, "budgets"),
        ({"reduce": 4}, "4 dimensions"),
        ({"whiten": True}, "--reduce"),
    ):
        with pytest.raises(UsageError, match=word):
            Choice(**wrong)  # type: ignore[arg-type]


def saved_as(kind: str) -> Header:
    return Header(Spec(kind), 512, 1, b"", 1, 1, 1)


def test_by_size() -> None:
    auto = Choice()
    assert wanted_spec(auto, 99_999, 512, None) == Spec("exact")
    assert wanted_spec(auto, 100_000, 512, None) == Spec("pq")
    assert wanted_spec(auto, 60_000, 512, saved_as("pq")) == Spec("pq")
    assert wanted_spec(auto, 49_999, 512, saved_as("pq")) == Spec("exact")
    assert wanted_spec(auto, 60_000, 512, saved_as("exact")) == Spec("exact")


def test_by_name_and_by_budget() -> None:
    assert wanted_spec(Choice("hnsw"), 5000, 512, None) == Spec("hnsw")
    assert wanted_spec(Choice("hnsw"), 999, 512, None) == Spec("exact")
    assert wanted_spec(Choice(recall=0.9, chosen="codes"), 5000, 512, None) == Spec("codes")
    assert wanted_spec(Choice("pq", reduce=128, whiten=True), 5000, 512, None) == Spec("pq", 128, True)
    assert wanted_spec(Choice("pq", reduce=512), 5000, 512, None) == Spec("pq")


def test_estimates_at_512_dimensions() -> None:
    per_item = {kind: estimated_bytes(Spec(kind), 1000, 512) / 1000 for kind in KINDS}
    assert per_item == {"exact": 1064, "pq": 585, "codes": 73, "turbovec": 141, "ivf": 593, "hnsw": 785}
    assert estimated_bytes(Spec("pq", 256), 1000, 512) == 1000 * (32 + 256 + 9)


def test_it_is_kept_in_the_store(tmp_path: Path) -> None:
    plain = make_store(tmp_path / "plain")
    assert read_choice(plain) == Choice()
    choice = Choice(memory=10**9, recall=0.99, latency=0.02, reduce=64, whiten=True, chosen="pq")
    with plain.changing():
        write_choice(plain, choice)
    assert read_choice(plain) == choice
