"""The drain, on a clock and with signals that the test plays."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto.core.factory import EchoFactory
from echoproto.core.protocol import Echo
from echoproto.drain.drain import Delay, Drain, Progress, watch_signals
from tests.logs import logged
from tests.transports import TCPLikeTransport


class Connections:
    """A factory with connections on transports played by hand."""

    def __init__(self, live: int) -> None:
        self.factory = EchoFactory()
        self.transports = [TCPLikeTransport() for _ in range(live)]
        self.ends: list[Echo] = []
        for transport in self.transports:
            connection = self.factory.buildProtocol(None)
            connection.makeConnection(transport)
            self.ends.append(connection)

    def lose_all(self, error: Exception) -> None:
        for connection in self.ends:
            connection.connectionLost(Failure(error))


def test_without_connections_it_is_over_at_once() -> None:
    clock = Clock()
    with logged() as log:
        over = Drain(EchoFactory(), clock, 10).start()
    assert over.called
    assert clock.getDelayedCalls() == []
    assert log.lines == []


def test_connections_that_finish_in_time_are_left_alone() -> None:
    clock = Clock()
    clients = Connections(2)
    with logged() as log:
        over = Drain(clients.factory, clock, 10).start()
        clock.advance(9.9)
        assert [each.calls for each in clients.transports] == [[], []]
        assert not over.called
        clients.lose_all(ConnectionDone())
    assert over.called
    assert clock.getDelayedCalls() == []
    assert log.lines == ["draining: 2 connections have 10 s to finish", "drained"]


def test_at_the_deadline_they_are_finished_and_a_second_later_aborted() -> None:
    clock = Clock()
    clients = Connections(1)
    (transport,) = clients.transports
    with logged() as log:
        over = Drain(clients.factory, clock, 2.5).start()
        clock.advance(2.5)
        assert "loseWriteConnection" in transport.calls
        clients.ends[0].dataReceived(b"late")
        clock.advance(0.99)
        assert "abortConnection" not in transport.calls
        clock.advance(0.01)
        assert "abortConnection" in transport.calls
        assert not over.called
        clients.lose_all(ConnectionAborted())
    assert over.called
    assert clock.getDelayedCalls() == []
    assert log.lines == [
        "draining: 1 connections have 2.5 s to finish",
        "drain deadline: closing 1 connections",
        "aborting 1 connections",
        "drained; 4 bytes came after the deadline and were not returned",
    ]


def test_those_that_take_our_fin_need_no_abort() -> None:
    clock = Clock()
    clients = Connections(1)
    over = Drain(clients.factory, clock, 1).start()
    clock.advance(1)
    clients.lose_all(ConnectionDone())
    assert over.called
    assert clock.getDelayedCalls() == []
    assert "abortConnection" not in clients.transports[0].calls


@pytest.mark.parametrize("seconds", [0, 0.0])
def test_no_time_at_all_aborts_at_once(seconds: float) -> None:
    clock = Clock()
    clients = Connections(2)
    over = Drain(clients.factory, clock, seconds).start()
    assert [each.calls[0] for each in clients.transports] == ["abortConnection"] * 2
    assert clock.getDelayedCalls() == []
    clients.lose_all(ConnectionAborted())
    assert over.called


def test_a_cut_amid_the_drain_aborts() -> None:
    clock = Clock()
    clients = Connections(1)
    drain = Drain(clients.factory, clock, 60)
    over = drain.start()
    drain.cut()
    drain.cut()
    assert "abortConnection" in clients.transports[0].calls
    assert clock.getDelayedCalls() == []
    clients.lose_all(ConnectionAborted())
    assert over.called


def test_a_cut_before_the_drain_begins_cuts_it_too() -> None:
    clients = Connections(1)
    drain = Drain(clients.factory, Clock(), 60)
    drain.cut()
    drain.start()
    assert clients.transports[0].calls.count("abortConnection") >= 1


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
def test_a_signal_cuts(reactor: SignalledReactor, signum: signal.Signals) -> None:
    cuts: list[str] = []
    end = watch_signals(reactor, lambda: cuts.append("cut"))
    signal.raise_signal(signum)
    # A handler runs in the middle of anything.
    assert cuts == []
    reactor.turn()
    assert cuts == ["cut"]
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
def test_one_signal_cuts_all_drains(reactor: SignalledReactor, first_to_end: int) -> None:
    cuts: list[int] = []
    ends = [watch_signals(reactor, lambda n=n: cuts.append(n)) for n in (0, 1)]  # type: ignore[misc]
    signal.raise_signal(signal.SIGTERM)
    reactor.turn()
    assert sorted(cuts) == [0, 1]
    # While one is left, a signal is for it.
    ends.pop(first_to_end)()
    cuts.clear()
    signal.raise_signal(signal.SIGINT)
    reactor.turn()
    assert cuts == [1 - first_to_end]
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


def test_each_second_it_says_what_is_left() -> None:
    clock = Clock()
    clients = Connections(2)
    with logged("echoproto.progress") as log:
        Drain(clients.factory, clock, 3.2).start()
        clients.ends[0].dataReceived(b"12345")
        clock.advance(1)
        clients.ends[0].connectionLost(Failure(ConnectionDone()))
        clock.advance(1)
        clock.advance(1)
        clock.advance(1)
    assert log.lines == [
        "draining: 2 connections left, 5 bytes echoed in the last second, 2 s to the deadline",
        "draining: 1 connections left, 0 bytes echoed in the last second, 1 s to the deadline",
    ]


def test_a_drain_that_is_over_says_no_more() -> None:
    clock = Clock()
    clients = Connections(1)
    with logged("echoproto.progress") as log:
        Drain(clients.factory, clock, 10).start()
        clients.lose_all(ConnectionDone())
        clock.advance(5)
    assert log.lines == []


def delay(clock: Clock, seconds: float) -> Delay:
    return Delay(clock, seconds, Progress(clock, lambda: 7, lambda: 0))


def test_a_delay_says_for_how_long_connections_are_taken() -> None:
    clock = Clock()
    with logged() as log:
        over = delay(clock, 3).start()
        for _ in range(3):
            assert not over.called
            clock.advance(1)
    assert over.called
    assert clock.getDelayedCalls() == []
    assert log.lines == [
        f"draining: still taking connections for {seconds} s; 7 connections"
        for seconds in (3, 2, 1)
    ]


def test_no_delay() -> None:
    clock = Clock()
    with logged() as log:
        assert delay(clock, 0).start().called
    assert clock.getDelayedCalls() == []
    assert log.lines == []


def test_a_delay_that_is_cut() -> None:
    clock = Clock()
    begun = delay(clock, 30)
    over = begun.start()
    clock.advance(1)
    begun.cut()
    begun.cut()
    assert over.called
    assert clock.getDelayedCalls() == []
    # Or before it has begun.
    later = delay(clock, 30)
    later.cut()
    assert later.start().called
