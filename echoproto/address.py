"""What the kernel calls an address, as Twisted does, and as a log line does."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress


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
