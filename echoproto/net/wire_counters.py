"""What the kernel tells of a connection: the bytes on the wire, and those in its queues."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any, NamedTuple

from echoproto.base.tcp_info import read_tcp_info
from echoproto.net.transports import bytes_queued

try:
    import fcntl
    import termios
except ImportError:
    # A platform without them, on which sockets do not tell either.
    fcntl = termios = None  # type: ignore[assignment]

# struct tcp_info of linux/tcp.h: __u64 tcpi_bytes_acked and tcpi_bytes_received (Linux
# 4.1): the bytes that the peer has acknowledged, and those that it has sent.
_WIRE = struct.Struct("=120x2Q")


class Unreturned(NamedTuple):
    """Bytes that a peer has sent and not received back, as far as is known.

    :ivar queued: held by the server.
    :ivar unread: held by the kernel, and not read by the server yet.
    :ivar sent: passed to the kernel by the server, and not acknowledged by the peer.
    """

    queued: int
    unread: int
    sent: int


def wire_counters(transport: Any, received: int) -> tuple[int, ...] | None:
    """Return numbers that change whenever a byte moves to or from the peer.

    Some kernels, as gVisor, answer with zeros. An answer that contradicts what is known
    for certain is not used.

    :param transport: of either lane, with or without TLS.
    :param received: how many bytes have arrived from the peer, at least.
    :returns: the numbers; none for a transport without a socket. ``None`` if the kernel
        does not tell: a byte may have moved, or not.
    """
    sock = _socket(transport)
    if sock is None:
        return ()
    counters = None if _is_unix(sock) else read_tcp_info(sock, _WIRE)
    if counters is not None and counters[1] < received:
        counters = None
    # What is queued for the peer, here and in the kernel; a UNIX socket tells that too.
    queued, sent = bytes_queued(transport), _kernel_queue(sock, "TIOCOUTQ")
    if counters is not None:
        return (*counters, queued, sent)
    if queued and not sent:
        # The kernel took no more, so its own queue is full.
        return None
    return (queued, sent)


def unreturned(transport: Any) -> Unreturned:
    """Return where the bytes are that a peer has not received back.

    :param transport: of either lane, with or without TLS.
    """
    queued = bytes_queued(transport)
    sock = _socket(transport)
    if sock is None:
        return Unreturned(queued, 0, 0)
    # What was written to a UNIX socket is in the peer's queue already.
    sent = 0 if _is_unix(sock) else _kernel_queue(sock, "TIOCOUTQ")
    return Unreturned(queued, _kernel_queue(sock, "FIONREAD"), sent)


def _socket(transport: Any) -> socket.socket | None:
    # A TLS layer passes on the attributes of the transport below it.
    found = getattr(transport, "socket", None)
    return found if isinstance(found, socket.socket) else None


def _is_unix(sock: socket.socket) -> bool:
    return bool(sock.family == getattr(socket, "AF_UNIX", None))


def _kernel_queue(sock: socket.socket, request: str) -> int:
    """Return how many bytes are in a queue of a socket; 0 if the kernel does not tell.

    :param request: of ``ioctl_tty(2)``, by name.
    """
    number = getattr(termios, request, None)
    if number is None:
        return 0
    answer = bytearray(4)
    try:
        fcntl.ioctl(sock, number, answer)
    except (OSError, ValueError):
        # ValueError: it is closed.
        return 0
    return int.from_bytes(answer, sys.byteorder, signed=True)
