"""How an address is written in a log line."""

from __future__ import annotations

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
