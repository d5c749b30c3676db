"""The connections of one service, among those of its factory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from echoproto.core.factory import EchoFactory
from echoproto.core.group import ConnectionGroup
from tests.transports import TCPLikeTransport

CLIENT = IPv4Address("TCP", "192.0.2.1", 4242)


def enter(group: ConnectionGroup) -> Any:
    connection = group.buildProtocol(CLIENT)
    connection.makeConnection(TCPLikeTransport())
    return connection


def leave(connection: Any) -> None:
    connection.connectionLost(Failure(ConnectionDone()))


def test_it_counts_its_own() -> None:
    factory = EchoFactory()
    one, other = ConnectionGroup(factory), ConnectionGroup(factory)
    first, second = enter(one), enter(other)
    first.dataReceived(b"12345")
    second.dataReceived(b"678")
    assert (one.live, other.live, factory.live) == (1, 1, 2)
    assert (one.bytes_echoed, other.bytes_echoed, factory.stats.bytes_echoed) == (5, 3, 8)
    leave(first)
    assert (one.live, other.live, one.bytes_echoed) == (0, 1, 5)


@pytest.mark.parametrize("call", ["finish_all", "abort_all", "drop_all"])
def test_it_ends_its_own(call: str) -> None:
    factory = EchoFactory()
    one, other = ConnectionGroup(factory), ConnectionGroup(factory)
    first, second = enter(one), enter(other)
    getattr(one, call)()
    assert first.transport.calls or first not in factory.connections
    assert second.transport.calls == []
    assert second in factory.connections


def test_when_empty() -> None:
    group = ConnectionGroup(EchoFactory())
    fired: list[str] = []
    group.when_empty().addCallback(lambda _: fired.append("at once"))
    assert fired == ["at once"]
    first, second = enter(group), enter(group)
    group.when_empty().addCallback(lambda _: fired.append("one"))
    group.when_empty().addCallback(lambda _: fired.append("other"))
    leave(first)
    assert fired == ["at once"]
    leave(second)
    assert fired == ["at once", "one", "other"]
    leave(enter(group))
    assert fired == ["at once", "one", "other"]


def test_dropping_empties_it() -> None:
    factory = EchoFactory()
    group = ConnectionGroup(factory)
    connections = [enter(group) for _ in range(3)]
    empty = group.when_empty()
    assert group.drop_all() == 3
    assert empty.called
    assert factory.stats.dropped == 3
    for connection in connections:
        leave(connection)
    assert (group.live, factory.stats.dropped) == (0, 3)


def test_the_factory_starts_and_stops_with_its_ports() -> None:
    events: list[str] = []

    class Noting(EchoFactory):
        def startFactory(self) -> None:
            events.append("start")

        def stopFactory(self) -> None:
            events.append("stop")

    group = ConnectionGroup(Noting())
    assert group.logPrefix() == "Noting"
    group.doStart()
    group.doStart()
    group.doStop()
    assert events == ["start"]
    group.doStop()
    assert events == ["start", "stop"]


class OwnBuild(EchoFactory):
    """May read the address."""

    def buildProtocol(self, addr: Any) -> Any:
        return super().buildProtocol(addr)


def test_a_connection_asks_its_transport_for_the_address_when_it_is_wanted() -> None:
    group = ConnectionGroup(EchoFactory())
    connection = group.buildProtocol(None)
    assert connection.client is None
    transport = TCPLikeTransport()
    connection.makeConnection(transport)
    assert connection.client == transport.getPeer()
    assert connection.client is connection.client
    # A protocol of the user's may have its own idea.
    connection.client = CLIENT
    assert connection.client is CLIENT


def test_a_build_protocol_of_the_users_gets_the_address() -> None:
    assert ConnectionGroup(EchoFactory()).asks_transport
    assert not ConnectionGroup(OwnBuild()).asks_transport
    factory: Any = EchoFactory()
    factory.buildProtocol = OwnBuild().buildProtocol
    assert not ConnectionGroup(factory).asks_transport
