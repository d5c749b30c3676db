"""Who is in, what was carried, and what is logged of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto.core.factory import EchoFactory, LogDetail
from echoproto.core.protocol import Echo
from tests.logs import logged
from tests.transports import TCPLikeTransport

CLIENT = IPv4Address("TCP", "192.0.2.1", 50000)


def enter(factory: EchoFactory) -> Echo:
    """A client comes in."""
    connection = factory.buildProtocol(CLIENT)
    transport = TCPLikeTransport()
    transport.peerAddr = CLIENT
    connection.makeConnection(transport)
    return connection


def leave(connection: Echo, error: Exception | None = None) -> None:
    connection.connectionLost(Failure(error or ConnectionDone()))


def test_its_interface() -> None:
    verifyObject(IProtocolFactory, EchoFactory())


def test_totals() -> None:
    factory = EchoFactory()
    assert (factory.accepted, factory.live, factory.failed, factory.bytes_echoed) == (0, 0, 0, 0)
    first, second = enter(factory), enter(factory)
    first.dataReceived(b"12345")
    second.dataReceived(b"678")
    assert factory.connections == {first, second}
    assert (factory.accepted, factory.live, factory.failed, factory.bytes_echoed) == (2, 2, 0, 8)
    leave(first)
    leave(second, ConnectionAborted())
    assert (factory.accepted, factory.live, factory.failed, factory.bytes_echoed) == (2, 0, 1, 8)
    assert factory.connections == set()


@given(st.lists(st.tuples(st.binary(), st.booleans(), st.booleans())))
def test_totals_of_any_connections(connections: list[tuple[bytes, bool, bool]]) -> None:
    factory = EchoFactory()
    for payload, ends, fails in connections:
        connection = enter(factory)
        connection.dataReceived(payload)
        if ends:
            leave(connection, ConnectionAborted() if fails else None)
    assert factory.accepted == len(connections)
    assert factory.live == sum(not ends for _, ends, _ in connections)
    assert factory.failed == sum(ends and fails for _, ends, fails in connections)
    assert factory.bytes_echoed == sum(len(payload) for payload, _, _ in connections)


def test_what_comes_too_late_is_counted() -> None:
    factory = EchoFactory()
    connection = enter(factory)
    connection.finish()
    connection.dataReceived(b"late")
    leave(connection)
    assert (factory.bytes_echoed, factory.bytes_discarded) == (0, 4)


def test_when_empty() -> None:
    factory = EchoFactory()
    fired: list[str] = []
    factory.when_empty().addCallback(lambda _: fired.append("at once"))
    assert fired == ["at once"]
    first, second = enter(factory), enter(factory)
    factory.when_empty().addCallback(lambda _: fired.append("one"))
    factory.when_empty().addCallback(lambda _: fired.append("other"))
    leave(first)
    assert fired == ["at once"]
    leave(second)
    assert fired == ["at once", "one", "other"]
    leave(enter(factory))
    assert fired == ["at once", "one", "other"]


def start_connection(log: LogDetail | str) -> list[str]:
    with logged() as lines:
        connection = enter(EchoFactory(log))
        connection.dataReceived(b"data\r\n\xff")
        connection.dataReceived(b"x" * 33)
        connection.readConnectionLost()
        leave(connection)
    return lines.lines


def test_nothing_is_logged_of_connections_by_default() -> None:
    assert start_connection("listening") == []
    with logged() as lines:
        leave(enter(EchoFactory()))
    assert lines.lines == []


def test_log_of_connections() -> None:
    opened, closed = start_connection(LogDetail.CONNECTIONS)
    assert opened == "opened 192.0.2.1:50000"
    assert closed.startswith("closed 192.0.2.1:50000: 40 bytes in 0.0")


def test_log_of_chunks() -> None:
    lines = start_connection("chunks")
    assert lines[1:-1] == [
        r"chunk from 192.0.2.1:50000: 7 bytes 'data\r\n\xff'",
        f"chunk from 192.0.2.1:50000: 33 bytes '{'x' * 32}'...",
        "end of input from 192.0.2.1:50000",
    ]
    assert len(lines) == 5


def test_an_error_is_logged_with_its_reason() -> None:
    with logged() as lines:
        connection = enter(EchoFactory("connections"))
        connection.dataReceived(b"x")
        leave(connection, ConnectionAborted())
    assert lines.lines[-1].endswith(f" s, {Failure(ConnectionAborted()).getErrorMessage()}")


@pytest.mark.parametrize("log", ["connections", "chunks"])
def test_who_says_nothing_is_counted_and_not_logged(log: str) -> None:
    factory = EchoFactory(log)
    with logged() as lines:
        connection = enter(factory)
        connection.readConnectionLost()
        leave(connection)
        leave(enter(factory), ConnectionAborted())
    assert lines.lines == []
    assert (factory.accepted, factory.silent) == (2, 2)


def test_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("echoproto.core.factory.time.monotonic", lambda: now)
    factory = EchoFactory()
    for seconds in (0.0005, 0.001, 0.5, 4000.0):
        connection = enter(factory)
        now += seconds
        leave(connection)
    assert factory.durations == [2, 0, 0, 1, 0, 0, 0, 0, 1]
    assert factory.seconds == pytest.approx(4000.5015)


def test_top_sources() -> None:
    factory = EchoFactory()
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.2"):
        factory.buildProtocol(IPv4Address("TCP", host, 7)).makeConnection(TCPLikeTransport())
    for last in ("1", "2", "3"):
        peer = IPv6Address("TCP", f"2001:db8::{last}", 7)
        factory.buildProtocol(peer).makeConnection(TCPLikeTransport())
    factory.buildProtocol(UNIXAddress(None)).makeConnection(TCPLikeTransport())
    assert factory.top_sources(2) == [("2001:db8::/64", 3), ("192.0.2.2", 2)]
    assert len(factory.top_sources(10)) == 3


def test_there_is_no_such_detail() -> None:
    with pytest.raises(ValueError, match="everything"):
        EchoFactory("everything")
