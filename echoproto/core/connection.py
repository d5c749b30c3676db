"""One connection of a factory: admitted by gates, then echoed, and logged if asked for.

This is the only place that chooses where ``dataReceived`` goes. A plain echo, once admitted,
costs nothing beyond :class:`echoproto.Echo` per chunk.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.core.connection_log import ConnectionLog
from echoproto.core.protocol import Echo, has_half_close

_log = Logger(namespace="echoproto")

# Why reading is paused; several reasons may hold at once.
BACKPRESSURE, GATE, RATE = 1, 2, 4


class Gate(Protocol):
    """Stands before one connection until it calls the connection's ``admit`` or ``refuse``.

    Bytes that arrive meanwhile are in ``connection.early``: a gate may take what is meant for it.
    """

    def received(self) -> None:
        """Handle more bytes in ``connection.early``."""

    def input_ended(self) -> None:
        """Handle the client's FIN."""

    def close(self) -> None:
        """Stop: the connection is lost or finishing, and the answer no longer counts."""


class Pacer(Protocol):
    """Limits the rate at which one connection is read, by pausing it for :data:`RATE`."""

    def received(self, count: int) -> None:
        """Take account of bytes.

        :param count: how many were read.
        """

    def close(self) -> None:
        """Stop: the connection is lost or finishing."""


class Group(Protocol):
    """The connections of one service, among those of its factory."""

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...


class Owner(Protocol):
    """What a connection asks of its factory, and what it reports to be counted and logged.

    :ivar gates: what stands before a connection, in order; each makes a gate, or admits
        (``None``) or refuses the connection at once.
    :ivar log: where connections are logged, if they are.
    """

    @property
    def gates(self) -> Sequence[Callable[[Connection], Gate | None]]: ...
    @property
    def log(self) -> ConnectionLog | None: ...
    def make_pacer(self, connection: Connection) -> Pacer | None: ...
    def connection_opened(self, connection: Connection) -> None: ...
    def connection_closed(self, connection: Connection, reason: Failure | None) -> None: ...
    def connection_dropped(self, connection: Connection) -> None: ...
    def connection_refused(self, connection: Connection, why: str, source: str | None) -> None: ...
    def connection_ended(self, connection: Connection, unreturned: int) -> None: ...


@implementer(IPushProducer)
class Connection(Echo):
    """An Echo that its factory knows of.

    :ivar via: the balancer that passed the connection on, if any.
    :ivar opened: when it was accepted, in seconds of the monotonic clock.
    :ivar early: bytes that arrived before it was admitted; only a gate may use it.
    :ivar logged: whether the log has a line of it.
    :ivar refused: why it was refused, if it was.
    :ivar input_ended: whether the client has closed its sending side.
    :ivar ending: why the server ends it, if it does.
    :ivar bytes_discarded: bytes that arrived after :meth:`finish` and were not returned.
    """

    factory: Owner
    via: IAddress | None = None
    opened = 0.0
    early: bytearray
    logged = False
    refused: str | None = None
    ending: str | None = None
    _client: IAddress | None = None
    _group: Group | None = None
    _gates: Iterator[Callable[[Connection], Gate | None]] = iter(())
    _gate: Gate | None = None
    _pacer: Pacer | None = None
    _releases: tuple[Callable[[], None], ...] = ()
    bytes_discarded = _paused_by = 0
    input_ended = _admitted = _finishing = False

    @property
    def client(self) -> IAddress | None:
        """The client's address; ``None`` until it is connected."""
        if self._client is None and self.transport is not None:
            self._client = self.transport.getPeer()
        return self._client

    @client.setter
    def client(self, client: IAddress | None) -> None:
        self._client = client

    # From accept to admission.

    def attach(self, factory: Owner, client: IAddress | None) -> None:
        """Belong to a factory; to be called before it is connected."""
        self.factory, self._client = factory, client
        # All that changes later, for the reason that net/transports.py tells.
        self.bytes_echoed = self.bytes_discarded = self._paused_by = 0
        self.input_ended = self._admitted = self._finishing = False
        self._gate = self.ending = self.refused = None
        self._releases = ()

    def join(self, group: Group) -> None:
        """Belong to a group; to be called before it is connected."""
        self._group = group

    def connectionMade(self) -> None:
        self.opened = time.monotonic()
        self.factory.connection_opened(self)
        if self._group is not None:
            self._group.opened(self)
        if self.factory.gates:
            self.early = bytearray()
            self._gates = iter(self.factory.gates)
            self.admit()
        else:
            self._begin(b"")

    def identify(self, client: IAddress) -> None:
        """Learn from the balancer that connected which client it is for."""
        self.via, self.client = self.client, client

    def admit(self) -> None:
        """Pass the gate that it stands before; echo if that was the last one."""
        for make_gate in self._gates:
            self._gate = make_gate(self)
            if self.refused is not None:
                return
            if self._gate is not None:
                self._route()
                return
        self._gate = None
        early = bytes(self.early)
        del self.early
        self._begin(early)

    def refuse(self, reason: str, why: str, source: str | None = None) -> None:
        """Close it instead of admitting it.

        :param reason: the counter of :attr:`echoproto.core.stats.Stats.refused`.
        :param why: the same for the log.
        :param source: the client's source, where the log sums up by source.
        """
        self._detach()
        self.refused = reason
        self.factory.connection_refused(self, why, source)
        self.transport.pauseProducing()
        if has_half_close(self.transport):
            self.transport.loseConnection()
        else:
            # TLS would finish its handshake first, and wait for the client's close_notify.
            self.abort()

    def _begin(self, early: bytes) -> None:
        """Hand it to the protocol, which learns of it only now, with what arrived early."""
        self._admitted = True
        self._pacer = self.factory.make_pacer(self)
        try:
            super().connectionMade()
            if not self._started:
                # A subclass that does not call the inherited method keeps backpressure.
                Echo.connectionMade(self)
            self._route()
            if early:
                self.dataReceived(early)
            if self.input_ended:
                self.readConnectionLost()
        except Exception:
            _log.failure("a protocol failed: its connection is aborted")
            self.abort()

    # While it is open.

    @property
    def throttled(self) -> bool:
        """Whether its rate limit keeps it from being read."""
        return bool(self._paused_by & RATE)

    def pause_reading(self, reason: int) -> None:
        """Stop reading, for :data:`BACKPRESSURE`, :data:`GATE` or :data:`RATE`."""
        self._paused_by |= reason
        self.transport.pauseProducing()

    def resume_reading(self, reason: int) -> None:
        """Read again, unless another reason for a pause holds."""
        self._paused_by &= ~reason
        if not self._paused_by and not self.input_ended:
            self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """Stop reading: the transport has enough to send."""
        self.pause_reading(BACKPRESSURE)

    def resumeProducing(self) -> None:
        """Read again, unless the protocol has closed the transport, which waits for it."""
        if self.transport.disconnecting:
            self.transport.unregisterProducer()
        else:
            self.resume_reading(BACKPRESSURE)

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost, and ``connectionLost`` tells."""

    def _producer(self) -> Any:
        return self

    # To its end.

    def on_close(self, release: Callable[[], None]) -> None:
        """Call a function once, when the connection is closed or dropped."""
        self._releases += (release,)

    def readConnectionLost(self) -> None:
        self.input_ended = True
        if self._pacer is not None:
            self._pacer.close()
        if self._gate is not None:
            self._gate.input_ended()
        elif self._finishing or not self._admitted:
            self.transport.loseConnection()
        else:
            log = self.factory.log
            if log is not None and log.chunks and self.logged:
                log.input_ended(self)
            super().readConnectionLost()

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        self._detach()
        self.factory.connection_closed(self, reason)
        self._leave()
        # It refers to itself by these, and would wait for the garbage collector.
        try:  # noqa: SIM105 (contextlib.suppress takes 0.4 us)
            del self.dataReceived, self.plain_echo
        except AttributeError:
            pass
        if self._admitted:
            super().connectionLost(reason)  # type: ignore[arg-type]

    def finish(self) -> None:
        """Return what has arrived so far, then end; what arrives later is not returned.

        Where the transport has half-close, a FIN follows the last byte, and over TLS a
        close_notify. Input is then read and dropped until the client closes too: closing a
        socket with unread input makes the kernel send a reset, which may destroy what is still
        on its way to the client (RFC 2525, 2.17).
        """
        if self._finishing or self.refused is not None:
            return
        self._finishing = True
        if self._gate is not None:
            self.bytes_discarded += len(self.early)
        self._detach()
        self._route()
        transport = self.transport
        if self._admitted:
            transport.unregisterProducer()
        self._paused_by = 0
        transport.resumeProducing()
        if has_half_close(transport):
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def end(self, reason: str, unreturned: int = 0) -> None:
        """End it from the server's side: flush and close, or abort.

        :param reason: the counter of :attr:`echoproto.core.stats.Stats.ended`.
        :param unreturned: how many bytes the client has sent and does not take back. If there
            are any they are lost, and the log says how many.
        """
        self.ending = reason
        if self._gate is not None:
            unreturned += len(self.early)
        self.factory.connection_ended(self, unreturned)
        if unreturned:
            self.abort()
        else:
            self.close()

    def abort(self) -> None:
        """Close it at once, with a reset; nothing more is sent."""
        self.transport.abortConnection()

    def drop(self) -> None:
        """Give up on it: it was aborted, and its end was never reported."""
        self._detach()
        self.factory.connection_dropped(self)
        self._leave()

    def _detach(self) -> None:
        """Stop the gate and the pacer."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.close()
        if self._pacer is not None:
            self._pacer.close()

    def _leave(self) -> None:
        releases, self._releases = self._releases, ()
        for release in releases:
            release()
        if self._group is not None:
            self._group.closed(self)

    # Where a chunk goes.

    def _route(self) -> None:
        """Choose what a chunk is handed to, so that a plain echo costs nothing more."""
        log = self.factory.log
        if self._finishing:
            self.dataReceived = self._discard  # type: ignore[method-assign]
        elif self._gate is not None:
            self.dataReceived = self._received_early  # type: ignore[method-assign]
        elif log is not None and not self.logged:
            self.dataReceived = self._received_first  # type: ignore[method-assign]
        elif self._pacer is not None or (log is not None and log.chunks):
            self.dataReceived = self._received_watched  # type: ignore[method-assign]
        elif type(self).dataReceived is Echo.dataReceived:
            self.plain_echo = self.dataReceived = super().dataReceived  # type: ignore[method-assign]
        else:
            # Not through vars(): an instance whose dict was asked for is slower from then on.
            with contextlib.suppress(AttributeError):
                del self.dataReceived

    def _received_early(self, data: bytes) -> None:
        self.early += data
        if self._gate is not None:
            self._gate.received()

    def _received_first(self, data: bytes) -> None:
        self.logged = True
        if self.factory.log is not None:
            self.factory.log.opened(self)
        self._route()
        self.dataReceived(data)

    def _received_watched(self, data: bytes) -> None:
        log = self.factory.log
        if log is not None and log.chunks:
            log.received(self, data)
        type(self).dataReceived(self, data)
        if self._pacer is not None:
            self._pacer.received(len(data))

    def _discard(self, data: bytes) -> None:
        self.bytes_discarded += len(data)
