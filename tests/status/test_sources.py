"""The busiest sources, counted a few connections at a time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto import EchoFactory
from echoproto.status import sources
from echoproto.status.sources import SourceCount
from tests.transports import TCPLikeTransport


def enter(factory: EchoFactory, client: Any) -> Any:
    connection = factory.buildProtocol(client)
    connection.makeConnection(TCPLikeTransport())
    return connection


def test_the_sources_of_a_few_are_known_at_once() -> None:
    factory, clock = EchoFactory(), Clock()
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.2"):
        enter(factory, IPv4Address("TCP", host, 7))
    for last in ("1", "2", "3"):
        enter(factory, IPv6Address("TCP", f"2001:db8::{last}", 7))
    enter(factory, UNIXAddress(None))
    count = SourceCount(factory, clock, clock.seconds)
    assert count.busiest == {}
    count.refresh()
    assert count.busiest == {"2001:db8::/64": 3, "192.0.2.2": 2, "192.0.2.1": 1}
    assert not clock.getDelayedCalls()


def test_many_connections_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SLICE", 10)
    factory, clock = EchoFactory(), Clock()
    connections = [enter(factory, IPv4Address("TCP", "192.0.2.1", n)) for n in range(25)]
    count = SourceCount(factory, clock, clock.seconds)
    count.refresh()
    # Those that come and go meanwhile do no harm.
    enter(factory, IPv4Address("TCP", "192.0.2.2", 7))
    for connection in connections:
        connection.connectionLost(Failure(ConnectionDone()))
    clock.advance(sources._PAUSE)
    assert count.busiest == {}
    count.refresh()
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(sources._PAUSE)
    assert count.busiest == {"192.0.2.1": 25}
    clock.advance(1)
    count.refresh()
    assert count.busiest == {"192.0.2.2": 1}


def test_a_count_under_way_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SLICE", 1)
    factory, clock = EchoFactory(), Clock()
    enter(factory, IPv4Address("TCP", "192.0.2.1", 7))
    count = SourceCount(factory, clock, clock.seconds)
    count.refresh()
    count.stop()
    count.stop()
    assert not clock.getDelayedCalls()
