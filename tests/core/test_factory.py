"""Which connections are open, what was counted, and what is logged of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto.core.connection import Connection
from echoproto.core.connection_log import LogDetail
from echoproto.core.factory import EchoFactory
from tests.logs import logged
from tests.transports import TCPLikeTransport

CLIENT = IPv4Address("TCP", "192.0.2.1", 50000)


def enter(factory: EchoFactory) -> Connection:
    """Open a connection."""
    connection = factory.buildProtocol(CLIENT)
    transport = TCPLikeTransport()
    transport.peerAddr = CLIENT
    connection.makeConnection(transport)
    return connection


def leave(connection: Connection, error: Exception | None = None) -> None:
    connection.connectionLost(Failure(error or ConnectionDone()))


def test_its_interface() -> None:
    verifyObject(IProtocolFactory, EchoFactory())


def test_totals() -> None:
    factory = EchoFactory()
    assert (
        factory.stats.accepted,
        factory.live,
        factory.stats.failed,
        factory.stats.bytes_echoed,
    ) == (0, 0, 0, 0)
    first, second = enter(factory), enter(factory)
    first.dataReceived(b"12345")
    second.dataReceived(b"678")
    assert factory.connections == {first, second}
    assert (
        factory.stats.accepted,
        factory.live,
        factory.stats.failed,
        factory.stats.bytes_echoed,
    ) == (2, 2, 0, 8)
    leave(first)
    leave(second, ConnectionAborted())
    assert (
        factory.stats.accepted,
        factory.live,
        factory.stats.failed,
        factory.stats.bytes_echoed,
    ) == (2, 0, 1, 8)
    assert factory.connections == set()


@given(st.lists(st.tuples(st.binary(), st.booleans(), st.booleans())))
def test_totals_of_any_connections(connections: list[tuple[bytes, bool, bool]]) -> None:
    factory = EchoFactory()
    for payload, ends, fails in connections:
        connection = enter(factory)
        connection.dataReceived(payload)
        if ends:
            leave(connection, ConnectionAborted() if fails else None)
    assert factory.stats.accepted == len(connections)
    assert factory.live == sum(not ends for _, ends, _ in connections)
    assert factory.stats.failed == sum(ends and fails for _, ends, fails in connections)
    assert factory.stats.bytes_echoed == sum(len(payload) for payload, _, _ in connections)


def test_what_arrives_too_late_is_counted() -> None:
    factory = EchoFactory()
    connection = enter(factory)
    connection.finish()
    connection.dataReceived(b"late")
    leave(connection)
    assert (factory.stats.bytes_echoed, factory.stats.bytes_discarded) == (0, 4)


def run_connection(log: LogDetail | str) -> list[str]:
    with logged() as lines:
        connection = enter(EchoFactory(log=log))
        connection.dataReceived(b"data\r\n\xff")
        connection.dataReceived(b"x" * 33)
        connection.readConnectionLost()
        leave(connection)
    return lines.lines


def test_nothing_is_logged_of_connections_by_default() -> None:
    assert run_connection("listening") == []
    with logged() as lines:
        leave(enter(EchoFactory()))
    assert lines.lines == []


def test_log_of_connections() -> None:
    opened, closed = run_connection(LogDetail.CONNECTIONS)
    assert opened == "opened 192.0.2.1:50000"
    assert re.fullmatch(r"closed 192\.0\.2\.1:50000: 40 bytes in 0\.0\d+ s", closed)


def test_log_of_chunks() -> None:
    lines = run_connection("chunks")
    assert lines[1:-1] == [
        r"chunk from 192.0.2.1:50000: 7 bytes 'data\r\n\xff'",
        f"chunk from 192.0.2.1:50000: 33 bytes '{'x' * 32}'...",
        "end of input from 192.0.2.1:50000",
    ]
    assert len(lines) == 5


def test_an_error_is_logged_with_its_reason() -> None:
    with logged() as lines:
        connection = enter(EchoFactory(log="connections"))
        connection.dataReceived(b"x")
        leave(connection, ConnectionAborted())
    assert lines.lines[-1].endswith(f" s, {Failure(ConnectionAborted()).getErrorMessage()}")


@pytest.mark.parametrize("log", ["connections", "chunks"])
def test_a_client_that_sends_nothing_is_counted_and_not_logged(log: str) -> None:
    factory = EchoFactory(log=log)
    with logged() as lines:
        connection = enter(factory)
        connection.readConnectionLost()
        leave(connection)
        leave(enter(factory), ConnectionAborted())
    assert lines.lines == []
    assert (factory.stats.accepted, factory.stats.silent) == (2, 2)


def test_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("echoproto.core.factory.time.monotonic", lambda: now)
    factory = EchoFactory()
    for seconds in (0.0005, 0.001, 0.5, 4000.0):
        connection = enter(factory)
        now += seconds
        leave(connection)
    assert factory.stats.durations == [2, 0, 0, 1, 0, 0, 0, 0, 1]
    assert factory.stats.seconds == pytest.approx(4000.5015)


def test_there_is_no_such_detail() -> None:
    with pytest.raises(ValueError, match="everything"):
        EchoFactory(log="everything")
