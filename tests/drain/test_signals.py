"""Signals that reach a process while it drains."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from echoproto.drain.signals import watch_signals


class SignalledReactor:
    """What a reactor has to do with signals."""

    def __init__(self) -> None:
        self.stops = 0
        self.calls: list[Callable[[], None]] = []

    def sigInt(self, number: int, frame: Any = None) -> None:
        self.stops += 1

    def sigTerm(self, number: int, frame: Any = None) -> None:
        self.stops += 1

    def callFromThread(self, function: Callable[[], None]) -> None:
        self.calls.append(function)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


@pytest.fixture
def reactor() -> Iterator[SignalledReactor]:
    reactor = SignalledReactor()
    before = [
        (signum, signal.signal(signum, handler))
        for signum, handler in (
            (signal.SIGINT, reactor.sigInt),
            (signal.SIGTERM, reactor.sigTerm),
        )
    ]
    yield reactor
    for signum, handler in before:
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_aborts(reactor: SignalledReactor, signum: signal.Signals) -> None:
    aborts: list[str] = []
    end = watch_signals(reactor, lambda: aborts.append("abort"))
    signal.raise_signal(signum)
    # A handler runs in the middle of anything.
    assert aborts == []
    reactor.turn()
    assert aborts == ["abort"]
    assert reactor.stops == 0
    end()


def test_the_end_of_the_watch_restores_the_handlers(reactor: SignalledReactor) -> None:
    end = watch_signals(reactor, lambda: None)
    assert signal.getsignal(signal.SIGTERM) != reactor.sigTerm
    end()
    assert signal.getsignal(signal.SIGTERM) == reactor.sigTerm
    assert signal.getsignal(signal.SIGINT) == reactor.sigInt
    signal.raise_signal(signal.SIGTERM)
    assert reactor.stops == 1


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_one_signal_aborts_all_drains(reactor: SignalledReactor, first_to_end: int) -> None:
    aborts: list[int] = []
    ends = [watch_signals(reactor, lambda n=n: aborts.append(n)) for n in (0, 1)]  # type: ignore[misc]
    signal.raise_signal(signal.SIGTERM)
    reactor.turn()
    assert sorted(aborts) == [0, 1]
    # While one is left, a signal is for it.
    ends.pop(first_to_end)()
    aborts.clear()
    signal.raise_signal(signal.SIGINT)
    reactor.turn()
    assert aborts == [1 - first_to_end]
    assert reactor.stops == 0
    ends.pop()()
    assert signal.getsignal(signal.SIGINT) == reactor.sigInt
    assert signal.getsignal(signal.SIGTERM) == reactor.sigTerm


def test_the_handlers_of_an_application_stay(reactor: SignalledReactor) -> None:
    def own(signum: int, frame: object) -> None:
        """Is never called here."""

    signal.signal(signal.SIGINT, own)
    end = watch_signals(reactor, lambda: None)
    assert signal.getsignal(signal.SIGINT) is own
    assert signal.getsignal(signal.SIGTERM) != reactor.sigTerm
    end()
    assert signal.getsignal(signal.SIGINT) is own
    assert signal.getsignal(signal.SIGTERM) == reactor.sigTerm
