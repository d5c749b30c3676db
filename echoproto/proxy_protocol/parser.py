"""Headers of the PROXY protocol, versions 1 and 2; a parser without I/O.

Source: "The PROXY protocol", versions 1 & 2, of HAProxy (doc/proxy-protocol.txt).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

if TYPE_CHECKING:
    pass

_Host = ipaddress.IPv4Address | ipaddress.IPv6Address

_V1_BEGIN = b"PROXY "
# The longest line, its end included (section 2.1).
_V1_MOST = 107
_V1_FAMILIES: dict[bytes, Callable[[str], _Host]] = {
    b"TCP4": ipaddress.IPv4Address,
    b"TCP6": ipaddress.IPv6Address,
}

_V2_BEGIN = b"\r\n\r\n\0\r\nQUIT\n"
# Up to the length of what follows (section 2.2).
_V2_FIXED = 16
_LOCAL, _PROXY = range(2)
_UNSPECIFIED, _IPV4, _IPV6, _UNIX = range(4)
_LAST_PROTOCOL = 2
# The two addresses, and the two ports if there are any.
_V2_ADDRESSES = {
    _IPV4: struct.Struct("!4s4sHH"),
    _IPV6: struct.Struct("!16s16sHH"),
    _UNIX: struct.Struct("!108s108s"),
}


class HeaderError(ValueError):
    """An invalid header; the message says why."""


class NoHeaderError(HeaderError):
    """No header: the first bytes differ from those of one."""


@dataclass(frozen=True)
class Header:
    """A complete header.

    :ivar length: its length, in bytes.
    :ivar client: the client's address; ``None`` if the balancer itself is the client
        (``LOCAL``, as for a health check) or names none (``UNKNOWN``).
    """

    length: int
    client: IAddress | None


def parse(data: bytes | bytearray) -> Header | None:
    """Parse the header at the start of a stream.

    :param data: what has arrived so far.
    :returns: the header, or ``None`` if it is not complete yet.
    :raises NoHeaderError: when the stream does not begin as a header does.
    :raises HeaderError: when it does, but is not a valid header.
    """
    if data.startswith(_V1_BEGIN):
        return _parse_v1(bytes(data[:_V1_MOST]))
    if data.startswith(_V2_BEGIN):
        return _parse_v2(data)
    if _V1_BEGIN.startswith(data) or _V2_BEGIN.startswith(data):
        return None
    raise NoHeaderError("no PROXY header")


def _parse_v1(data: bytes) -> Header | None:
    line, end, _ = data.partition(b"\r\n")
    if not end:
        if len(data) == _V1_MOST:
            raise HeaderError(f"version 1: no line end within {_V1_MOST} bytes")
        if b"\n" in data:
            raise HeaderError("version 1: the line ends with LF only")
        return None
    length = len(line) + 2
    family, *words = line[len(_V1_BEGIN) :].split(b" ")
    if family == b"UNKNOWN":
        return Header(length, None)
    if family not in _V1_FAMILIES:
        raise HeaderError(f"version 1: unknown family {_shown(family)}")
    if len(words) != 4:
        raise HeaderError(f"version 1: {len(words)} fields after the family, expected 4")
    client, _ = (_v1_host(word, _V1_FAMILIES[family]) for word in words[:2])
    port, _ = (_v1_port(word) for word in words[2:])
    return Header(length, _tcp_address(client, port))


def _v1_host(word: bytes, kind: Callable[[str], _Host]) -> _Host:
    try:
        # A zone, as in fe80::1%eth0, means nothing on another machine.
        if b"%" in word:
            raise ValueError("it has a zone")
        return kind(word.decode("ascii"))
    except ValueError:
        raise HeaderError(f"version 1: invalid address {_shown(word)}") from None


def _v1_port(word: bytes) -> int:
    # int() takes more than digits.
    if not re.fullmatch(rb"0|[1-9][0-9]{0,4}", word) or int(word) > 65535:
        raise HeaderError(f"version 1: invalid port {_shown(word)}")
    return int(word)


def _parse_v2(data: bytes | bytearray) -> Header | None:
    if len(data) < _V2_FIXED:
        return None
    command, family, size = struct.unpack_from("!BBH", data, len(_V2_BEGIN))
    if command >> 4 != 2:
        raise HeaderError(f"version 2: unknown version {command >> 4}")
    if command & 15 not in (_LOCAL, _PROXY):
        raise HeaderError(f"version 2: unknown command {command & 15}")
    reads = None
    if command & 15 == _PROXY:
        if family >> 4 > _UNIX or family & 15 > _LAST_PROTOCOL:
            raise HeaderError(f"version 2: unknown family {family:#04x}")
        reads = _V2_ADDRESSES.get(family >> 4)
    if reads is not None and size < reads.size:
        raise HeaderError(f"version 2: {size} bytes of addresses, expected {reads.size}")
    length = _V2_FIXED + size
    if len(data) < length:
        return None
    # What follows the addresses (type, length, value) is not for us.
    return Header(length, None if reads is None else _v2_client(reads, data))


def _v2_client(reads: struct.Struct, data: bytes | bytearray) -> IAddress:
    client, _, *ports = reads.unpack_from(data, _V2_FIXED)
    if not ports:
        return UNIXAddress(client.rstrip(b"\0"))
    return _tcp_address(ipaddress.ip_address(client), ports[0])


def _tcp_address(host: _Host, port: int) -> IPv4Address | IPv6Address:
    kind = IPv4Address if host.version == 4 else IPv6Address
    return kind("TCP", str(host), port)


def _shown(word: bytes) -> str:
    """Return bytes as one short printable line."""
    return repr(word[:40])[1:] + ("..." if len(word) > 40 else "")
