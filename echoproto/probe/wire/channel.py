"""A non-blocking connection: a stream socket, and what may lie on top of it.

A connection is a stack. At the bottom is a :class:`Channel`, a socket; a :class:`Layer` uses the
one below it, and may have a handshake of its own. The top is what a conversation uses.
"""

from __future__ import annotations

import math
import socket
import ssl
import struct
from collections.abc import Callable

__all__ = ["NOT_NOW", "Channel", "HandshakeError", "Layer"]

# As large as the kernel's own at the beginning (tcp_rmem, tcp(7)).
_RECEIVE_BUFFER = 131_072

NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a channel raises when it would have to wait."""

_ABORT = struct.pack("ii", 1, 0)


class HandshakeError(OSError):
    """A layer could not be set up; the message is one line, and names the layer."""


class Channel:
    """A connected stream socket.

    ``send`` and ``recv`` are those of the socket: they raise one of ``NOT_NOW`` when they would
    have to wait, and OSError when the connection is gone.

    Attributes:
        whole_reads: whether a ``recv`` that returns less than was asked for has emptied it.
        half_closes: whether it can close in one direction, and still receive in the other.
    """

    whole_reads = True
    half_closes = True

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send: Callable[[bytes | memoryview], int] = sock.send
        self.recv: Callable[[int], bytes] = sock.recv

    @property
    def wants_write(self) -> bool:
        """Whether it has pending data, which :meth:`flush` sends."""
        return False

    @property
    def pending(self) -> bool:
        """Whether ``recv`` has something that the socket will not report."""
        return False

    def handshake(self) -> bool:
        """Continue the handshake; return whether it is done.

        Raises:
            HandshakeError: if it failed.
            OSError: the same, for TLS with the target.
        """
        return True

    def wake(self) -> float:
        """Return when to call :meth:`handshake` if there is no event before."""
        return math.inf

    def stuck(self) -> str:
        """Return what the handshake waits for, for people; empty if there is nothing to name."""
        return ""

    def flush(self) -> None:
        """Send pending data, as far as the kernel takes it."""

    def send_urgent(self, data: bytes | memoryview) -> int:
        """Send one byte as urgent data, which TCP alone has.

        Raises:
            OSError: as ``send`` does.
        """
        # In case that it comes back as urgent data: it belongs to the stream here.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        return self.sock.send(data, socket.MSG_OOB)

    def shutdown_write(self) -> None:
        """Close the sending side."""
        self.sock.shutdown(socket.SHUT_WR)

    def take_more(self) -> None:
        """Enlarge the receive buffer that was small for a reader that held: it reads freely now."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)

    def abort(self) -> None:
        """Close with RST (SO_LINGER with a timeout of zero, socket(7))."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.sock.close()

    def close(self) -> None:
        """Close in the normal way."""
        self.sock.close()


class Layer(Channel):
    """A channel on top of another one. As it is, it changes nothing.

    Args:
        below: what it uses.
    """

    def __init__(self, below: Channel) -> None:
        super().__init__(below.sock)
        self.below = below
        self.whole_reads = below.whole_reads
        self.half_closes = below.half_closes
        self.send = below.send
        self.recv = below.recv
        self.unsent = b""  # of this layer's own, which the one below did not take
        self._ready = False

    @property
    def wants_write(self) -> bool:
        return bool(self.unsent) or self.below.wants_write

    @property
    def pending(self) -> bool:
        return self.below.pending

    def handshake(self) -> bool:
        if not self._ready and self.below.handshake():
            self._ready = self.shake()
        return self._ready

    def shake(self) -> bool:
        """Continue the handshake of this layer; return whether it is done."""
        return True

    def wake(self) -> float:
        return self.below.wake()

    def stuck(self) -> str:
        return self.below.stuck() or ("" if self._ready else self.peer())

    def peer(self) -> str:
        """Return what this layer's handshake is with; empty for the target."""
        return ""

    def flush(self) -> None:
        while self.unsent:
            try:
                self.unsent = self.unsent[self.below.send(self.unsent) :]
            except NOT_NOW:
                break
        self.below.flush()

    def shutdown_write(self) -> None:
        self.below.shutdown_write()

    def abort(self) -> None:
        self.below.abort()

    def close(self) -> None:
        self.below.close()
