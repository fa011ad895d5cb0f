"""Results in the order of the pictures, whichever worker is done first; without Ray itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.catalog import Item
from cfcd.encoding import load_model, ray_engine
from cfcd.encoding.ray_engine import RayEngine
from cfcd.errors import MissingExtra, UnreadablePicture


class Workers:
    """Finish any batch that was started, as `choose` has it; remember the most that waited."""

    full_at = ray_engine._BATCHES_OF_A_WORKER

    def __init__(self, count: int, choose: Any) -> None:
        self._count, self._choose = count, choose
        self._running: list[int] = []
        self._started = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return len(self._running) >= self._count * self.full_at

    def submit(self, items: list[Item]) -> int:
        self._started += 1
        self._running.append(self._started)
        return self._started

    def wait(self) -> int:
        return self._running.pop(self._choose(len(self._running)))

    def results(self, batch: int, items: list[Item]) -> list[Any]:
        return [(None, UnreadablePicture(item.id, "")) for item in items]


@given(st.data(), st.integers(0, 40), st.integers(1, 3), st.integers(1, 4))
def test_order_and_memory(data: st.DataObject, count: int, workers: int, size: int) -> None:
    taken = 0

    def batches() -> Iterator[list[Item]]:
        nonlocal taken
        for start in range(0, count, size):
            taken = min(start + size, count)
            yield [Item(str(number), Path(str(number))) for number in range(start, taken)]

    fake: Any = Workers(workers, lambda running: data.draw(st.integers(0, running - 1)))
    seen = 0
    for job, result in ray_engine._ordered(fake, batches()):
        assert job.item.id == str(seen)
        assert isinstance(result, UnreadablePicture)
        assert result.what == job.item.id
        # What has been taken and not yet given back is bounded, however slow one worker is.
        assert taken - seen <= size * ray_engine._BATCHES_AHEAD * workers
        seen += 1
    assert seen == count


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"cfcd\[ray\]"):
        list(RayEngine()(load_model(), [Item("a", Path("a.jpg"))]))


def test_nothing_to_do_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "find_spec", lambda _name: pytest.fail("it looked for ray"))
    assert list(RayEngine()(load_model(), [])) == []
