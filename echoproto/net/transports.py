"""The transports of the epoll lane: they send at once, and limit what they read ahead.

Each is derived from Twisted's own, and does without part of its cost per write and per
connection. The lane is :mod:`echoproto.net.epoll_lane`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet import error, main, tcp
from twisted.internet.interfaces import IProtocol, ISSLTransport
from twisted.python.failure import Failure

from echoproto.base.address import to_address
from echoproto.core.protocol import Echo

# The maximum size of one read, in bytes. It is also the maximum that a connection holds
# for a peer that does not read.
MAX_READ = 224 * 1024
# The size of one read while it suffices, in bytes: allocating a large buffer to receive
# little costs more than the little does.
MIN_READ = 4 * 1024


class Lane(Protocol):
    """What a transport needs of its lane, besides what it needs of any reactor."""

    def write_soon(self, transport: DirectWriteMixin) -> None:
        """Call a transport's ``doWrite`` soon, although it has nothing to send."""


class DirectWriteMixin:
    """Sends at once if nothing is queued; mixed into a ``tcp.Server``.

    It uses attributes of Twisted's that are not documented. Nothing else shows whether a
    transport has bytes queued (``_tempDataLen`` of ``abstract.FileDescriptor``), has
    closed its write side (``_writeDisconnected`` of the same), or was aborted
    (``_aborting`` of ``tcp.Connection``).
    """

    reactor: Lane
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

    # Whether a write may go straight to the kernel: the connection is up, nothing is
    # queued, no TLS layer was started, and no pull producer is registered. One flag,
    # since every write checks it.
    _ready: bool
    # The result of fileno() while the connection is up; then -1.
    _fd: int

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now, and queue the rest."""
        if not self._ready or not isinstance(data, bytes):
            super().write(data)  # type: ignore[misc]
            return
        try:
            # os.write, and os.read below, parse their arguments at half the cost of a
            # socket's methods.
            sent = os.write(self._fd, data)
        except OSError:
            # The buffer is full, or the connection is broken. The reactor finds out
            # which, and reports it outside the protocol's call of write.
            sent = 0
        if sent < len(data):
            self._queue(data[sent:])

    def _queue(self, data: bytes) -> None:
        """Queue what the kernel did not take, and pause the producer until it is sent.

        :param data: the rest of what was to be sent.
        """
        self._ready = False
        super().write(data)  # type: ignore[misc]
        if (
            self.streamingProducer
            and self.producer is not None
            and not self.producerPaused
            # The data is dropped if the write side is closed or about to close.
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
            # It raises TypeError for what is not bytes.
            super().writeSequence(chunks)  # type: ignore[misc]

    def startWriting(self) -> None:
        """Wait until the kernel takes more; if nothing is queued, until the end of the batch."""
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
        """Send bytes; an empty write needs no system call."""
        return super().writeSomeData(data) if data else 0  # type: ignore[misc]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Register a producer. What a pull producer writes is queued: ``doWrite`` asks it."""
        if not streaming:
            self._ready = False
        super().registerProducer(producer, streaming)  # type: ignore[misc]

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """Start a TLS layer, through which all later writes go."""
        self._ready = False
        super().startTLS(ctx, normal)  # type: ignore[misc]

    def abortConnection(self) -> None:
        """Abort the connection; nothing more is sent."""
        self._ready = False
        super().abortConnection()  # type: ignore[misc]

    def connectionLost(self, reason: Failure) -> None:
        """Forget the descriptor, whose number will be reused, and report the end."""
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

    # No shutdown(2) before close(2): no other process has the descriptor, so close(2)
    # alone has the same effect. Twisted has no public name for this.
    _shouldShutdown = False

    _max_read = MAX_READ

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[Any, ...],
        server: tcp.Port,
        sessionno: int,
        # A Lane that is an IReactorFDSet too.
        reactor: Any,
    ) -> None:
        # Not tcp.Server's own, which formats two strings for each connection that are
        # rarely used; see logstr and __repr__.
        tcp.Connection.__init__(self, sock, protocol, reactor)
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self._fd = sock.fileno()
        self._read_size = MIN_READ
        # A protocol of which it can be seen whether anything but the plain echo sees the bytes.
        self._echo: Any = protocol if isinstance(protocol, Echo) else None
        self._ready = True
        self.startReading()
        self.connected = 1

    @property
    def hostname(self) -> str:  # type: ignore[override]
        """The host of the client's address."""
        return self.getPeer().host  # type: ignore[no-any-return]

    @property
    def logstr(self) -> str:  # type: ignore[override]
        """The log prefix: protocol, number of the connection, and client."""
        protocol = getattr(self, "protocol", None)
        return f"{self._getLogPrefix(protocol)},{self.sessionno},{self.hostname}"

    def __repr__(self) -> str:
        protocol = getattr(self, "protocol", None)
        name = type(protocol).__name__ if protocol else "closed"
        # Twisted has no public name for the number of a port that may be closed already.
        number = self.server._realPortNumber  # noqa: SLF001
        return f"<{name} #{self.sessionno} on {number}>"

    def getHost(self) -> Any:
        """Return the address of this end."""
        return to_address(self.socket.getsockname())

    def getPeer(self) -> Any:
        """Return the client's address."""
        return to_address(self.client)

    def read_at_most(self, size: int) -> None:
        """Limit the size of one read.

        :param size: in bytes.
        """
        self._max_read = min(size, self._max_read)
        self._read_size = min(size, self._read_size)

    def doRead(self) -> error.ConnectionLost | error.ConnectionDone | None:  # type: ignore[override]
        """Read once, and pass the bytes to the protocol."""
        fd, size = self._fd, self._read_size
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        # Any: no interface tells whether a protocol is a plain echo.
        echo: Any = self.protocol
        length = len(data)
        if not (
            0 < length < size == MIN_READ
            and self._ready
            and echo is self._echo
            and echo.dataReceived is echo.plain_echo
            and echo.transport is self
        ):
            return self._received(data)
        # What the calls of dataReceived and write come to for these few bytes.
        echo.bytes_echoed += length
        try:
            sent = os.write(fd, data)
        except OSError:
            sent = 0
        if sent < length:
            self._queue(data[sent:])
        return None

    def _received(self, data: bytes) -> error.ConnectionDone | None:
        """Pass what was read to the protocol, and choose the size of the next read.

        :param data: the result of one read.
        :returns: why the connection ended, if it did.
        """
        length, size = len(data), self._read_size
        if length == size:
            self._read_size = min(size * 4, self._max_read)
        elif not length:
            return main.CONNECTION_DONE
        elif length < MIN_READ < size:
            self._read_size = MIN_READ
        self.protocol.dataReceived(data)
        return None


def bytes_queued(transport: Any) -> int:
    """Return how many bytes a transport holds that the kernel has not taken yet.

    :param transport: of either lane.
    :returns: the bytes, with TLS those of its records; 0 if it does not queue in
        Twisted's way.
    """
    data = getattr(transport, "dataBuffer", b"")
    # How much of it is sent, and how much is not in it yet. The latter is private, and
    # no public method of Twisted tells either.
    offset, more = getattr(transport, "offset", 0), getattr(transport, "_tempDataLen", 0)
    return max(0, len(data) - offset) + more


def _is_tls(transport: Any) -> bool:
    return bool(ISSLTransport.providedBy(transport))


def read_at_most(transport: Any, size: int) -> None:
    """Limit the size of one read of a transport.

    :param transport: of either lane. With TLS, the limit applies to the TCP connection
        below it; the protocol still receives whole records of up to 16 KiB (RFC 8446,
        5.1).
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
    """Twisted's own transport, outside the lane, with a lower limit of bytes queued.

    Above the limit it pauses its producer. It queues each write as an object of its own:
    if a peer sends two bytes at a time, 64 KiB of them (Twisted's limit) take 2.2 MiB.
    """

    bufferSize = 48 * 1024


class TLSTransport(TCPTransport):
    """A TCP connection in the lane that carries TLS.

    It reads less at once, since the TLS layer holds what is read three times over. The
    layer writes record by record. What it writes during one read is sent or queued in one
    piece: tiny records queued one by one would take many times their size.
    """

    _max_read = 64 * 1024
    _records: list[bytes] | None = None

    def doRead(self) -> error.ConnectionLost | error.ConnectionDone | None:  # type: ignore[override]
        """Read once, pass the bytes on, and send what the layer wrote meanwhile."""
        records = self._records = []
        try:
            return super().doRead()
        finally:
            self._records = None
            if records:
                self.write(b"".join(records))

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now; during a read, at its end."""
        if self._records is None:
            super().write(data)
        else:
            self._records.append(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send what the kernel takes now; during a read, at its end."""
        self.write(b"".join(iovec))
