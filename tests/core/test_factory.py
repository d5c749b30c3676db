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
    conversation = factory.buildProtocol(CLIENT)
    transport = TCPLikeTransport()
    transport.peerAddr = CLIENT
    conversation.makeConnection(transport)
    return conversation


def leave(conversation: Echo, error: Exception | None = None) -> None:
    conversation.connectionLost(Failure(error or ConnectionDone()))


def test_its_interface() -> None:
    verifyObject(IProtocolFactory, EchoFactory())


def test_totals() -> None:
    factory = EchoFactory()
    assert (factory.accepted, factory.live, factory.failed, factory.bytes_echoed) == (0, 0, 0, 0)
    first, second = enter(factory), enter(factory)
    first.dataReceived(b"12345")
    second.dataReceived(b"678")
    assert factory.conversations == {first, second}
    assert (factory.accepted, factory.live, factory.failed, factory.bytes_echoed) == (2, 2, 0, 8)
    leave(first)
    leave(second, ConnectionAborted())
    assert (factory.accepted, factory.live, factory.failed, factory.bytes_echoed) == (2, 0, 1, 8)
    assert factory.conversations == set()


@given(st.lists(st.tuples(st.binary(), st.booleans(), st.booleans())))
def test_totals_of_any_conversations(conversations: list[tuple[bytes, bool, bool]]) -> None:
    factory = EchoFactory()
    for payload, ends, fails in conversations:
        conversation = enter(factory)
        conversation.dataReceived(payload)
        if ends:
            leave(conversation, ConnectionAborted() if fails else None)
    assert factory.accepted == len(conversations)
    assert factory.live == sum(not ends for _, ends, _ in conversations)
    assert factory.failed == sum(ends and fails for _, ends, fails in conversations)
    assert factory.bytes_echoed == sum(len(payload) for payload, _, _ in conversations)


def test_what_comes_too_late_is_counted() -> None:
    factory = EchoFactory()
    conversation = enter(factory)
    conversation.finish()
    conversation.dataReceived(b"late")
    leave(conversation)
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


def converse(log: LogDetail | str) -> list[str]:
    with logged() as lines:
        conversation = enter(EchoFactory(log))
        conversation.dataReceived(b"data\r\n\xff")
        conversation.dataReceived(b"x" * 33)
        conversation.readConnectionLost()
        leave(conversation)
    return lines.lines


def test_nothing_is_logged_of_conversations_by_default() -> None:
    assert converse("listening") == []
    with logged() as lines:
        leave(enter(EchoFactory()))
    assert lines.lines == []


def test_log_of_connections() -> None:
    opened, closed = converse(LogDetail.CONNECTIONS)
    assert opened == "opened 192.0.2.1:50000"
    assert closed.startswith("closed 192.0.2.1:50000: 40 bytes in 0.0")


def test_log_of_chunks() -> None:
    lines = converse("chunks")
    assert lines[1:-1] == [
        r"chunk from 192.0.2.1:50000: 7 bytes 'data\r\n\xff'",
        f"chunk from 192.0.2.1:50000: 33 bytes '{'x' * 32}'...",
        "end of input from 192.0.2.1:50000",
    ]
    assert len(lines) == 5


def test_an_error_is_logged_with_its_reason() -> None:
    with logged() as lines:
        conversation = enter(EchoFactory("connections"))
        conversation.dataReceived(b"x")
        leave(conversation, ConnectionAborted())
    assert lines.lines[-1].endswith(f" s, {Failure(ConnectionAborted()).getErrorMessage()}")


@pytest.mark.parametrize("log", ["connections", "chunks"])
def test_who_says_nothing_is_counted_and_not_logged(log: str) -> None:
    factory = EchoFactory(log)
    with logged() as lines:
        conversation = enter(factory)
        conversation.readConnectionLost()
        leave(conversation)
        leave(enter(factory), ConnectionAborted())
    assert lines.lines == []
    assert (factory.accepted, factory.silent) == (2, 2)


def test_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("echoproto.core.factory.time.monotonic", lambda: now)
    factory = EchoFactory()
    for seconds in (0.0005, 0.001, 0.5, 4000.0):
        conversation = enter(factory)
        now += seconds
        leave(conversation)
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
