"""The epoll lane: many connections are served for one wake-up of the reactor.

A stock reactor adds a cost to each event (a log context) and to each write (two calls of
``epoll_ctl`` and one more turn of the loop). On Linux the lane avoids both, below the
protocol, which stays as it is:

- :class:`EpollLane` has an epoll set of its own. The descriptor of that set is one
  reader among others for the reactor; with Twisted's epoll reactor it is the other way
  round (:mod:`echoproto.net.reactor_turn`). When it is ready, a bounded batch of
  connections is served at once.
- The transports of a port in the lane (:mod:`echoproto.net.transports`) send at once when nothing
  is queued. What the kernel does not take is queued as usual, and the producer is paused until it
  is sent: a transport holds no more than one read of what its peer sends.
- A plain echo's small messages are returned without a call of its transport
  (:mod:`echoproto.net.plain_echoes`); its bulk does not enter the process
  (:mod:`echoproto.net.splice`).

It is a lane beside the reactor and not a reactor: time, threads, signals and all other descriptors
stay with the reactor above it, which may be any that takes readers (epoll, poll, select, asyncio).
An application keeps its reactor; only the ports of this service change lanes
(:mod:`echoproto.net.acceptor`).

It differs from the stock lane in two ways. There is no log context per event, so the legacy
``twisted.python.log`` does not name the connection as the system of a line. And when no descriptor
is left, new clients wait in the accept queue, where the stock lane closes their connections.

Source: ``epoll(7)``, on epoll sets that are members of an epoll set.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import error, main
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IListeningPort,
    IReactorFDSet,
    IReadDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.net.acceptor import Acceptor
from echoproto.net.direct_writes import DirectWriteMixin
from echoproto.net.passed_on import pass_on_reactor
from echoproto.net.plain_echoes import EPOLLIN, PlainEchoes
from echoproto.net.ports import TCP_PORTS, UNIX_PORTS
from echoproto.net.reactor_turn import ReactorTurn
from echoproto.net.splice import SplicePipe
from echoproto.net.tls import tls_factory
from echoproto.net.transports import DONE, ECHOED, TCPTransport, TLSTransport
from echoproto.net.unix_transports import UNIXTransport

# Connections served for one wake-up: enough to make the reactor's own cost negligible,
# and few enough that a batch of bulk reads takes milliseconds.
_BATCH = 128

# While a batch of this size was served, other connections have usually become ready, and so they
# have while bulk was spliced. Another epoll_wait costs less than a return through the reactor.
_WORTH_ANOTHER = 4

# Seconds between two log lines about a lack of descriptors.
LOG_INTERVAL = 10.0

_EPOLLOUT: int = getattr(select, "EPOLLOUT", 0)

_log = Logger(namespace="echoproto")

_LOST = Failure(error.ConnectionLost())


@pass_on_reactor
@implementer(IReactorFDSet, IReadDescriptor)
class EpollLane:
    """An epoll set below a reactor, which acts as the reactor of the ports in it.

    It implements what ports and connections need of a reactor, and passes everything
    else on to the reactor above it.

    :ivar above: that reactor.
    """

    @staticmethod
    def available() -> bool:
        """Return whether this platform has ``select.epoll``."""
        return hasattr(select, "epoll")

    def __init__(self, reactor: Any) -> None:
        """Open a lane.

        :param reactor: an ``IReactorFDSet`` and ``IReactorTime``.
        :raises OSError: if no descriptor is left.
        """
        self.above = reactor
        self._epoll = select.epoll()
        # What the reactor watches: the set, or, if the lane waits in place of the reactor, a
        # descriptor that is never ready. The reactor has to know the lane when it shuts down.
        self._watched = self._epoll.fileno()
        self._turn: ReactorTurn | None = None
        if ReactorTurn.possible(reactor):
            self._watched = os.eventfd(0)
            self._turn = ReactorTurn(reactor, self._serve_ready)
            self._epoll.register(self._turn.descriptor, EPOLLIN)
        self._events: dict[int, int] = {}
        self._descriptors: dict[int, Any] = {}
        # Descriptors registered during the batch. An event that was fetched before
        # belongs to a closed descriptor with the same number.
        self._fresh: set[int] = set()
        # Connections to close or half-close that have nothing to send. A dict, as an
        # ordered set.
        self._soon: dict[Any, None] = {}
        self._in_batch = False
        # Whether nothing in the batch but plain echoes has been served.
        self._only_echoes = True
        # When a lack of descriptors was logged last.
        self._logged = -LOG_INTERVAL
        # Opened with the lane, so that it takes no descriptor from a client later.
        self.pipe = SplicePipe()
        self.echoes = PlainEchoes(self._echoed_otherwise)
        reactor.addReader(self)

    def adopt(self, port: IListeningPort) -> bool:
        """Move a listening port into the lane, and with it all connections that it accepts.

        :param port: a result of an endpoint's ``listen``.
        :returns: whether the port is in the lane now. A port of an unknown kind stays
            where it is.
        """
        # Exact classes: a derived class may rely on what the lane replaces.
        if type(port) in UNIX_PORTS:
            transport: type = UNIXTransport
        elif type(port) in TCP_PORTS:
            transport = TLSTransport if tls_factory(port) else TCPTransport
        else:
            return False
        Acceptor.of(port).move(self, transport, self._cannot_accept)
        return True

    def _cannot_accept(self, why: OSError) -> None:
        now = self.above.seconds()
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            _log.warn("cannot accept ({why}); clients wait in the accept queue", why=why.strerror)

    def close(self) -> None:
        """Close the lane, which must be empty; without effect if it is closed."""
        if not self._epoll.closed:
            self.above.removeReader(self)
            self._close()

    def _close(self) -> None:
        if self._turn is not None:
            self._turn.give_back()
            os.close(self._watched)
        self._watched = -1
        self._epoll.close()
        self.pipe.close()

    def fileno(self) -> int:
        """Return the descriptor that the reactor watches; -1 once the lane is closed."""
        return self._watched

    def logPrefix(self) -> str:
        """Return the prefix of the reactor's log lines about the lane."""
        return "-"

    def connectionLost(self, reason: Failure) -> None:
        """Disconnect everything in the lane: the reactor shuts down."""
        for descriptor in self.removeAll():
            self._disconnect(descriptor, main.CONNECTION_LOST, False)
        self._close()

    def doRead(self) -> None:
        """Serve what is ready."""
        self._serve_ready(0)

    def _serve_ready(self, wait: float) -> None:
        """Serve a batch, and more while the reactor has nothing to do.

        :param wait: how long to wait for the first, in seconds; negative for no limit. The reactor
            has a call to make then.
        """
        until = time.monotonic() + wait if wait > 0 else math.inf
        stay = wait != 0
        served = 0
        pipe = self.pipe
        while served < _BATCH:
            events = self._epoll.poll(wait, _BATCH)
            stay = self._serve_batch(events) and stay
            # The end of the last connection of a drain may have closed the lane.
            if self._epoll.closed:
                return
            if len(events) >= _WORTH_ANOTHER or pipe.used:
                pipe.used = False
                served += len(events)
                wait = 0
            elif stay and (left := until - time.monotonic()) > 0:
                served = 0
                wait = left if until < math.inf else -1
            else:
                return
        if self._turn is not None:
            # So many were ready that the reactor's own descriptors may have had no turn.
            self._turn.look()

    def _serve_batch(self, events: list[tuple[int, int]]) -> bool:
        """Serve descriptors.

        :returns: whether all were plain echoes: then the reactor has been given nothing to do.
        """
        fresh = self._fresh
        fresh.clear()
        self._in_batch = self._only_echoes = True
        descriptors = self._descriptors
        for fd, event in self.echoes.serve(events):
            if fresh and fd in fresh:
                continue
            try:
                descriptor = descriptors[fd]
            except KeyError:
                # It was closed earlier in the batch, or it is the reactor's.
                if self._turn is not None and fd == self._turn.descriptor:
                    self._turn.look()
                    self._only_echoes = False
                continue
            try:
                if event == EPOLLIN:
                    why = descriptor.doRead()
                    if why is ECHOED:
                        continue
                    reading = True
                else:
                    why, reading = self._serve(descriptor, fd, event)
            except BaseException as raised:
                _log.failure("a protocol failed")
                why, reading = raised, False
            self._only_echoes = False
            if why is not None:
                self._disconnect(descriptor, why, reading)
        self._in_batch = False
        if self._soon:
            self._write_now()
        return self._only_echoes

    def _echoed_otherwise(self, fd: int, data: bytes | None, sent: int) -> None:
        self._only_echoes = False
        descriptor = self._descriptors[fd]
        self._call(descriptor, True, descriptor.echoed_otherwise, data, sent)

    def write_soon(self, transport: DirectWriteMixin) -> None:
        """Call a transport's ``doWrite`` after this batch instead of when it is writable.

        :param transport: one with nothing to send, which is to be closed or half-closed.
            The kernel accepts that at any time.
        """
        if not self._in_batch and not self._soon:
            self.above.callLater(0, self._write_now)
        self._soon[transport] = None

    def _write_now(self) -> None:
        soon, self._soon = self._soon, {}
        for transport in soon:
            if transport.connected:
                self._call(transport, False, transport.doWrite)

    def _call(self, descriptor: Any, reading: bool, step: Callable[..., Any], *args: Any) -> None:
        """Let a descriptor take a step, and disconnect it if that was its last."""
        try:
            why = step(*args)
        except BaseException as raised:
            _log.failure("a protocol failed")
            why, reading = raised, False
        if why is not None:
            self._disconnect(descriptor, why, reading)

    def _serve(self, descriptor: Any, fd: int, event: int) -> tuple[Exception | None, bool]:
        """Handle events other than input alone.

        :returns: why the connection ended, if it did, and whether in reading.
        """
        if event & EPOLLIN:
            why = descriptor.doRead()
            if why is not None or not event & _EPOLLOUT or descriptor.fileno() != fd:
                return why, True
        elif event & ~_EPOLLOUT:
            # A hang-up without input left is the end of input, if input was awaited.
            reading = bool(self._events.get(fd, 0) & EPOLLIN)
            return (main.CONNECTION_DONE if reading else main.CONNECTION_LOST), reading
        return descriptor.doWrite(), False

    def _disconnect(self, descriptor: Any, why: BaseException, reading: bool) -> None:
        """Report the end to a descriptor; an error that this raises is only logged."""
        try:
            # Exact classes: derived ones carry details.
            if type(why) is error.ConnectionDone:
                if reading and IHalfCloseableDescriptor.providedBy(descriptor):
                    self.removeReader(descriptor)
                    descriptor.readConnectionLost(DONE)
                    return
                failure = DONE
            elif type(why) is error.ConnectionLost:
                failure = _LOST
            else:
                failure = Failure(why)
            # It removes itself as a reader and as a writer,
            descriptor.connectionLost(failure)
        except BaseException:
            _log.failure("a protocol failed")
            # unless it fails first.
            self.removeReader(descriptor)
            self.removeWriter(descriptor)

    def addReader(self, reader: Any) -> None:
        """See ``IReactorFDSet``."""
        self._want(reader, EPOLLIN)

    def addWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet``."""
        self._want(writer, _EPOLLOUT)

    def add_connection(self, fd: int, transport: Any) -> None:
        """Add a new transport, which has this descriptor, as a reader."""
        self.echoes.discard(fd)  # of one that was closed without being removed
        self._epoll.register(fd, EPOLLIN)
        self._descriptors[fd], self._events[fd] = transport, EPOLLIN
        self._fresh.add(fd)

    def removeReader(self, reader: Any) -> None:
        """See ``IReactorFDSet``."""
        fd = reader.fileno()
        self.echoes.discard(fd)
        if self._events.get(fd, 0) & EPOLLIN:
            self._unwant(fd, EPOLLIN)

    def removeWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet``."""
        fd = writer.fileno()
        if self._events.get(fd, 0) & _EPOLLOUT:
            self._unwant(fd, _EPOLLOUT)

    def remove(self, transport: Any) -> None:
        """Forget a transport, as both a reader and a writer."""
        fd = transport.fileno()
        self.echoes.discard(fd)
        if fd in self._events:
            self._epoll.unregister(fd)
            del self._descriptors[fd], self._events[fd]

    def removeAll(self) -> list[Any]:
        """See ``IReactorFDSet``."""
        removed = list(self._descriptors.values())
        for fd in self._descriptors:
            self._epoll.unregister(fd)
        self._descriptors.clear()
        self._events.clear()
        self.echoes.clear()
        return removed

    def getReaders(self) -> list[Any]:
        """See ``IReactorFDSet``."""
        return self._wanting(EPOLLIN)

    def getWriters(self) -> list[Any]:
        """See ``IReactorFDSet``."""
        return self._wanting(_EPOLLOUT)

    def _wanting(self, event: int) -> list[Any]:
        return [self._descriptors[fd] for fd, wanted in self._events.items() if wanted & event]

    def _want(self, descriptor: Any, event: int) -> None:
        fd = descriptor.fileno()
        wanted = self._events.get(fd)
        if wanted is None or self._descriptors[fd] is not descriptor:
            # In the latter case the old one was closed without being removed.
            self.echoes.discard(fd)
            self._epoll.register(fd, event)
            self._descriptors[fd] = descriptor
            self._events[fd] = event
            self._fresh.add(fd)
        elif not wanted & event:
            self._epoll.modify(fd, wanted | event)
            self._events[fd] = wanted | event

    def _unwant(self, fd: int, event: int) -> None:
        left = self._events[fd] & ~event
        if left:
            self._epoll.modify(fd, left)
            self._events[fd] = left
        else:
            self._epoll.unregister(fd)
            del self._descriptors[fd], self._events[fd]
