"""The fast lane: many connections for one wake-up of the reactor.

A stock reactor takes a toll for each event (a log context) and for each write
(two ``epoll_ctl`` and one more turn of the loop). On Linux both are avoided
here, below the protocol, which stays as it is:

- :class:`FastLane` has an epoll set of its own, whose descriptor is one
  reader among others for the reactor. When it is ready, a bounded batch of
  connections is served at once.
- The transports of a port that is taken into the lane send at once when
  nothing is queued. What the kernel does not take is queued as ever, and the
  producer is paused until it is gone: a transport holds no more than one read
  of what its peer pushes.

It works below every reactor that takes readers: epoll, poll, select, asyncio.
All the rest of a reactor (time, threads, other descriptors) stays with that
reactor. A port is moved by what Twisted leaves open for it: its ``reactor``,
and its ``transport`` (see ``twisted.internet.tcp.Port``).

What differs from the stock lane: there is no log context per event, so that
the legacy ``twisted.python.log`` names no connection as the system of a line.

Source: ``epoll(7)``, on epoll sets that are in an epoll set.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet import error, main, tcp, unix
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IListeningPort,
    IReactorFDSet,
    IReadDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

# Connections served for one wake-up. Enough that the reactor's own cost
# vanishes, and few enough that a batch of bulk reads takes milliseconds.
_BATCH = 128

# The most that is read at once, in bytes, and so the most that a conversation
# holds for a peer that does not read.
_MOST = 128 * 1024
# What is read at once as long as it suffices: allocating much to receive
# little costs more than the little does.
_LEAST = 4 * 1024

_EPOLLIN: int = getattr(select, "EPOLLIN", 0)
_EPOLLOUT: int = getattr(select, "EPOLLOUT", 0)

_DONE = Failure(error.ConnectionDone())
_LOST = Failure(error.ConnectionLost())


class _SendsAtOnce:
    """What the lane's transports have in common; mixed into a ``tcp.Server``.

    It reads two attributes that Twisted does not document, because there is no
    other way to know whether a transport has bytes queued or has closed its
    write side: ``_tempDataLen`` and ``_writeDisconnected`` of
    ``abstract.FileDescriptor``.
    """

    dataBuffer: bytes
    _tempDataLen: int
    _writeDisconnected: bool
    socket: socket.socket
    connected: bool
    producer: Any
    producerPaused: bool
    streamingProducer: bool
    TLS: bool

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now, and queue the rest."""
        if (
            self.dataBuffer
            or self._tempDataLen
            or not self.connected
            or self._writeDisconnected
            or self.TLS
            or type(data) is not bytes
        ):
            super().write(data)  # type: ignore[misc]
            return
        try:
            sent = self.socket.send(data)
        except OSError:
            # Full, or broken: which it is the reactor will find out, and tell
            # the protocol from there and not in the middle of its write.
            sent = 0
        if sent < len(data):
            super().write(data[sent:])  # type: ignore[misc]
            if self.streamingProducer and not self.producerPaused and self.producer is not None:
                self.producerPaused = True
                self.producer.pauseProducing()


class _TCPServer(_SendsAtOnce, tcp.Server):  # type: ignore[misc]
    """A TCP connection in the lane."""

    _read_size = _LEAST

    def doRead(self) -> error.ConnectionLost | error.ConnectionDone | None:  # type: ignore[override]
        """Read once, and hand it on."""
        size = self._read_size
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        length = len(data)
        if length == size:
            self._read_size = min(size * 4, _MOST)
        elif not length:
            return main.CONNECTION_DONE
        elif length < _LEAST:
            self._read_size = _LEAST
        self.protocol.dataReceived(data)
        return None


class _UNIXServer(_SendsAtOnce, unix.Server):  # type: ignore[misc]
    """A UNIX connection in the lane; it reads as Twisted does, since
    descriptors may come with the bytes."""


@implementer(IReactorFDSet, IReadDescriptor)
class FastLane:
    """An epoll set below a reactor, and a reactor to the ports in it.

    It is a reactor as far as ports and connections need one; what it does not
    do itself it leaves to the reactor above it.
    """

    _log = Logger()

    @staticmethod
    def available() -> bool:
        """Tell whether this platform has what the lane needs: ``select.epoll``."""
        return hasattr(select, "epoll")

    def __init__(self, reactor: Any) -> None:
        """Open a lane.

        :param reactor: an ``IReactorFDSet`` and ``IReactorTime``.
        :raises OSError: when no descriptor is left.
        """
        self._reactor = reactor
        self._epoll = select.epoll()
        self.fileno = self._epoll.fileno
        self._events: dict[int, int] = {}
        self._descriptors: dict[int, Any] = {}
        # Descriptors registered during the batch: an event that was fetched
        # before is not theirs, but that of a closed one with the same number.
        self._fresh: set[int] = set()
        reactor.addReader(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def take(self, port: IListeningPort) -> bool:
        """Move a listening port, and with it all that it will accept, into the lane.

        :param port: what an endpoint's ``listen`` gave.
        :returns: whether it is in the lane. A port of a kind not known here
            stays where it is.
        """
        # The very classes: a port that differs may have its reasons.
        if type(port) is tcp.Port:
            transport: type[tcp.Server] = _TCPServer
        elif type(port) is unix.Port:
            transport = _UNIXServer
        else:
            return False
        port.stopReading()
        port.reactor = self
        port.transport = transport
        port.startReading()
        return True

    def close(self) -> None:
        """Close the lane, once nothing is left in it."""
        if not self._epoll.closed:
            self._reactor.removeReader(self)
            self._epoll.close()

    def logPrefix(self) -> str:
        """Return what the reactor names a line after."""
        return "-"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor shuts down: so does everything in the lane."""
        for descriptor in self.removeAll():
            descriptor.connectionLost(reason)
        self._epoll.close()

    def doRead(self) -> None:
        """Serve a batch."""
        fresh = self._fresh
        fresh.clear()
        descriptors = self._descriptors
        for fd, event in self._epoll.poll(0, _BATCH):
            if fd in fresh:
                continue
            descriptor = descriptors.get(fd)
            if descriptor is None:
                # It was closed earlier in the batch.
                continue
            try:
                if event == _EPOLLIN:
                    why = descriptor.doRead()
                    reading = True
                else:
                    why, reading = self._serve(descriptor, fd, event)
            except BaseException as raised:
                self._log.failure("a protocol failed")
                why, reading = raised, False
            if why is not None:
                self._disconnect(descriptor, why, reading)

    def _serve(self, descriptor: Any, fd: int, event: int) -> tuple[Exception | None, bool]:
        """Handle what is rarer than input alone; return why it ended, and if by reading."""
        if event & _EPOLLIN:
            why = descriptor.doRead()
            if why is not None or not event & _EPOLLOUT or descriptor.fileno() != fd:
                return why, True
        elif event & ~_EPOLLOUT:
            # Hung up, and no input is left: the end, if it was being read.
            reading = bool(self._events.get(fd, 0) & _EPOLLIN)
            return (main.CONNECTION_DONE if reading else main.CONNECTION_LOST), reading
        return descriptor.doWrite(), False

    def _disconnect(self, descriptor: Any, why: BaseException, reading: bool) -> None:
        self.removeReader(descriptor)
        if isinstance(why, error.ConnectionDone):
            if reading and IHalfCloseableDescriptor.providedBy(descriptor):
                descriptor.readConnectionLost(_DONE)
                return
            failure = _DONE
        elif isinstance(why, error.ConnectionLost):
            failure = _LOST
        else:
            failure = Failure(why)
        self.removeWriter(descriptor)
        descriptor.connectionLost(failure)

    def addReader(self, reader: Any) -> None:
        """See ``IReactorFDSet``."""
        self._want(reader, _EPOLLIN)

    def addWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet``."""
        self._want(writer, _EPOLLOUT)

    def removeReader(self, reader: Any) -> None:
        """See ``IReactorFDSet``."""
        self._unwant(reader, _EPOLLIN)

    def removeWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet``."""
        self._unwant(writer, _EPOLLOUT)

    def removeAll(self) -> list[Any]:
        """See ``IReactorFDSet``."""
        removed = list(self._descriptors.values())
        for fd in self._descriptors:
            self._epoll.unregister(fd)
        self._descriptors.clear()
        self._events.clear()
        return removed

    def getReaders(self) -> list[Any]:
        """See ``IReactorFDSet``."""
        return self._wanting(_EPOLLIN)

    def getWriters(self) -> list[Any]:
        """See ``IReactorFDSet``."""
        return self._wanting(_EPOLLOUT)

    def _wanting(self, event: int) -> list[Any]:
        return [self._descriptors[fd] for fd, wanted in self._events.items() if wanted & event]

    def _want(self, descriptor: Any, event: int) -> None:
        fd = descriptor.fileno()
        wanted = self._events.get(fd)
        if wanted is None:
            self._epoll.register(fd, event)
            self._descriptors[fd] = descriptor
            self._events[fd] = event
            self._fresh.add(fd)
        elif not wanted & event:
            self._epoll.modify(fd, wanted | event)
            self._events[fd] = wanted | event

    def _unwant(self, descriptor: Any, event: int) -> None:
        fd = descriptor.fileno()
        wanted = self._events.get(fd)
        if wanted is None or not wanted & event:
            return
        left = wanted & ~event
        if left:
            self._epoll.modify(fd, left)
            self._events[fd] = left
        else:
            self._epoll.unregister(fd)
            del self._descriptors[fd], self._events[fd]
