"""The fast lane's transports: they send at once, and read no more than they can keep.

Each is Twisted's own, with what it costs per write and per connection taken
out. The lane is :mod:`echoproto.net.epoll_lane`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import error, main, tcp, unix
from twisted.internet.interfaces import IProtocol, ISSLTransport
from twisted.python.failure import Failure

from echoproto.base.address import to_address

if TYPE_CHECKING:
    from echoproto.net.epoll_lane import EpollLane

# The most that is read at once, in bytes, and so the most that a connection
# holds for a peer that does not read.
_MOST = 224 * 1024
# What is read at once as long as it suffices: allocating much to receive
# little costs more than the little does.
_LEAST = 4 * 1024


class DirectWriteMixin:
    """What the lane's transports have in common; mixed into a ``tcp.Server``.

    It reads attributes that Twisted does not document, because nothing
    else tells whether a transport has bytes queued, has closed its write side,
    or was aborted: ``_tempDataLen`` and ``_writeDisconnected`` of
    ``abstract.FileDescriptor``, ``_aborting`` of ``tcp.Connection``.
    """

    reactor: EpollLane
    dataBuffer: bytes
    _tempDataLen: int
    _writeDisconnected: bool
    _aborting: bool
    socket: socket.socket
    connected: int
    disconnecting: int
    producer: Any
    producerPaused: bool
    streamingProducer: bool
    TLS: bool

    # Nothing stands between a write and the kernel: the connection is up,
    # nothing is queued, no TLS layer was started, and no pull producer waits
    # to be asked for more. One flag, since every write looks at it.
    _ready: bool
    # What fileno() returns as long as the connection is up.
    _fd: int

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now, and queue the rest."""
        if not self._ready or not isinstance(data, bytes):
            super().write(data)  # type: ignore[misc]
            return
        try:
            # os.write, and os.read below, since they parse their arguments at
            # half the cost of a socket's methods.
            sent = os.write(self._fd, data)
        except OSError:
            # Full, or broken: which it is the reactor will find out, and tell
            # the protocol from there and not in the middle of its write.
            sent = 0
        if sent < len(data):
            self._ready = False
            super().write(data[sent:])  # type: ignore[misc]
            if (
                self.streamingProducer
                and self.producer is not None
                and not self.producerPaused
                # It may have been dropped: the write side is closed, or just being closed.
                and self._tempDataLen
            ):
                self.producerPaused = True
                self.producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send what the kernel takes now, and queue the rest."""
        chunks = list(iovec)
        if self._ready and all(isinstance(chunk, bytes) for chunk in chunks):
            self.write(b"".join(chunks))
        else:
            # It refuses what is not bytes.
            super().writeSequence(chunks)  # type: ignore[misc]

    def startWriting(self) -> None:
        """Wait until the kernel takes more; or not at all, if there is nothing to take."""
        if self._nothing_queued():
            self.reactor.write_soon(self)
        else:
            super().startWriting()  # type: ignore[misc]

    def doWrite(self) -> Any:
        """Send what is queued."""
        if self._nothing_queued() and self.disconnecting and self.producer is None:
            return main.CONNECTION_DONE
        why = super().doWrite()  # type: ignore[misc]
        if why is None:
            self._ready = self._is_ready()
        return why

    def writeSomeData(self, data: bytes) -> Any:
        """Send something; nothing needs no system call."""
        return super().writeSomeData(data) if data else 0  # type: ignore[misc]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """A pull producer is asked for more from ``doWrite``, so its bytes are queued."""
        if not streaming:
            self._ready = False
        super().registerProducer(producer, streaming)  # type: ignore[misc]

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """From here on, what is written goes through a TLS layer."""
        self._ready = False
        super().startTLS(ctx, normal)  # type: ignore[misc]

    def abortConnection(self) -> None:
        """Nothing more is sent."""
        self._ready = False
        super().abortConnection()  # type: ignore[misc]

    def connectionLost(self, reason: Failure) -> None:
        """Nothing more is sent or read: the number will be another descriptor's."""
        self._ready = False
        self._fd = -1
        super().connectionLost(reason)  # type: ignore[misc]

    def _nothing_queued(self) -> bool:
        return not self.dataBuffer and not self._tempDataLen

    def _is_ready(self) -> bool:
        return bool(
            self.connected
            and not self._aborting
            and self._nothing_queued()
            and not self._writeDisconnected
            and not self.TLS
            and (self.producer is None or self.streamingProducer)
        )


class TCPTransport(DirectWriteMixin, tcp.Server):  # type: ignore[misc]
    """A TCP connection in the lane."""

    # Not shutdown(2) before close(2): no other process has the descriptor, so
    # that the one does what both do. Twisted has no public name for that.
    _shouldShutdown = False

    _most = _MOST

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[Any, ...],
        server: tcp.Port,
        sessionno: int,
        reactor: EpollLane,
    ) -> None:
        # Not tcp.Server's own, which writes two strings for every connection
        # that most never need; see logPrefix and __repr__.
        tcp.Connection.__init__(self, sock, protocol, reactor)
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self._fd = sock.fileno()
        self._read_size = _LEAST
        self._ready = True
        self.startReading()
        self.connected = 1

    @property
    def hostname(self) -> str:  # type: ignore[override]
        """The client's address, as far as it is one of a host."""
        return self.getPeer().host  # type: ignore[no-any-return]

    @property
    def logstr(self) -> str:  # type: ignore[override]
        """The protocol, the number of the connection, and the client."""
        protocol = getattr(self, "protocol", None)
        return f"{self._getLogPrefix(protocol)},{self.sessionno},{self.hostname}"

    def __repr__(self) -> str:
        protocol = getattr(self, "protocol", None)
        name = type(protocol).__name__ if protocol else "closed"
        return f"<{name} #{self.sessionno} on {self.server._realPortNumber}>"

    def getHost(self) -> Any:
        """Return our address."""
        return to_address(self.socket.getsockname())

    def getPeer(self) -> Any:
        """Return the client's address."""
        return to_address(self.client)

    def read_at_most(self, size: int) -> None:
        """Read no more than this at once, in bytes."""
        self._most = min(size, self._most)
        self._read_size = min(size, self._read_size)

    def doRead(self) -> error.ConnectionLost | error.ConnectionDone | None:  # type: ignore[override]
        """Read once, and hand it on."""
        size = self._read_size
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        length = len(data)
        if length == size:
            self._read_size = min(size * 4, self._most)
        elif not length:
            return main.CONNECTION_DONE
        elif length < _LEAST < size:
            self._read_size = _LEAST
        self.protocol.dataReceived(data)
        return None


def bytes_queued(transport: Any) -> int:
    """Return how many bytes a connection keeps that the kernel has not taken yet.

    :param transport: a connection's, of either lane; with TLS, the bytes are those
        of its records. 0 for one that keeps none in Twisted's way.
    """
    data = getattr(transport, "dataBuffer", b"")
    # What has been sent of the former, and what is not in it yet.
    offset, more = getattr(transport, "offset", 0), getattr(transport, "_tempDataLen", 0)
    return max(0, len(data) - offset) + more


def _is_tls(transport: Any) -> bool:
    return bool(ISSLTransport.providedBy(transport))


def read_at_most(transport: Any, size: int) -> None:
    """Let a transport read no more than this at once.

    :param transport: a connection's, of either lane. Below TLS it is the connection
        that reads less; what comes of it is a whole record at a time, of up to
        16 KiB (RFC 8446, 5.1).
    :param size: in bytes.
    """
    below = transport
    while _is_tls(below):
        below = below.transport
    if isinstance(below, TCPTransport):
        below.read_at_most(size)
    elif isinstance(getattr(below, "bufferSize", None), int):
        below.bufferSize = min(size, below.bufferSize)


class StockTransport(tcp.Server):
    """Twisted's own, outside the lane, but for how much it keeps before it pauses its producer.

    It keeps each write as an object of its own. If a peer pushes two bytes at a
    time, 64 KiB of them (Twisted's limit) are 2.2 MiB.
    """

    bufferSize = 48 * 1024


class TLSTransport(TCPTransport):
    """A TCP connection that carries TLS, whose layer holds what is read three times over.

    The layer writes record by record. What it writes during a read goes out, or is
    kept, in one piece: tiny records kept one by one would cost many times their size.
    """

    _most = 64 * 1024
    _records: list[bytes] | None = None

    def doRead(self) -> error.ConnectionLost | error.ConnectionDone | None:  # type: ignore[override]
        """Read once, hand it on, and send what the layer wrote meanwhile."""
        records = self._records = []
        try:
            return super().doRead()
        finally:
            self._records = None
            if records:
                self.write(b"".join(records))

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now, unless more may come right after."""
        if self._records is None:
            super().write(data)
        else:
            self._records.append(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send what the kernel takes now, unless more may come right after."""
        self.write(b"".join(iovec))


class UNIXTransport(DirectWriteMixin, unix.Server):  # type: ignore[misc]
    """A UNIX connection in the lane; it reads as Twisted does, since
    descriptors may come with the bytes."""

    def __init__(self, sock: socket.socket, *args: Any) -> None:
        super().__init__(sock, *args)
        self._fd = sock.fileno()
        self._ready = True

    def sendFileDescriptor(self, fileno: int) -> None:
        """Queue a descriptor, and so the bytes that go with it."""
        self._ready = False
        super().sendFileDescriptor(fileno)

    def writeSomeData(self, data: bytes) -> Any:
        """Send something; descriptors without a byte to go with are an error."""
        return unix.Server.writeSomeData(self, data)

    def _nothing_queued(self) -> bool:
        return super()._nothing_queued() and not self._sendmsgQueue
