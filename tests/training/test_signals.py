from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from cfcd.training.signals import StopAsked, stop_between_steps

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, object]]:
    """Handlers of the test's own, so that a signal nobody catches fails the test instead of ending it."""

    def unexpected(number: int, _frame: object) -> None:
        raise AssertionError(f"signal {number} came through")

    before = {number: signal.signal(number, unexpected) for number in BOTH}
    yield {number: signal.getsignal(number) for number in BOTH}
    for number, handler in before.items():
        signal.signal(number, handler)


def now() -> dict[int, object]:
    return {number: signal.getsignal(number) for number in BOTH}


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_is_a_wish(number: signal.Signals, handlers: dict[int, object]) -> None:
    with stop_between_steps() as stop:
        assert not stop.asked
        signal.raise_signal(number)
        assert stop.asked
    assert now() == handlers


@pytest.mark.parametrize("second", BOTH)
def test_the_second_interrupts(second: signal.Signals, handlers: dict[int, object]) -> None:
    with pytest.raises(KeyboardInterrupt), stop_between_steps() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        signal.raise_signal(second)
    assert now() == handlers


def test_put_back_whatever_happens_in_the_block(handlers: dict[int, object]) -> None:
    with pytest.raises(ZeroDivisionError), stop_between_steps():
        assert now() != handlers
        raise ZeroDivisionError
    assert now() == handlers
    with pytest.raises(AssertionError, match="came through"):
        signal.raise_signal(signal.SIGTERM)


def test_every_block_asks_anew() -> None:
    for _ in range(2):
        with stop_between_steps() as stop:
            assert not stop.asked
            signal.raise_signal(signal.SIGINT)
            assert stop.asked
    assert not StopAsked.asked


def test_left_alone_when_not_wanted(handlers: dict[int, object]) -> None:
    with stop_between_steps(wanted=False) as stop:
        assert now() == handlers
    assert not stop.asked


def test_left_alone_in_other_threads(handlers: dict[int, object]) -> None:
    seen: list[object] = []

    def work() -> None:
        with stop_between_steps() as stop:
            seen.extend([now(), stop.asked])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handlers, False]
    assert now() == handlers
