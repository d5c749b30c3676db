"""Headers of the PROXY protocol: read right, however cut; and whoever sends whatever."""

from __future__ import annotations

import ipaddress
import itertools
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto.core.connection import Connection
from echoproto.core.factory import EchoFactory
from echoproto.proxy_protocol.parser import (
    HEADER_TIME,
    Header,
    HeaderError,
    NoHeaderError,
    ProxyHeaders,
    ProxyMode,
    parse,
)
from tests.logs import logged
from tests.transports import TCPLikeTransport

BALANCER = IPv4Address("TCP", "127.0.0.1", 40000)
STRANGER = IPv4Address("TCP", "198.51.100.9", 40000)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 203.0.113.5 4242 7\r\n"
CLIENT = IPv4Address("TCP", "192.0.2.1", 4242)


def v2(family: int, body: bytes, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


V2_IPV4 = bytes([192, 0, 2, 1, 203, 0, 113, 5]) + struct.pack("!HH", 4242, 7)
V2_IPV6 = (
    ipaddress.ip_address("2001:db8::1").packed
    + ipaddress.ip_address("2001:db8::2").packed
    + struct.pack("!HH", 4242, 7)
)
V2_UNIX = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")
TLV = b"\x04\x00\x03abc"

RIGHT: list[tuple[bytes, IAddress | None]] = [
    (V1, CLIENT),
    (
        b"PROXY TCP6 2001:DB8::1 2001:db8::2 65535 0\r\n",
        IPv6Address("TCP", "2001:db8::1", 65535),
    ),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 whatever 1\r\n", None),
    (v2(0x11, V2_IPV4), CLIENT),
    (v2(0x12, V2_IPV4), CLIENT),
    (v2(0x10, V2_IPV4 + TLV), CLIENT),
    # A length that no type, length, value fills is skipped all the same.
    (v2(0x11, V2_IPV4 + b"\xff" * 60000), CLIENT),
    (v2(0x21, V2_IPV6 + TLV), IPv6Address("TCP", "2001:db8::1", 4242)),
    (v2(0x31, V2_UNIX), UNIXAddress(b"/run/client")),
    (v2(0x00, b""), None),
    (v2(0x00, TLV), None),
    # LOCAL: a health check of the balancer's own; the family does not count.
    (v2(0x00, b"", command=0x20), None),
    (v2(0x11, V2_IPV4, command=0x20), None),
    (v2(0xFF, b"x", command=0x20), None),
]
WRONG = [
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4242\r\n", "3 words follow"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4242 7 8\r\n", "5 words follow"),
    (b"PROXY TCP4  192.0.2.1 203.0.113.5 4242 7\r\n", "5 words follow"),
    (b"PROXY \r\n", "'' is no family"),
    (b"PROXY UDP4 192.0.2.1 203.0.113.5 4242 7\r\n", "'UDP4' is no family"),
    (b"PROXY TCP4 192.0.2.256 203.0.113.5 4242 7\r\n", "'192.0.2.256' is no address"),
    (b"PROXY TCP4 192.0.2.01 203.0.113.5 4242 7\r\n", "is no address"),
    (b"PROXY TCP4 2001:db8::1 203.0.113.5 4242 7\r\n", "is no address"),
    (b"PROXY TCP6 192.0.2.1 2001:db8::2 4242 7\r\n", "is no address"),
    (b"PROXY TCP6 fe80::1%eth0 2001:db8::2 4242 7\r\n", "is no address"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.\xff 4242 7\r\n", "is no address"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 65536 7\r\n", "'65536' is no port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 +1 7\r\n", "is no port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4_2 7\r\n", "is no port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 042 7\r\n", "is no port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4242 -7\r\n", "is no port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4242 7\n", "ends in LF alone"),
    (b"PROXY UNKNOWN " + b"x" * 100, "no end within 107 bytes"),
    (SIGNATURE + b"\x11\x11\0\0", "it says version 1"),
    (SIGNATURE + b"\x2f\x11\0\0", "15 is no command"),
    (SIGNATURE + b"\x21\x41\0\0", "0x41 is no family"),
    (SIGNATURE + b"\x21\x13\0\0", "0x13 is no family"),
    (v2(0x11, V2_IPV4[:-1]), "11 bytes of addresses, not 12"),
    (v2(0x21, V2_IPV4), "12 bytes of addresses, not 36"),
    (v2(0x31, V2_UNIX[:-1]), "215 bytes of addresses, not 216"),
]
NONE = [
    b"GET / HTTP/1.1\r\n",
    b"PROXIED",
    b"proxy TCP4",
    b"\r\n\r\n\0\r\nQUIT\r",
    b"\0",
    b"PROXY\t",
]


@pytest.mark.parametrize(("header", "client"), RIGHT)
def test_right_headers(header: bytes, client: IAddress | None) -> None:
    assert parse(header) == Header(len(header), client)
    assert parse(header + b"PROXY payload\r\n") == Header(len(header), client)
    for length in range(min(len(header), 300)):
        assert parse(header[:length]) is None


@pytest.mark.parametrize(("header", "why"), WRONG)
def test_wrong_headers(header: bytes, why: str) -> None:
    with pytest.raises(HeaderError, match=why) as caught:
        parse(header)
    assert not isinstance(caught.value, NoHeaderError)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("stream", NONE)
def test_what_is_no_header(stream: bytes) -> None:
    with pytest.raises(NoHeaderError):
        parse(stream)


near = st.binary(max_size=40).flatmap(
    lambda noise: st.sampled_from([*(header for header, _ in RIGHT[:7]), b"PROXY ", SIGNATURE]).map(
        lambda header: header[: len(header) - len(noise) % (len(header) + 1)] + noise
    )
)


@given(st.binary() | near)
@example(b"")
@example(SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 70000)
def test_anything_is_a_header_or_none_or_wrong(stream: bytes) -> None:
    try:
        header = parse(stream)
    except HeaderError as error:
        told = str(error)
    else:
        told = "right"
        assert header is None or 0 < header.length <= len(stream)
    assert told.isprintable()
    assert len(told) < 200


class Server:
    """A factory that takes headers off, and one connection."""

    def __init__(
        self, mode: ProxyMode, peer: Any = BALANCER, log: str = "connections", **named: Any
    ) -> None:
        self.clock = Clock()
        self.factory = EchoFactory(log, ProxyHeaders(mode, **named), self.clock)
        self.transport = TCPLikeTransport()
        self.connection: Connection = self.factory.buildProtocol(peer)
        self.connection.makeConnection(self.transport)

    def say(self, data: bytes) -> bytes:
        """Send something; return all that has come back."""
        self.connection.dataReceived(data)
        value: bytes = self.transport.value()
        return value

    def end(self) -> bytes:
        self.connection.readConnectionLost()
        value: bytes = self.transport.value()
        self.connection.connectionLost(Failure(ConnectionDone()))
        return value

    @property
    def is_plain(self) -> bool:
        """Nothing stands in front of the connection any more, and nothing is left to come."""
        return not self.clock.getDelayedCalls() and not {
            "dataReceived",
            "readConnectionLost",
            "connectionLost",
        } & set(vars(self.connection))


MODES = [ProxyMode.OPTIONAL, ProxyMode.REQUIRED]
modes = pytest.mark.parametrize("mode", MODES)


@given(
    mode=st.sampled_from(MODES),
    which=st.sampled_from([each for each in RIGHT if len(each[0]) < 1000]),
    payload=st.binary(max_size=30),
    cuts=st.lists(st.integers(0, 300)),
)
def test_the_payload_comes_back_however_it_is_cut(
    mode: ProxyMode, which: tuple[bytes, IAddress | None], payload: bytes, cuts: list[int]
) -> None:
    header, client = which
    stream = header + payload
    server = Server(mode)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(edges):
        server.say(stream[start:end])
    assert server.connection.client == (client or BALANCER)
    assert server.connection.via == (BALANCER if client else None)
    assert server.end() == payload
    assert server.factory.bytes_echoed == len(payload)
    assert not server.factory.refused
    if payload:
        assert server.is_plain


@modes
def test_the_log_names_who_it_is(mode: ProxyMode) -> None:
    with logged() as log:
        server = Server(mode)
        server.say(V1 + b"data")
        server.end()
    opened, closed = log.lines
    assert opened == "opened 192.0.2.1:4242 via 127.0.0.1:40000"
    assert closed.startswith("closed 192.0.2.1:4242: 4 bytes")
    assert server.factory.top_sources(5) == []


@modes
def test_a_health_check_is_no_error_and_no_line(mode: ProxyMode) -> None:
    with logged() as log:
        Server(mode).end()
        server = Server(mode)
        server.say(v2(0, b"", command=0x20))
        server.end()
    assert log.lines == []
    assert (server.factory.silent, dict(server.factory.refused)) == (1, {})


@modes
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("header", "why"), WRONG)
def test_a_wrong_header_closes_with_one_line(
    mode: ProxyMode, cut: bool, header: bytes, why: str
) -> None:
    with logged() as log:
        server = Server(mode)
        for piece in (header[n : n + 1] for n in range(len(header))) if cut else [header]:
            if not server.transport.disconnecting:
                server.say(piece)
        assert server.transport.disconnecting
        assert server.end() == b""
    (line,) = log.lines
    assert line.startswith("refused 127.0.0.1:40000: version ")
    assert why in line
    assert dict(server.factory.refused) == {"proxy": 1}
    assert (server.factory.failed, server.factory.silent) == (0, 0)


def test_many_wrong_headers_are_a_line_a_second() -> None:
    server = Server(ProxyMode.REQUIRED)
    with logged() as log:
        for _ in range(1000):
            connection = server.factory.buildProtocol(BALANCER)
            connection.makeConnection(TCPLikeTransport())
            connection.dataReceived(b"nonsense")
        server.clock.pump([0.5] * 4)
    assert log.lines == [
        "refused 127.0.0.1:40000: no PROXY header",
        "refused 127.0.0.1:40000: no PROXY header (and 998 more of this kind within a second)",
    ]
    assert dict(server.factory.refused) == {"proxy": 1000}


@pytest.mark.parametrize("stream", NONE)
def test_where_it_is_optional_all_else_is_payload(stream: bytes) -> None:
    server = Server(ProxyMode.OPTIONAL)
    assert server.say(stream) == stream
    assert server.connection.client == BALANCER
    assert server.is_plain
    assert server.end() == stream


@pytest.mark.parametrize("stream", NONE)
def test_where_it_is_required_all_else_is_refused(stream: bytes) -> None:
    with logged() as log:
        server = Server(ProxyMode.REQUIRED)
        assert server.say(stream) == b""
    assert log.lines == ["refused 127.0.0.1:40000: no PROXY header"]
    assert server.transport.disconnecting


def test_what_may_become_a_header_waits_for_its_time_and_then_is_payload() -> None:
    server = Server(ProxyMode.OPTIONAL)
    server.clock.advance(100)
    assert server.say(b"PRO") == b""
    server.clock.advance(HEADER_TIME - 0.1)
    assert server.say(b"XY") == b""
    server.clock.advance(0.1)
    assert server.transport.value() == b"PROXY"
    assert server.say(b" TCP4 more") == b"PROXY TCP4 more"
    assert server.is_plain


def test_what_may_become_a_header_is_payload_at_the_end_of_input() -> None:
    server = Server(ProxyMode.OPTIONAL)
    server.say(b"PROXY TCP4 1")
    assert server.end() == b"PROXY TCP4 1"
    assert server.is_plain
    assert server.transport.disconnecting


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4"])
def test_where_it_is_required_it_must_come_in_time(sent: bytes) -> None:
    with logged() as log:
        server = Server(ProxyMode.REQUIRED)
        if sent:
            server.say(sent)
        server.clock.advance(HEADER_TIME)
    assert log.lines == ["refused 127.0.0.1:40000: no PROXY header came within 5 s"]
    assert server.transport.disconnecting
    assert server.is_plain or server.clock.getDelayedCalls()


def test_where_it_is_required_it_must_be_whole_at_the_end_of_input() -> None:
    with logged() as log:
        server = Server(ProxyMode.REQUIRED)
        server.say(V1[:-1])
        assert server.end() == b""
    assert log.lines == ["refused 127.0.0.1:40000: it ended amid its PROXY header"]


def test_from_others_a_header_is_payload_or_refused() -> None:
    server = Server(ProxyMode.OPTIONAL, peer=STRANGER)
    assert server.say(V1) == V1
    assert server.connection.client == STRANGER
    with logged() as log:
        server = Server(ProxyMode.REQUIRED, peer=STRANGER)
    assert log.lines == ["refused 198.51.100.9:40000: no PROXY header is believed from there"]
    assert server.transport.disconnecting


@pytest.mark.parametrize(
    ("peer", "believed"),
    [
        (IPv4Address("TCP", "198.51.100.9", 1), True),
        (IPv6Address("TCP", "::ffff:198.51.100.9", 1), True),
        (IPv6Address("TCP", "2001:db8:5::9", 1), True),
        (UNIXAddress(None), True),
        (IPv4Address("TCP", "127.0.0.1", 1), False),
        (IPv6Address("TCP", "2001:db8:6::9", 1), False),
        (IPv6Address("TCP", "fe80::1%lo", 1), False),
    ],
)
def test_who_is_believed(peer: IAddress, believed: bool) -> None:
    networks = [ipaddress.ip_network(each) for each in ("198.51.100.0/24", "2001:db8:5::/48")]
    assert ProxyHeaders(ProxyMode.REQUIRED, networks).believes(peer) is believed


def test_loopback_is_believed_unless_somebody_is_named() -> None:
    headers = ProxyHeaders(ProxyMode.REQUIRED)
    assert headers.believes(IPv6Address("TCP", "::1", 1))
    assert headers.believes(IPv4Address("TCP", "127.9.9.9", 1))
    assert not headers.believes(STRANGER)


@modes
def test_a_connection_that_finishes_amid_its_header(mode: ProxyMode) -> None:
    server = Server(mode)
    server.say(b"PROXY")
    server.connection.finish()
    server.connection.dataReceived(b" TCP4")
    assert server.end() == b""
    assert not server.clock.getDelayedCalls()
    # Nothing that came is lost without being counted.
    assert server.factory.bytes_discarded == 10
    assert not server.factory.refused


@modes
def test_a_connection_that_breaks_amid_its_header_leaves_nothing(mode: ProxyMode) -> None:
    server = Server(mode)
    server.say(b"PROXY")
    server.connection.connectionLost(Failure(ConnectionDone()))
    assert server.is_plain or vars(server.connection).get("dataReceived") is not None
    assert not server.clock.getDelayedCalls()
    assert server.factory.live == 0


def test_it_is_described_to_other_processes() -> None:
    assert ProxyHeaders.of(ProxyMode.OFF) is None
    assert ProxyHeaders.from_settings(None) is None
    headers = ProxyHeaders.of(ProxyMode.OPTIONAL, [ipaddress.ip_network("198.51.100.0/24")])
    assert headers is not None
    other = ProxyHeaders.from_settings(headers.settings())
    assert other is not None
    assert other.settings() == headers.settings()
    assert (other.required, other.believes(STRANGER)) == (False, True)
