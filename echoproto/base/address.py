"""What the kernel calls an address, as Twisted does, and as a log line does."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

# What an IPv4 address is mapped into IPv6 with (RFC 4291, 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"


def format_address(address: IAddress) -> str:
    """Write an address as people type it.

    :param address: of a listening port or of a client.
    :returns: ``192.0.2.1:7``, ``[2001:db8::1]:7`` (RFC 3986, 3.2.2),
        ``unix:/run/echo.sock``, or ``unix:`` for a client without a name.
    """
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress):
        name = (address.name or b"").decode(errors="backslashreplace")
        # A client may have any name, one that breaks the line included.
        return f"unix:{name if name.isprintable() else ascii(name)[1:-1]}"
    return str(address)


def source(address: IAddress | None) -> str | None:
    """Return what counts as one source: an IPv4 address, or an IPv6 network of /64.

    A network of /64 is the least that one user gets, who may take any address
    in it (RFC 6177, RFC 4291 section 2.5.1).

    :param address: of a client.
    :returns: ``192.0.2.1`` or ``2001:db8:0:1::/64``; an IPv4 client of an IPv6
        socket (``::ffff:192.0.2.1``) is one of IPv4. ``None`` for what has no
        such address, as a UNIX client.
    """
    if isinstance(address, IPv4Address):
        return address.host
    if not isinstance(address, IPv6Address):
        return None
    packed = socket.inet_pton(socket.AF_INET6, address.host.partition("%")[0])
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


def to_address(sockaddr: Any) -> IPv4Address | IPv6Address | UNIXAddress:
    """Return what Twisted calls the address of a socket.

    :param sockaddr: what ``socket.getsockname`` and ``accept`` call it.
    """
    if not isinstance(sockaddr, tuple):
        return UNIXAddress(sockaddr)
    if len(sockaddr) == 2:
        return IPv4Address("TCP", *sockaddr)
    if sockaddr[3]:
        # Without its scope a link-local address says nothing.
        host, _ = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return IPv6Address("TCP", host, *sockaddr[1:])
    return IPv6Address("TCP", *sockaddr)
