"""How many connections each source may have."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto.core.connection import Connection
from echoproto.core.factory import EchoFactory
from echoproto.limits.limits import Limits
from echoproto.limits.per_source import PerSourceLimit
from echoproto.proxy_protocol.gate import ProxyHeaders, ProxyMode
from tests.logs import logged
from tests.transports import TCPLikeTransport, TLSLikeTransport


def make(limits: Limits, headers: ProxyHeaders | None = None) -> EchoFactory:
    return EchoFactory(log="connections", proxy_headers=headers, reactor=Clock(), limits=limits)


def enter(
    factory: EchoFactory, peer: IAddress, transport: TCPLikeTransport | None = None
) -> Connection:
    connection = factory.buildProtocol(peer)
    transport = TCPLikeTransport() if transport is None else transport
    connection.makeConnection(transport)
    if transport.disconnecting:
        connection.connectionLost(Failure(ConnectionDone()))
    return connection


def leave(connection: Connection) -> None:
    connection.connectionLost(Failure(ConnectionDone()))


def ipv4(host: str, port: int = 7) -> IPv4Address:
    return IPv4Address("TCP", host, port)


def ipv6(host: str) -> IPv6Address:
    return IPv6Address("TCP", host, 7)


def test_a_source_has_no_more_connections_than_it_may() -> None:
    factory = make(Limits(max_per_source=2))
    first, second = enter(factory, ipv4("192.0.2.1")), enter(factory, ipv4("192.0.2.1"))
    with logged() as log:
        third = enter(factory, ipv4("192.0.2.1", 4242))
    assert log.lines == [
        "refused 192.0.2.1:4242: 192.0.2.1 is at its limit of 2 connections (--max-per-source)"
    ]
    assert factory.connections == {first, second}
    assert (factory.stats.refused, factory.stats.failed, factory.stats.silent) == (
        {"source": 1},
        0,
        0,
    )
    assert third.refused == "source"
    # Others are not concerned, and one that leaves makes room for one.
    enter(factory, ipv4("192.0.2.2"))
    leave(first)
    assert enter(factory, ipv4("192.0.2.1")).refused is None
    assert enter(factory, ipv4("192.0.2.1")).refused == "source"


def test_ipv6_counts_by_64_and_mapped_ipv4_as_ipv4() -> None:
    factory = make(Limits(max_per_source=1))
    assert enter(factory, ipv6("2001:db8::1")).refused is None
    assert enter(factory, ipv6("2001:db8::ffff:1")).refused == "source"
    assert enter(factory, ipv6("2001:db8:0:1::1")).refused is None
    assert enter(factory, ipv4("192.0.2.1")).refused is None
    assert enter(factory, ipv6("::ffff:192.0.2.1")).refused == "source"
    assert enter(factory, ipv6("::ffff:192.0.2.2")).refused is None


def test_unix_clients_have_no_source() -> None:
    factory = make(Limits(max_per_source=1))
    for _ in range(3):
        assert enter(factory, UNIXAddress(None)).refused is None


def test_tls_is_not_asked_for_a_handshake() -> None:
    factory = make(Limits(max_per_source=1))
    enter(factory, ipv4("192.0.2.1"))
    transport = TLSLikeTransport()
    enter(factory, ipv4("192.0.2.1"), transport)
    assert "abortConnection" in transport.calls


def test_with_a_header_the_source_is_the_one_it_names() -> None:
    headers = ProxyHeaders(ProxyMode.REQUIRED)
    factory = make(Limits(max_per_source=1), headers)
    balancer = ipv4("127.0.0.1")
    connections = [enter(factory, balancer) for _ in range(4)]
    for connection, host in zip(connections, ("1", "2", "1", "3"), strict=True):
        connection.dataReceived(b"PROXY TCP4 192.0.2.%s 192.0.2.9 1 2\r\nx" % host.encode())
    assert [each.refused for each in connections] == [None, None, "source", None]
    # What the one sent that was refused is not echoed.
    assert [each.bytes_echoed for each in connections] == [1, 1, 0, 1]
    leave(connections[0])
    again = enter(factory, balancer)
    again.dataReceived(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n")
    assert again.refused is None


def test_an_attack_is_a_line_a_second() -> None:
    factory = make(Limits(max_per_source=1))
    clock = factory.clock
    assert isinstance(clock, Clock)
    with logged() as log:
        for number in range(1000):
            enter(factory, ipv4(f"192.0.2.{number % 2 + 1}", number))
        assert len(log.lines) == 1
        clock.advance(1)
    assert len(log.lines) == 2
    assert "996 more" in log.lines[1]
    assert "499 from 192.0.2.2, 498 from 192.0.2.1" in log.lines[1]
    assert factory.stats.refused["source"] == 998


def test_a_factory_alone_keeps_to_the_limit_too() -> None:
    factory = make(Limits(max_connections=2))
    first = enter(factory, ipv4("192.0.2.1"))
    enter(factory, ipv4("192.0.2.2"))
    assert enter(factory, ipv4("192.0.2.3")).refused == "slots"
    assert factory.live == 2
    leave(first)
    assert enter(factory, ipv4("192.0.2.3")).refused is None


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_sources_count_right(most: int, events: list[tuple[str, bool]]) -> None:
    sources = PerSourceLimit(most)
    live: Counter[str] = Counter()
    for name, enters in events:
        if enters:
            assert sources.acquire(name) is (live[name] < most)
            live[name] += live[name] < most
        elif live[name]:
            sources.release(name)
            live[name] -= 1
    # A source without connections is not kept.
    assert len(sources) == sum(number > 0 for number in live.values())
