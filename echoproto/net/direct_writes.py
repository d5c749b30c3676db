"""Sending at once, which the transports of the epoll lane have in common.

The lane is :mod:`echoproto.net.epoll_lane`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet import main
from twisted.python.failure import Failure

from echoproto.net.plain_echoes import PlainEchoes
from echoproto.net.splice import SplicePipe


class Lane(Protocol):
    """What a transport needs of its lane: a part of ``IReactorFDSet``, and more.

    :ivar pipe: what bulk is spliced through.
    :ivar echoes: what serves plain echoes of small messages.
    """

    pipe: SplicePipe
    echoes: PlainEchoes

    def add_connection(self, fd: int, transport: DirectWriteMixin) -> None:
        """Add a new transport as a reader, at less cost than ``addReader``."""

    def addReader(self, reader: object) -> None: ...
    def removeReader(self, reader: object) -> None: ...
    def removeWriter(self, writer: object) -> None: ...
    def remove(self, transport: DirectWriteMixin) -> None:
        """Forget a transport: neither read nor write it any more."""

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
    # Whether loseConnection arranges the close. While the end of input is reported, the transport
    # closes afterwards by itself.
    _closes_later = True
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
        self._write_later()
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
        if streaming and self._ready and self.producer is None:
            self.producer, self.streamingProducer = producer, True
            return
        if not streaming:
            self._write_later()
        super().registerProducer(producer, streaming)  # type: ignore[misc]

    def loseConnection(self) -> None:
        """Close the connection once everything is sent, and no producer is registered."""
        if (
            not self._ready
            or self.producer is not None
            or self.disconnecting
            or self._writeDisconnected
        ):
            super().loseConnection()  # type: ignore[misc]
            return
        self.disconnecting = 1
        if self._closes_later:
            self.reactor.removeReader(self)
            self.reactor.write_soon(self)

    def unregisterProducer(self) -> None:
        """Forget the producer; what waited for it to close the connection closes it."""
        if self._ready and not self.disconnecting:
            self.producer = None
        else:
            super().unregisterProducer()  # type: ignore[misc]

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """Start a TLS layer, through which all later writes go."""
        self._write_later()
        super().startTLS(ctx, normal)  # type: ignore[misc]

    def abortConnection(self) -> None:
        """Abort the connection; nothing more is sent."""
        self._write_later()
        super().abortConnection()  # type: ignore[misc]

    def connectionLost(self, reason: Failure) -> None:
        """Forget the descriptor, whose number will be reused, and report the end."""
        self._write_later()
        self._fd = -1
        super().connectionLost(reason)  # type: ignore[misc]

    def _write_later(self) -> None:
        """Queue what is written from now on; what is read takes the ordinary way."""
        self._ready = False
        self.reactor.echoes.discard(self._fd)

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
