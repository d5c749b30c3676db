"""Connections in which nothing moves end; all others do not."""

from __future__ import annotations

import contextlib
import functools
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto.core.connection import Connection
from echoproto.core.factory import EchoFactory
from echoproto.limits.limits import Limits
from echoproto.net.wire_counters import wire_counters
from tests.logs import logged
from tests.system.server import eventually
from tests.transports import TCPLikeTransport, TLSLikeTransport

CLIENT = IPv4Address("TCP", "192.0.2.1", 7)


class Watched:
    """A factory with an idle timeout, and a clock that the test advances."""

    def __init__(self, timeout: float = 16.0, **limits: Any) -> None:
        self.clock = Clock()
        self.factory = EchoFactory(
            reactor=self.clock, limits=Limits(idle_timeout=timeout, **limits)
        )
        self.ended: list[float] = []

    def enter(self, transport: TCPLikeTransport | None = None) -> Connection:
        connection = self.factory.buildProtocol(CLIENT)
        transport = TCPLikeTransport() if transport is None else transport
        transport.peerAddr = CLIENT
        connection.makeConnection(transport)
        return connection

    def wait(self, seconds: float) -> None:
        """Let time pass, and what is closed be gone."""
        for _ in range(round(seconds * 8)):
            self.clock.advance(0.125)
            for each in tuple(self.factory.connections):
                aborted = "abortConnection" in each.transport.calls
                tls = isinstance(each.transport, TLSLikeTransport)
                if aborted or (each.transport.disconnecting and not tls):
                    self.ended.append(self.clock.seconds())
                    error = ConnectionAborted() if aborted else ConnectionDone()
                    each.connectionLost(Failure(error))


@given(st.lists(st.floats(0, 15.9), max_size=8), st.floats(0, 5))
def test_it_ends_within_the_time_and_a_quarter_more(pauses: list[float], before: float) -> None:
    watched = Watched()
    watched.clock.advance(before)
    connection = watched.enter()
    for pause in pauses:
        watched.clock.pump([pause / 64] * 64)
        connection.dataReceived(b"x")
    assert watched.factory.live
    last = watched.clock.seconds()
    watched.wait(21)
    (ended,) = watched.ended
    assert ended - last + 0.125 >= 16
    assert ended - last <= 16 * 1.25
    assert watched.factory.stats.ended == {"idle": 1}
    assert watched.factory.stats.failed == 0


def test_over_tls_an_end_that_is_not_answered_is_enforced() -> None:
    watched = Watched()
    transport = TLSLikeTransport()
    watched.enter(transport)
    watched.wait(20)
    (ended,) = watched.ended
    assert 16 <= ended <= 20
    # The last one is the played transport's own.
    assert transport.calls == [
        "unregisterProducer",
        "loseConnection",
        "abortConnection",
        "loseConnection",
    ]


def test_what_is_not_returned_is_logged() -> None:
    watched = Watched()
    connection = watched.enter()
    connection.transport.dataBuffer = bytes(1000)
    connection.transport.offset = 1
    with logged() as log:
        watched.wait(20)
    assert log.lines == [
        "aborted idle connection from 192.0.2.1:7: 999 bytes not returned because the client "
        "does not read (999 in total)"
    ]
    assert connection.transport.calls[0] == "abortConnection"
    assert watched.factory.stats.bytes_unreturned == 999


def test_a_throttled_one_is_not_idle() -> None:
    watched = Watched(max_bytes_per_second=1)
    connection = watched.enter()
    connection.dataReceived(bytes(100))
    watched.wait(99)
    assert watched.factory.live
    watched.wait(22)
    assert not watched.factory.live


def test_many_are_looked_at_in_several_turns() -> None:
    watched = Watched()
    for _ in range(1700):
        watched.enter()
    watched.wait(20)
    assert watched.factory.stats.ended == {"idle": 1700}


def test_it_looks_only_while_there_are_connections() -> None:
    watched = Watched()
    assert not watched.clock.getDelayedCalls()
    first, second = watched.enter(), watched.enter()
    watched.clock.advance(1)
    assert len(watched.clock.getDelayedCalls()) == 1
    for connection in (first, second):
        connection.connectionLost(Failure(ConnectionDone()))
    assert not watched.clock.getDelayedCalls()
    watched.enter()
    watched.wait(20)
    assert watched.factory.stats.ended == {"idle": 1}


class SocketTransport(TCPLikeTransport):
    """A transport with a real socket, which only the test reads and writes."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.socket = sock


def pair(family: str) -> tuple[socket.socket, socket.socket]:
    if family == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.connect(listening.getsockname())
        served, _ = listening.accept()
    return served, client


needs_wire = pytest.mark.skipif(
    not hasattr(socket, "TCP_INFO"), reason="only Linux tells what moves on the wire"
)


@needs_wire
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_slow_reader_is_not_idle_and_one_that_is_stuck_is(family: str) -> None:
    watched = Watched()
    served, client = pair(family)
    with served, client:
        connection = watched.enter(SocketTransport(served))
        served.setblocking(False)
        sent = 0
        try:
            while True:
                sent += served.send(bytes(1 << 12))
        except BlockingIOError:
            pass
        connection.transport.dataBuffer = b"rest"
        client.setblocking(False)
        taken = 0

        def takes_until_it_moves(before: tuple[int, ...] | None) -> bool:
            # The kernel lets more come only when much of the buffer has been read.
            nonlocal taken
            with contextlib.suppress(BlockingIOError):
                taken += len(client.recv(1 << 13))
            return wire_counters(connection.transport, 0) != before

        # It reads, although the server has nothing more to say.
        for _ in range(4):
            watched.wait(15)
            assert watched.factory.live
            before = wire_counters(connection.transport, 0)
            assert eventually(functools.partial(takes_until_it_moves, before))
        with logged() as log:
            watched.wait(20)
    assert not watched.factory.live
    (line,) = log.lines
    stuck = watched.factory.stats.bytes_unreturned
    assert f"{stuck} bytes not returned" in line
    assert 4 <= stuck <= sent - taken + 4


@needs_wire
def test_what_was_not_read_is_told_too() -> None:
    watched = Watched()
    served, client = pair("tcp")
    with served, client:
        connection = watched.enter(SocketTransport(served))
        connection.transport.dataBuffer = b"rest"
        client.sendall(b"unread")
        with logged() as log:
            watched.wait(20)
    assert "10 bytes not returned" in log.lines[0]


@needs_wire
def test_a_server_that_was_stopped_does_not_blame_the_client() -> None:
    watched = Watched()
    served, client = pair("tcp")
    with served, client:
        connection = watched.enter(SocketTransport(served))
        watched.wait(2)
        client.sendall(b"data")
        assert served.recv(4, socket.MSG_PEEK) == b"data"
        watched.wait(2)
        # When it goes on, the time is over, and it has not read yet.
        watched.clock.advance(100)
        watched.wait(1)
        assert watched.factory.live
        assert served.recv(4) == b"data"
        connection.dataReceived(b"data")
        watched.wait(15)
        assert watched.factory.live
        watched.wait(6)
        assert not watched.factory.live


@pytest.mark.parametrize("answer", [b"", bytes(40), bytes(136), bytes(512)])
def test_a_kernel_that_does_not_tell_is_no_reason_to_abort(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """gVisor answers ``TCP_INFO`` with zeros, or too short."""
    monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: answer)
    watched = Watched()
    served, client = pair("tcp")
    with served, client:
        connection = watched.enter(SocketTransport(served))
        connection.dataReceived(b"data")
        # The kernel has taken all, and tells nothing of its queue.
        connection.transport.dataBuffer = b"rest"
        watched.wait(99)
        assert watched.factory.live
        connection.transport.dataBuffer = b""
        watched.wait(20)
    assert watched.factory.stats.ended == {"idle": 1}
    assert watched.factory.stats.bytes_unreturned == 0
