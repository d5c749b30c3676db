"""PROXY headers in front of a connection: who is trusted, and what is done without one."""

from __future__ import annotations

import ipaddress
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto.core.connection import Connection
from echoproto.core.factory import EchoFactory
from echoproto.proxy_protocol.gate import HEADER_TIMEOUT, ProxyHeaders, ProxyMode
from tests.logs import logged
from tests.proxy_protocol.test_parser import CLIENT, NONE, RIGHT, V1, WRONG, v2
from tests.transports import TCPLikeTransport

BALANCER = IPv4Address("TCP", "127.0.0.1", 40000)
STRANGER = IPv4Address("TCP", "198.51.100.9", 40000)


class Server:
    """A factory that takes headers off, and one connection."""

    def __init__(
        self, mode: ProxyMode, peer: Any = BALANCER, log: str = "connections", **named: Any
    ) -> None:
        self.clock = Clock()
        self.factory = EchoFactory(
            log=log, proxy_headers=ProxyHeaders(mode, **named), reactor=self.clock
        )
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
        own = vars(self.connection)
        return (
            not self.clock.getDelayedCalls()
            and own.get("dataReceived") is own.get("plain_echo")
            and not {"readConnectionLost", "connectionLost"} & set(own)
        )


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
    assert server.factory.stats.bytes_echoed == len(payload)
    assert not server.factory.stats.refused
    if payload:
        assert server.is_plain


@modes
def test_the_log_names_the_client(mode: ProxyMode) -> None:
    with logged() as log:
        server = Server(mode)
        server.say(V1 + b"data")
        server.end()
    opened, closed = log.lines
    assert opened == "opened 192.0.2.1:4242 via 127.0.0.1:40000"
    assert closed.startswith("closed 192.0.2.1:4242: 4 bytes")


@modes
def test_a_health_check_is_no_error_and_no_line(mode: ProxyMode) -> None:
    with logged() as log:
        Server(mode).end()
        server = Server(mode)
        server.say(v2(0, b"", command=0x20))
        server.end()
    assert log.lines == []
    assert (server.factory.stats.silent, dict(server.factory.stats.refused)) == (1, {})


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
    assert dict(server.factory.stats.refused) == {"proxy": 1}
    assert (server.factory.stats.failed, server.factory.stats.silent) == (0, 0)


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
        "refused 127.0.0.1:40000: no PROXY header (and 998 more in the last second)",
    ]
    assert dict(server.factory.stats.refused) == {"proxy": 1000}


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
    server.clock.advance(HEADER_TIMEOUT - 0.1)
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
        server.clock.advance(HEADER_TIMEOUT)
    assert log.lines == ["refused 127.0.0.1:40000: no PROXY header within 5 s"]
    assert server.transport.disconnecting
    assert server.is_plain or server.clock.getDelayedCalls()


def test_where_it_is_required_it_must_be_whole_at_the_end_of_input() -> None:
    with logged() as log:
        server = Server(ProxyMode.REQUIRED)
        server.say(V1[:-1])
        assert server.end() == b""
    assert log.lines == ["refused 127.0.0.1:40000: incomplete PROXY header"]


def test_from_others_a_header_is_payload_or_refused() -> None:
    server = Server(ProxyMode.OPTIONAL, peer=STRANGER)
    assert server.say(V1) == V1
    assert server.connection.client == STRANGER
    with logged() as log:
        server = Server(ProxyMode.REQUIRED, peer=STRANGER)
    assert log.lines == [
        "refused 198.51.100.9:40000: PROXY headers from this address are not trusted"
    ]
    assert server.transport.disconnecting


@pytest.mark.parametrize(
    ("peer", "trusted"),
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
def test_which_peers_are_trusted(peer: IAddress, trusted: bool) -> None:
    networks = ["198.51.100.0/24", ipaddress.ip_network("2001:db8:5::/48")]
    assert ProxyHeaders(ProxyMode.REQUIRED, trusted=networks).trusts(peer) is trusted


def test_loopback_is_trusted_unless_networks_are_named() -> None:
    headers = ProxyHeaders(ProxyMode.REQUIRED)
    assert headers.trusts(IPv6Address("TCP", "::1", 1))
    assert headers.trusts(IPv4Address("TCP", "127.9.9.9", 1))
    assert not headers.trusts(STRANGER)


@modes
def test_a_connection_that_finishes_amid_its_header(mode: ProxyMode) -> None:
    server = Server(mode)
    server.say(b"PROXY")
    server.connection.finish()
    server.connection.dataReceived(b" TCP4")
    assert server.end() == b""
    assert not server.clock.getDelayedCalls()
    # Nothing that came is lost without being counted.
    assert server.factory.stats.bytes_discarded == 10
    assert not server.factory.stats.refused


@modes
def test_a_connection_that_breaks_amid_its_header_leaves_nothing(mode: ProxyMode) -> None:
    server = Server(mode)
    server.say(b"PROXY")
    server.connection.connectionLost(Failure(ConnectionDone()))
    assert server.is_plain or vars(server.connection).get("dataReceived") is not None
    assert not server.clock.getDelayedCalls()
    assert server.factory.live == 0


def test_it_is_described_to_other_processes() -> None:
    assert ProxyHeaders.for_mode(ProxyMode.OFF) is None
    headers = ProxyHeaders.for_mode(ProxyMode.OPTIONAL, ["198.51.100.0/24"])
    assert headers is not None
    other = ProxyHeaders(**json.loads(json.dumps(headers.as_dict())))
    assert other.as_dict() == headers.as_dict()
    assert (other.required, other.trusts(STRANGER)) == (False, True)


def test_strings_are_accepted() -> None:
    assert ProxyHeaders("required").required
    assert not ProxyHeaders("optional").required
    assert ProxyHeaders("optional", trusted=["192.0.2.0/24"]).trusts(CLIENT)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"mode": "off"}, "mode='off'; allowed: optional, required"),
        ({"mode": ProxyMode.OFF}, "mode='off'; allowed: optional, required"),
        ({"mode": "always"}, "mode='always'; allowed: optional, required"),
        ({"mode": True}, "mode='True'; allowed: optional, required"),
        ({"header_timeout": 0}, "header_timeout=0; allowed: seconds, more than 0"),
        ({"header_timeout": float("nan")}, "header_timeout=nan; allowed: seconds, more than 0"),
        ({"trusted": "192.0.2.0/24"}, "trusted='192.0.2.0/24'; allowed: a list of networks"),
        ({"trusted": ["192.0.2.1/24"]}, "192.0.2.1/24 has host bits set"),
        ({"trusted": ["nonsense"]}, "'nonsense' does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_what_it_is_given_is_validated(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ProxyHeaders(**{"mode": "required", **arguments})
