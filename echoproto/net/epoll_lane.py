"""The fast lane: many connections for one wake-up of the reactor.

A stock reactor takes a toll for each event (a log context) and for each write
(two ``epoll_ctl`` and one more turn of the loop). On Linux both are avoided
here, below the protocol, which stays as it is:

- :class:`EpollLane` has an epoll set of its own, whose descriptor is one
  reader among others for the reactor. When it is ready, a bounded batch of
  connections is served at once.
- The transports of a port that is taken into the lane
  (:mod:`echoproto.net.transports`) send at once when nothing is queued. What the
  kernel does not take is queued as ever, and the producer is paused until it
  is gone: a transport holds no more than one read of what its peer pushes.

It works below every reactor that takes readers: epoll, poll, select, asyncio.
All the rest of a reactor (time, threads, other descriptors) stays with that
reactor. A port is moved by what Twisted leaves open for it: its ``reactor``,
and its ``transport`` (see ``twisted.internet.tcp.Port``).

What differs from the stock lane: there is no log context per event, so that
the legacy ``twisted.python.log`` names no connection as the system of a line;
and who comes when no descriptor is left waits in the accept queue, where the
stock lane closes him.

Source: ``epoll(7)``, on epoll sets that are in an epoll set.
"""

from __future__ import annotations

import errno
import functools
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

from echoproto.base.address import to_address
from echoproto.net.ports import InheritedUNIXPort, UNIXPort
from echoproto.net.tls import tls_factory
from echoproto.net.transports import DirectWriteMixin, TCPTransport, TLSTransport, UNIXTransport

# Connections served for one wake-up. Enough that the reactor's own cost
# vanishes, and few enough that a batch of bulk reads takes milliseconds.
_BATCH = 128

# While so many were served, others have become ready as a rule, and to look for
# them costs less than to come back by way of the reactor.
_WORTH_ANOTHER = 4

# What accept(2) fails with while the process or the system has no room for one
# more connection. Who waits in the accept queue meanwhile can go on waiting.
ACCEPT_CAPACITY_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Seconds until it is tried again.
ACCEPT_RETRY = 0.1

# Seconds between two log lines about it, however many clients wait.
LOG_INTERVAL = 10.0

_EPOLLIN: int = getattr(select, "EPOLLIN", 0)
_EPOLLOUT: int = getattr(select, "EPOLLOUT", 0)

_log = Logger(namespace="echoproto")

_UNIX_PORTS = (unix.Port, UNIXPort, InheritedUNIXPort)

_DONE = Failure(error.ConnectionDone())
_LOST = Failure(error.ConnectionLost())


def start_connection(port: Any, sock: socket.socket, client: Any) -> None:
    """Begin a connection; where that fails, say so, and let nobody wait for it.

    :param port: that has accepted it, of either lane.
    :param sock: the connection.
    :param client: what ``accept`` called its peer.
    """
    try:
        protocol = port.factory.buildProtocol(to_address(client))
        if protocol is None:
            sock.close()
            return
        transport = port.transport(sock, protocol, client, port, port.sessionno, port.reactor)
    except Exception:
        _log.failure("no protocol for a client")
        sock.close()
        return
    port.sessionno += 1
    try:
        protocol.makeConnection(transport)
    except Exception:
        _log.failure("a protocol failed")
        transport.abortConnection()


@implementer(IReactorFDSet, IReadDescriptor)
class EpollLane:
    """An epoll set below a reactor, and a reactor to the ports in it.

    It is a reactor as far as ports and connections need one; what it does not
    do itself it leaves to the reactor above it.
    """

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
        # Ports that take nobody in for a moment, and since when the log says so.
        self._resting: set[Any] = set()
        self._said = -LOG_INTERVAL
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
        if type(port) not in (tcp.Port, *_UNIX_PORTS):
            return False
        # Any: Twisted has no interface for a port that can be moved.
        moved: Any = port
        moved.stopReading()
        moved.reactor = self
        if type(port) in _UNIX_PORTS:
            moved.transport = UNIXTransport
        else:
            moved.transport = TLSTransport if tls_factory(port) else TCPTransport
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
            except OSError as failed:
                if failed.errno in ACCEPT_CAPACITY_ERRNOS:
                    self._rest(port, failed)
                else:
                    # Twisted has an answer to each, and accepts what is left of the number.
                    port.numberAccepts -= accepted
                    tcp.Port.doRead(port)
                return
            accepted += 1
            start_connection(port, sock, client)
        # More at once if so many came, as Twisted does.
        port.numberAccepts = accepted + 20 if accepted == port.numberAccepts else max(1, accepted)

    def _rest(self, port: Any, why: OSError) -> None:
        """Leave who waits in the accept queue, and try again in a moment.

        Twisted closes them instead, each with three lines in the log.
        """
        if port in self._resting:
            return
        self._resting.add(port)
        port.stopReading()
        self._reactor.callLater(ACCEPT_RETRY, self._wake, port)
        now = self._reactor.seconds()
        if now - self._said >= LOG_INTERVAL:
            self._said = now
            _log.warn(
                "no room for one more connection ({why}): clients wait in the accept queue",
                why=why.strerror,
            )

    def _wake(self, port: Any) -> None:
        self._resting.discard(port)
        if port.connected and not port.disconnecting:
            port.startReading()

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
            # The last connection of a drain closes the lane.
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
                _log.failure("a protocol failed")
                why, reading = raised, False
            if why is not None:
                self._disconnect(descriptor, why, reading)
        self._in_batch = False
        if self._soon:
            self._write_now()

    def write_soon(self, transport: DirectWriteMixin) -> None:
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
                _log.failure("a protocol failed")
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
            _log.failure("a protocol failed")
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
