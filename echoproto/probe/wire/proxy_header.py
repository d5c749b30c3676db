"""The PROXY protocol header, as a balancer in front of the target would send it.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import socket
import struct

__all__ = ["proxy_header"]

_V2 = b"\r\n\r\n\0\r\nQUIT\n"


def proxy_header(version: str | None, sock: socket.socket, known: bool) -> bytes:
    """Return the header for a connected socket.

    Args:
        version: ``v1`` or ``v2``; None for no header, which is empty.
        sock: the connection.
        known: whether its addresses are those of the two ends.
    """
    if version is None:
        return b""
    if not known or sock.family not in (socket.AF_INET, socket.AF_INET6):
        if version == "v1":
            return b"PROXY UNKNOWN\r\n"
        return _V2 + struct.pack("!BBH", 0x20, 0x00, 0)
    (source, source_port), (to, to_port) = sock.getsockname()[:2], sock.getpeername()[:2]
    six = sock.family == socket.AF_INET6
    if version == "v1":
        family = "TCP6" if six else "TCP4"
        return f"PROXY {family} {source} {to} {source_port} {to_port}\r\n".encode("ascii")
    addresses = b"".join(socket.inet_pton(sock.family, a.split("%")[0]) for a in (source, to))
    body = addresses + struct.pack("!HH", source_port, to_port)
    return _V2 + struct.pack("!BBH", 0x21, 0x21 if six else 0x11, len(body)) + body
