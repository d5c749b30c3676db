"""Clients of a relay, and a server behind it, with blocking sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

PATIENCE = 10.0


def connect(port: int, timeout: float = PATIENCE) -> socket.socket:
    """A connected client."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def read_all(sock: socket.socket) -> tuple[bytes, str]:
    """All that comes, and how it ends: ``eof``, ``reset`` or ``open``."""
    received = bytearray()
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionResetError:
        return bytes(received), "reset"
    except TimeoutError:
        return bytes(received), "open"
    return bytes(received), "eof"


def converse(
    port: int, data: bytes = b"", *, fin: bool = True, timeout: float = PATIENCE
) -> tuple[bytes, str]:
    """Send bytes and FIN; return what came back."""
    try:
        client = connect(port, timeout)
    except ConnectionResetError:
        return b"", "reset"
    with client:
        try:
            client.sendall(data)
            if fin:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            # The kernel reports a reset once.
            return read_all(client)[0], "reset"
        return read_all(client)


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def listener(backlog: int = 128) -> Iterator[socket.socket]:
    """A listening socket that a test accepts from."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as sock:
        sock.settimeout(PATIENCE)
        yield sock


def accept(sock: socket.socket) -> socket.socket:
    """The server's side of the next connection."""
    accepted, _ = sock.accept()
    accepted.settimeout(PATIENCE)
    return accepted


def port_of(sock: socket.socket) -> int:
    """The port that a socket is bound to."""
    port: int = sock.getsockname()[1]
    return port
