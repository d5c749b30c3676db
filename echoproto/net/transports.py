"""The transports of the epoll lane: they send at once, and limit what they read ahead.

Each is derived from Twisted's own, and does without part of its cost per write and per
connection. The lane is :mod:`echoproto.net.epoll_lane`.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import error, main, tcp
from twisted.internet.interfaces import IProtocol, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementedBy, implementer_only
from zope.interface.interface import InterfaceClass

from echoproto.base.address import to_address
from echoproto.core.protocol import Echo
from echoproto.net.direct_writes import DirectWriteMixin
from echoproto.net.plain_echoes import EPOLLIN, MIN_READ

# The maximum size of one read, in bytes. It is also the maximum that a connection holds
# for a peer that does not read.
MAX_READ = 224 * 1024
# The size of reads from which on a plain echo's bytes are spliced: it is reached after some
# reads in a row that were full.
SPLICE_FROM = MAX_READ
# The fewest bytes for which splicing goes on: below, twice in a row, read(2) and write(2) cost
# less.
MIN_SPLICE = 16 * 1024

# What a read returns that was a plain echo, and called nothing else.
ECHOED: Any = object()

# What an orderly end is reported with.
DONE = Failure(error.ConnectionDone())

_log = Logger(namespace="echoproto")


class TCPTransport(DirectWriteMixin, tcp.Server):  # type: ignore[misc]
    """A TCP connection in the lane."""

    # No shutdown(2) before close(2): no other process has the descriptor, so close(2)
    # alone has the same effect. Twisted has no public name for this.
    _shouldShutdown = False

    # A descriptor suffices to make one; see net/acceptor.py.
    takes_descriptor = True

    _max_read = MAX_READ
    _socket: socket.socket | None
    _no_delay = False
    _tempDataLen = 0
    # Whether the last splice took little: one such is the end of a message as a rule, and two
    # in a row are the end of the bulk.
    _spliced_little = False

    def __init__(
        self,
        sock: socket.socket | int,
        protocol: IProtocol,
        client: Any,
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        """Start reading; see ``tcp.Server``, which does and keeps more than is used here.

        :param sock: the connection's socket, or the descriptor of one that is non-blocking
            and has ``TCP_NODELAY``. The transport closes it.
        """
        self._socket = None
        if isinstance(sock, int):
            self._fd = sock
            self._no_delay = True
        else:
            sock.setblocking(False)
            self._socket = sock
            self._fd = sock.fileno()
        self.reactor = reactor
        self._protocol = protocol
        self.server, self.client, self.sessionno = server, client, sessionno
        self._read_size = MIN_READ
        self._tempDataBuffer: list[bytes] = []
        # A protocol of which it can be seen whether anything but the plain echo sees the bytes.
        self._echo: Any = protocol if isinstance(protocol, Echo) else None
        self._ready = self._closes_later = True
        # All that changes later: CPython gives a transport a dictionary of its own for an attribute
        # that the first thirty transports did not set.
        self.producer = None
        self.streamingProducer = self.producerPaused = self._writeDisconnected = False
        self._spliced_little = False
        self.dataBuffer = b""
        self._tempDataLen = self.offset = self.disconnecting = self.disconnected = 0
        reactor.add_connection(self._fd, self)
        if self._echo is not None:
            self._echo.plain_transport = self
            reactor.echoes.add(self._fd, protocol)
            if not self._no_delay:
                self.setTcpNoDelay(True)
        self.connected = 1

    def fileno(self) -> int:
        """Return the descriptor; -1 once it is closed."""
        return self._fd

    @property
    def protocol(self) -> IProtocol:
        """What the bytes are passed to."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: IProtocol) -> None:
        self.reactor.echoes.discard(self._fd)
        self._protocol = protocol

    @property
    def socket(self) -> socket.socket:  # type: ignore[override]
        """The connection's socket object, which few connections need."""
        if self._fd < 0:
            raise AttributeError("socket")
        if self._socket is None:
            self._socket = socket.socket(fileno=self._fd)
            self._socket.setblocking(False)
        return self._socket

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Set ``TCP_NODELAY``, unless the connection has inherited it."""
        if not enabled or not self._no_delay:
            self._no_delay = False
            super().setTcpNoDelay(enabled)

    def readConnectionLost(self, reason: Failure) -> None:
        """Report the client's FIN."""
        if self._protocol is self._echo:
            self._input_ended()
        else:
            # It asks whether the protocol takes part in half-close, which takes 1 us.
            super().readConnectionLost(reason)

    def _input_ended(self) -> None:
        """Report the client's FIN to an echo, which closes as a rule; then it is closed at once."""
        self._closes_later = False
        try:
            self._echo.readConnectionLost()
        except BaseException:
            _log.failure("a protocol failed")
            self.connectionLost(Failure())
            return
        finally:
            self._closes_later = True
        if self.disconnecting and self._ready and self.producer is None:
            self.connectionLost(DONE)
        elif self.connected:
            self.reactor.removeReader(self)
            if self._ready and self.disconnecting:
                self.reactor.write_soon(self)

    def connectionLost(self, reason: Failure) -> None:
        """Close the connection, and report its end."""
        if self._fd < 0:
            return
        # Not by _write_later: _close lets the lane forget all of it.
        self._ready = False
        self.connected, self.disconnected = 0, 1
        try:
            if self.producer is not None:
                self.producer.stopProducing()
        finally:
            self._close(reason)

    def _close(self, reason: Failure) -> None:
        reset = isinstance(reason.value, error.ConnectionAborted)
        self.producer = None
        self.reactor.remove(self)
        try:
            if reset or self._socket is not None:
                self._closeSocket(not reset)
            else:
                os.close(self._fd)
        finally:
            protocol = self._protocol
            # It refers to the transport.
            del self._protocol
            self._echo = self._socket = None
            self._fd = -1
            protocol.connectionLost(reason)

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
        self.reactor.echoes.discard(self._fd)

    def doRead(self) -> Any:
        """Read once, and pass the bytes to the protocol, or return them in its place.

        :returns: :data:`ECHOED`; or why the connection ended, if it did.
        """
        size = self._read_size
        # Any: no interface tells whether a protocol is a plain echo.
        echo: Any
        plain = (
            self._ready
            and (echo := self._protocol) is self._echo
            and echo.dataReceived is echo.plain_echo
            and echo.transport is self
        )
        if plain and size >= SPLICE_FROM:
            length, rest = self.reactor.pipe.echo(self._fd, size)
            if length > 0:
                echo.bytes_echoed += length
                if rest or length < MIN_SPLICE or self._spliced_little:
                    self._spliced(length, rest)
                return None if rest else ECHOED
            if length:
                return main.CONNECTION_LOST
        elif plain and size == MIN_READ:
            # By the loop that serves the next ones too, so that there is one such step.
            self.reactor.echoes.add(self._fd, echo)
            self.reactor.echoes.serve([(self._fd, EPOLLIN)])
            return ECHOED
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        return self._received(data)

    def echoed_otherwise(self, data: bytes | None, sent: int) -> Any:
        """Go on from where a plain echo of a small message came to.

        :param data: what was read; ``None`` if reading failed.
        :param sent: how many bytes of it were sent.
        :returns: why the connection ended, if it did.
        """
        self.reactor.echoes.discard(self._fd)
        if data is None:
            return main.CONNECTION_LOST
        if not 0 < len(data) < MIN_READ:
            return self._received(data)
        self._queue(data[sent:])
        return None

    def _spliced(self, length: int, rest: bytes) -> None:
        """Choose whether to go on splicing, and queue what the kernel did not take back.

        :param length: how many bytes were spliced.
        :param rest: those of them that are still to be sent.
        """
        little = length < MIN_SPLICE
        if little and self._spliced_little:
            self._read_size = MIN_READ
            little = False
        self._spliced_little = little
        if rest:
            self._queue(rest)

    def _received(self, data: bytes) -> error.ConnectionDone | None:
        """Pass what was read to the protocol, and choose the size of the next read.

        :param data: the result of one read.
        :returns: why the connection ended, if it did.
        """
        length, size = len(data), self._read_size
        if length == size:
            self._read_size = min(size * 4, self._max_read)
        elif not length:
            if self._protocol is not self._echo:
                return main.CONNECTION_DONE
            self._input_ended()
            return None
        elif length < MIN_READ < size:
            self._read_size = MIN_READ
        self._protocol.dataReceived(data)
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


# Twisted's TLS layer declares each interface of its transport by itself, at 2 us for each of nine:
# this one has all of them as bases.
_ICarrier = InterfaceClass("_ICarrier", tuple(implementedBy(TCPTransport)), __module__=__name__)


@implementer_only(_ICarrier)
class TLSTransport(TCPTransport):
    """A TCP connection in the lane that carries TLS.

    It reads less at once, since the TLS layer holds what is read three times over.
    """

    _max_read = 64 * 1024
