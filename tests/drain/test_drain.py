"""The drain, on a clock that the test advances."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto.core.connection import Connection
from echoproto.core.factory import EchoFactory
from echoproto.core.group import ConnectionGroup
from echoproto.drain.drain import FLUSH_TIME, LAST_TIME, Drain
from tests.logs import logged
from tests.transports import TCPLikeTransport


class Clients:
    """A service's connections on fake transports."""

    def __init__(self, live: int) -> None:
        self.connections = ConnectionGroup(EchoFactory())
        self.transports = [TCPLikeTransport() for _ in range(live)]
        self.ends: list[Connection] = []
        for transport in self.transports:
            connection = self.connections.buildProtocol(None)
            connection.makeConnection(transport)
            self.ends.append(connection)

    def lose_all(self, error: Exception) -> None:
        for connection in self.ends:
            connection.connectionLost(Failure(error))


def closed() -> Deferred[None]:
    """Close the ports, of which there are none."""
    return succeed(None)


def test_without_connections_it_is_over_at_once() -> None:
    clock = Clock()
    with logged() as log:
        over = Drain(ConnectionGroup(EchoFactory()), clock, 10).run(closed)
    assert over.called
    assert clock.getDelayedCalls() == []
    assert log.lines == []


def test_connections_that_finish_in_time_are_left_alone() -> None:
    clock = Clock()
    clients = Clients(2)
    with logged() as log:
        over = Drain(clients.connections, clock, 10).run(closed)
        clock.advance(9.9)
        assert [each.calls for each in clients.transports] == [[], []]
        assert not over.called
        clients.lose_all(ConnectionDone())
    assert over.called
    assert clock.getDelayedCalls() == []
    assert log.lines == ["draining: 2 connections, 10 s to finish", "drained"]


def test_at_the_deadline_they_are_finished_and_a_second_later_aborted() -> None:
    clock = Clock()
    clients = Clients(1)
    (transport,) = clients.transports
    with logged() as log:
        over = Drain(clients.connections, clock, 2.5).run(closed)
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
        "draining: 1 connection, 2.5 s to finish",
        "drain deadline: closing 1 connection",
        "aborting 1 connection",
        "drained; 4 bytes arrived after the deadline and were not returned",
    ]


def test_those_that_take_our_fin_need_no_abort() -> None:
    clock = Clock()
    clients = Clients(1)
    over = Drain(clients.connections, clock, 1).run(closed)
    clock.advance(1)
    clients.lose_all(ConnectionDone())
    assert over.called
    assert clock.getDelayedCalls() == []
    assert "abortConnection" not in clients.transports[0].calls


@pytest.mark.parametrize("seconds", [0, 0.0])
def test_no_time_at_all_aborts_at_once(seconds: float) -> None:
    clock = Clock()
    clients = Clients(2)
    over = Drain(clients.connections, clock, seconds).run(closed)
    assert [each.calls[0] for each in clients.transports] == ["abortConnection"] * 2
    clients.lose_all(ConnectionAborted())
    assert over.called
    assert clock.getDelayedCalls() == []


def test_an_abort_amid_the_drain() -> None:
    clock = Clock()
    clients = Clients(1)
    drain = Drain(clients.connections, clock, 60)
    over = drain.run(closed)
    drain.abort()
    drain.abort()
    assert "abortConnection" in clients.transports[0].calls
    clients.lose_all(ConnectionAborted())
    assert over.called
    assert clock.getDelayedCalls() == []


def test_an_abort_before_the_drain_begins() -> None:
    clients = Clients(1)
    drain = Drain(clients.connections, Clock(), 60)
    drain.abort()
    drain.run(closed)
    assert clients.transports[0].calls.count("abortConnection") >= 1


def test_each_second_it_says_what_is_left() -> None:
    clock = Clock()
    clients = Clients(2)
    with logged("echoproto.progress") as log:
        Drain(clients.connections, clock, 3.2).run(closed)
        clients.ends[0].dataReceived(b"12345")
        clock.advance(1)
        clients.ends[0].connectionLost(Failure(ConnectionDone()))
        clock.advance(1)
        clock.advance(1)
        clock.advance(1)
    assert log.lines == [
        "draining: 2 connections left, 5 bytes echoed in the last second, 2 s to the deadline",
        "draining: 1 connection left, 0 bytes echoed in the last second, 1 s to the deadline",
    ]


def test_a_drain_that_is_over_says_no_more() -> None:
    clock = Clock()
    clients = Clients(1)
    with logged("echoproto.progress") as log:
        Drain(clients.connections, clock, 10).run(closed)
        clients.lose_all(ConnectionDone())
        clock.advance(5)
    assert log.lines == []


def test_ports_are_closed_before_the_time_begins() -> None:
    clock = Clock()
    clients = Clients(1)
    closing: Deferred[None] = Deferred()
    with logged() as log:
        Drain(clients.connections, clock, 10).run(lambda: closing)
        clock.advance(5)
        assert log.lines == []
        closing.callback(None)
    assert log.lines == ["draining: 1 connection, 10 s to finish"]


def test_what_never_closes_is_given_up() -> None:
    clock = Clock()
    clients = Clients(2)
    over = Drain(clients.connections, clock, 2).run(closed)
    with logged() as log:
        clock.advance(2)
        clock.advance(FLUSH_TIME)
        # A second signal, and a third, change nothing.
        assert not over.called
        clock.advance(LAST_TIME)
    assert over.called
    assert "gave up on 2 connections that did not close" in log.lines
    assert clock.getDelayedCalls() == []


def test_signals_do_not_put_the_end_off_for_ever() -> None:
    clock = Clock()
    clients = Clients(1)
    drain = Drain(clients.connections, clock, 60)
    over = drain.run(closed)
    drain.abort()
    clock.advance(LAST_TIME / 2)
    drain.abort()
    clock.advance(LAST_TIME / 2)
    assert over.called


def test_an_abort_after_the_end_does_nothing() -> None:
    clock = Clock()
    clients = Clients(1)
    drain = Drain(clients.connections, clock, 60)
    drain.run(closed)
    clients.lose_all(ConnectionDone())
    drain.abort()
    assert clock.getDelayedCalls() == []


def test_late_bytes_of_an_earlier_stop_are_not_told_again() -> None:
    clock = Clock()
    clients = Clients(1)
    Drain(clients.connections, clock, 1).run(closed)
    clock.advance(1)
    clients.ends[0].dataReceived(b"late")
    clients.lose_all(ConnectionDone())
    with logged() as log:
        Drain(clients.connections, clock, 1).run(closed)
    assert log.lines == []
