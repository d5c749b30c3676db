"""One side of a relayed connection: it writes what the kernel takes, and keeps the rest."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from echoproto.probe.relay.loop import ERROR, HANGUP, READ, WRITE, Loop

__all__ = ["READ_SIZE", "Side", "reset_on_close"]

READ_SIZE = 65536
"""The maximum size of one read, in bytes."""

_KEPT = 65536


def reset_on_close(sock: socket.socket) -> None:
    """Make close(2) send RST instead of FIN."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Side:
    """The client's or the server's side.

    It has no socket until :meth:`attach`. What is sent before waits.

    Args:
        loop: it waits for the socket.
        received: called with the bytes of each read.
        ended: called once, when the peer has sent FIN.
        lost: called once, when the peer has reset the connection; the side is closed then.
        drained: called when all that waited has been taken by the kernel.

    Attributes:
        pending: bytes that the kernel has not taken yet.
        open: whether it has not been closed.
        read_ended: whether the peer has sent FIN.
        fin_asked: whether :meth:`fin` was called.
        bytes_in: how many bytes were read.
        bytes_out: how many bytes the kernel has taken.
    """

    def __init__(
        self,
        loop: Loop,
        received: Callable[[bytes], None],
        ended: Callable[[], None],
        lost: Callable[[], None],
        drained: Callable[[], None],
    ) -> None:
        self.received, self.ended, self.lost, self.drained = received, ended, lost, drained
        self.sock: socket.socket | None = None
        self.pending = bytearray()
        self.open = True
        self.read_ended = False
        self.fin_asked = False
        self.bytes_in = self.bytes_out = 0
        self._loop = loop
        self._reading = True
        #: The events that are waited for; None while the socket is not watched.
        self._watched: int | None = None

    @property
    def fin_sent(self) -> bool:
        """Whether everything was sent, and FIN after it."""
        return self.fin_asked and not self.pending and self.sock is not None

    def attach(self, sock: socket.socket) -> None:
        """Use a connected socket from now on."""
        self.sock = sock
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            # It may have been reset by now, which reading tells.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # An urgent byte stays in its place of the stream, or it would be lost.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        self._loop.own(sock)
        self._flush()

    def keep_little(self) -> None:
        """Let the kernel keep 64 KiB of what the peer does not take, as many relays do.

        Otherwise it keeps 4 MiB (tcp_wmem, tcp(7)), which a relay that closes still delivers.
        """
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KEPT)

    def send(self, data: bytes) -> None:
        """Write, now or when the kernel has space. Nothing is sent after :meth:`fin`."""
        if self.open and not self.fin_asked:
            self.pending += data
            self._flush()

    def fin(self) -> None:
        """End the writing side once all is sent."""
        if self.open and not self.fin_asked:
            self.fin_asked = True
            self._flush()

    def close(self) -> None:
        """Close at once; the unsent bytes are dropped. Unread input makes the kernel send RST."""
        if self.open:
            self.open = False
            self.pending.clear()
            if self.sock is not None:
                self._loop.close(self.sock)

    def reset(self) -> None:
        """Close with RST. A UNIX socket has none: it is closed."""
        if self.open and self.sock is not None:
            reset_on_close(self.sock)
        self.close()

    def hold(self, held: bool) -> None:
        """Stop reading, or continue."""
        if self._reading is held:
            self._reading = not held
            self._watch()

    def _watch(self) -> None:
        if not self.open or self.sock is None:
            return
        # With nothing to wait for, a reset is still reported.
        wanted = READ if self._reading and not self.read_ended else 0
        if self.pending:
            wanted |= WRITE
        if wanted == self._watched:
            return
        if self._watched is None:
            self._loop.watch(self.sock, wanted, self._ready)
        else:
            self._loop.change(self.sock, wanted)
        self._watched = wanted

    def _ready(self, events: int) -> None:
        gone = bool(events & (ERROR | HANGUP))
        if self._reading and not self.read_ended:
            if events & READ or gone:
                self._read(to_the_end=gone)
        elif gone:
            self._look()
        if events & WRITE and self.open:
            self._flush()

    def _read(self, to_the_end: bool) -> None:
        """Read once, or until there is nothing more: what came before a reset is passed on."""
        while self.open and self._reading and not self.read_ended:
            try:
                assert self.sock is not None
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                self._broken()
                return
            if data:
                self.bytes_in += len(data)
                self.received(data)
            else:
                self.read_ended = True
                self._watch()
                self.ended()
            if not to_the_end:
                return

    def _look(self) -> None:
        """Find out why a socket that is not being read has hung up."""
        assert self.sock is not None
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._broken()
        elif not self.pending:
            # Both directions have ended. It would be reported again and again.
            self._loop.ignore(self.sock)
            self._watched = None

    def _flush(self) -> None:
        if self.sock is None:
            return
        had = bool(self.pending)
        try:
            while self.pending:
                sent = self.sock.send(self.pending)
                self.bytes_out += sent
                del self.pending[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._broken()
            return
        if not self.pending and self.fin_asked:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
        self._watch()
        if had and not self.pending:
            self.drained()

    def _broken(self) -> None:
        self.close()
        self.lost()
