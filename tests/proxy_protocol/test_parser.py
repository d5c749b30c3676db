"""PROXY headers, as bytes: valid ones however split, and anything else."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from echoproto.proxy_protocol.parser import Header, HeaderError, NoHeaderError, parse

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
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4242\r\n", "3 fields after the family, expected 4"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4242 7 8\r\n", "5 fields after the family"),
    (b"PROXY TCP4  192.0.2.1 203.0.113.5 4242 7\r\n", "5 fields after the family"),
    (b"PROXY \r\n", "unknown family ''"),
    (b"PROXY UDP4 192.0.2.1 203.0.113.5 4242 7\r\n", "unknown family 'UDP4'"),
    (b"PROXY TCP4 192.0.2.256 203.0.113.5 4242 7\r\n", "invalid address '192.0.2.256'"),
    (b"PROXY TCP4 192.0.2.01 203.0.113.5 4242 7\r\n", "invalid address"),
    (b"PROXY TCP4 2001:db8::1 203.0.113.5 4242 7\r\n", "invalid address"),
    (b"PROXY TCP6 192.0.2.1 2001:db8::2 4242 7\r\n", "invalid address"),
    (b"PROXY TCP6 fe80::1%eth0 2001:db8::2 4242 7\r\n", "invalid address"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.\xff 4242 7\r\n", "invalid address"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 65536 7\r\n", "invalid port '65536'"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 +1 7\r\n", "invalid port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4_2 7\r\n", "invalid port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 042 7\r\n", "invalid port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4242 -7\r\n", "invalid port"),
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4242 7\n", "ends with LF only"),
    (b"PROXY UNKNOWN " + b"x" * 100, "no line end within 107 bytes"),
    (SIGNATURE + b"\x11\x11\0\0", "unknown version 1"),
    (SIGNATURE + b"\x2f\x11\0\0", "unknown command 15"),
    (SIGNATURE + b"\x21\x41\0\0", "unknown family 0x41"),
    (SIGNATURE + b"\x21\x13\0\0", "unknown family 0x13"),
    (v2(0x11, V2_IPV4[:-1]), "11 bytes of addresses, expected 12"),
    (v2(0x21, V2_IPV4), "12 bytes of addresses, expected 36"),
    (v2(0x31, V2_UNIX[:-1]), "215 bytes of addresses, expected 216"),
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
