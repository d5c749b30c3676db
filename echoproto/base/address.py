"""Addresses: as the kernel returns them, as Twisted has them, and in log lines."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

# The prefix of an IPv4 address mapped into IPv6 (RFC 4291, 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"


def format_address(address: IAddress) -> str:
    """Return an address as it is usually written.

    :param address: of a listening port or of a client.
    :returns: ``192.0.2.1:7``, ``[2001:db8::1]:7`` (RFC 3986, 3.2.2),
        ``unix:/run/echo.sock``, ``unix:@echo`` for a name in Linux's abstract namespace,
        or ``unix:`` for a client without a name.
    """
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress):
        name = (address.name or b"").decode(errors="backslashreplace")
        if name.startswith("\0"):
            name = f"@{name[1:]}"
        # A client may have any name, even one with line breaks.
        return f"unix:{name if name.isprintable() else ascii(name)[1:-1]}"
    return str(address)


def source(address: IAddress | None) -> str | None:
    """Return the source that an address counts as: an IPv4 address, or an IPv6 /64.

    One user gets at least a /64, and may use any address in it (RFC 6177, RFC 4291
    section 2.5.1).

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
    """Return a socket's address as Twisted has it.

    :param sockaddr: as ``socket.getsockname`` and ``accept`` return it.
    """
    if not isinstance(sockaddr, tuple):
        return UNIXAddress(sockaddr)
    if len(sockaddr) == 2:
        return IPv4Address("TCP", *sockaddr)
    if sockaddr[3]:
        # A link-local address means nothing without its scope.
        host, _ = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return IPv6Address("TCP", host, *sockaddr[1:])
    return IPv6Address("TCP", *sockaddr)
