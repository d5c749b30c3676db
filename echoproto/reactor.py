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

import functools
import os
import select
import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet import error, main, tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IListeningPort,
    IProtocol,
    IReactorFDSet,
    IReadDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

# Connections served for one wake-up. Enough that the reactor's own cost
# vanishes, and few enough that a batch of bulk reads takes milliseconds.
_BATCH = 128

# While so many were served, others have become ready as a rule, and to look for
# them costs less than to come back by way of the reactor.
_WORTH_ANOTHER = 4

# The most that is read at once, in bytes, and so the most that a conversation
# holds for a peer that does not read.
_MOST = 224 * 1024
# What is read at once as long as it suffices: allocating much to receive
# little costs more than the little does.
_LEAST = 4 * 1024

_EPOLLIN: int = getattr(select, "EPOLLIN", 0)
_EPOLLOUT: int = getattr(select, "EPOLLOUT", 0)

_DONE = Failure(error.ConnectionDone())
_LOST = Failure(error.ConnectionLost())


class _SendsAtOnce:
    """What the lane's transports have in common; mixed into a ``tcp.Server``.

    It reads attributes that Twisted does not document, because nothing
    else tells whether a transport has bytes queued, has closed its write side,
    or was aborted: ``_tempDataLen`` and ``_writeDisconnected`` of
    ``abstract.FileDescriptor``, ``_aborting`` of ``tcp.Connection``.
    """

    reactor: FastLane
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


class _TCPServer(_SendsAtOnce, tcp.Server):  # type: ignore[misc]
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
        reactor: FastLane,
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
        return _address(self.socket.getsockname())

    def getPeer(self) -> Any:
        """Return the client's address."""
        return _address(self.client)

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


class _TLSServer(_TCPServer):
    """A TCP connection that carries TLS, whose layer holds what is read three times over."""

    _most = 64 * 1024


class _UNIXServer(_SendsAtOnce, unix.Server):  # type: ignore[misc]
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


def _address(sockaddr: Any) -> IPv4Address | IPv6Address | UNIXAddress:
    if not isinstance(sockaddr, tuple):
        return UNIXAddress(sockaddr)
    if len(sockaddr) == 2:
        return IPv4Address("TCP", *sockaddr)
    if sockaddr[3]:
        # Without its scope a link-local address says nothing.
        host, _ = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return IPv6Address("TCP", host, *sockaddr[1:])
    return IPv6Address("TCP", *sockaddr)


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
        # Connections to be closed, or half-closed, that have nothing to send.
        # A dict for a set in order.
        self._soon: dict[Any, None] = {}
        self._in_batch = False
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
        if type(port) not in (tcp.Port, unix.Port):
            return False
        # Any: Twisted has no interface for a port that can be moved.
        moved: Any = port
        moved.stopReading()
        moved.reactor = self
        if type(port) is unix.Port:
            moved.transport = _UNIXServer
        else:
            moved.transport = _TLSServer if moved._type == "TLS" else _TCPServer
        moved.doRead = functools.partial(self._accept, port)
        moved.startReading()
        return True

    def _accept(self, port: Any) -> None:
        """Accept who waits, as ``tcp.Port.doRead`` does, at less cost."""
        accepted = 0
        while accepted < port.numberAccepts:
            try:
                sock, client = port.socket.accept()
            except BlockingIOError:
                break
            except OSError:
                # No descriptor is left, perhaps: Twisted has an answer to that.
                tcp.Port.doRead(port)
                return
            accepted += 1
            self._converse(port, sock, client)
        # More at once if so many came, as Twisted does.
        port.numberAccepts = accepted + 20 if accepted == port.numberAccepts else max(1, accepted)

    def _converse(self, port: Any, sock: socket.socket, client: Any) -> None:
        """Begin a conversation; where that fails, say so, and let nobody wait for it."""
        try:
            protocol = port.factory.buildProtocol(_address(client))
            if protocol is None:
                sock.close()
                return
            transport = port.transport(sock, protocol, client, port, port.sessionno, self)
        except Exception:
            self._log.failure("no protocol for a client")
            sock.close()
            return
        port.sessionno += 1
        try:
            protocol.makeConnection(transport)
        except Exception:
            self._log.failure("a protocol failed")
            transport.abortConnection()

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
            self._disconnect(descriptor, main.CONNECTION_LOST, False)
        self._epoll.close()

    def doRead(self) -> None:
        """Serve a batch, and what has come meanwhile if that is much."""
        served = 0
        while served < _BATCH:
            events = self._epoll.poll(0, _BATCH)
            self._serve_batch(events)
            # The last conversation of a drain closes the lane.
            if len(events) < _WORTH_ANOTHER or self._epoll.closed:
                return
            served += len(events)

    def _serve_batch(self, events: list[tuple[int, int]]) -> None:
        fresh = self._fresh
        fresh.clear()
        self._in_batch = True
        descriptors = self._descriptors
        for fd, event in events:
            if fresh and fd in fresh:
                continue
            try:
                descriptor = descriptors[fd]
            except KeyError:
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
        self._in_batch = False
        if self._soon:
            self._write_now()

    def write_soon(self, transport: _SendsAtOnce) -> None:
        """Call a transport's ``doWrite`` after this batch, not only when it is writable.

        It has nothing to send; it wants to close, and that the kernel takes at any time.
        """
        if not self._in_batch and not self._soon:
            self._reactor.callLater(0, self._write_now)
        self._soon[transport] = None

    def _write_now(self) -> None:
        soon, self._soon = self._soon, {}
        for transport in soon:
            if not transport.connected:
                continue
            try:
                why = transport.doWrite()
            except BaseException as raised:
                self._log.failure("a protocol failed")
                why = raised
            if why is not None:
                self._disconnect(transport, why, False)

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
        """Tell a descriptor how it ended; an error that this raises ends nothing else."""
        try:
            # The very classes: those derived from them say more.
            if type(why) is error.ConnectionDone:
                if reading and IHalfCloseableDescriptor.providedBy(descriptor):
                    self.removeReader(descriptor)
                    descriptor.readConnectionLost(_DONE)
                    return
                failure = _DONE
            elif type(why) is error.ConnectionLost:
                failure = _LOST
            else:
                failure = Failure(why)
            # It stops reading and writing itself.
            descriptor.connectionLost(failure)
        except BaseException:
            self._log.failure("a protocol failed")
            # Unless it failed before it came to that.
            self.removeReader(descriptor)
            self.removeWriter(descriptor)

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
        if wanted is None or self._descriptors[fd] is not descriptor:
            # In the latter case one was closed without a word to us.
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
