"""The factory: it admits connections, counts them, and knows which are open."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.base.rate_limited_log import RateLimitedLog
from echoproto.core.composition import connection_class
from echoproto.core.connection import Connection, Gate, Pacer
from echoproto.core.connection_log import ConnectionLog, LogDetail, client_of
from echoproto.core.protocol import Echo
from echoproto.core.stats import Stats

_log = Logger(namespace="echoproto")

Clock = Callable[[], IReactorTime]
GateMaker = Callable[[Connection], Gate | None]


class Slots(Protocol):
    """The connections that there may be at once."""

    @property
    def waiting(self) -> int:
        """How many accepted clients wait for one."""

    def gate(self, connection: Connection) -> None:
        """Refuse a connection for which no slot is free."""

    def drop_waiting(self) -> int:
        """Close the accepted clients that wait for a slot; return how many."""


class Sweep(Protocol):
    """Looks at the open connections from time to time, while there are any."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Limits(Protocol):
    """Makes what bounds the connections of one factory; see :class:`echoproto.Limits`."""

    def make_slots(self, live: Callable[[], int]) -> Slots | None: ...
    def make_source_gate(self) -> GateMaker | None: ...
    def make_pacers(self, clock: Clock) -> Callable[[Connection], Pacer] | None: ...
    def make_sweep(
        self, live: Callable[[], Collection[Connection]], clock: Clock
    ) -> Sweep | None: ...


class ProxyHeaders(Protocol):
    """Strips PROXY headers; see :class:`echoproto.ProxyHeaders`."""

    def make_gate(self, clock: Clock) -> GateMaker: ...


class EchoFactory(ServerFactory):
    """Makes connections and knows which are open.

    The protocol of the connections is chosen as Twisted teaches: with the argument
    ``protocol``, by an attribute ``protocol`` of a subclass, or with ``forProtocol``.

    :ivar connections: the open ones.
    :ivar gates: what stands before a connection, in order.
    :ivar log: where connections are logged, if they are.
    :ivar slots: bounds how many there are, if that is limited.
    """

    noisy = False
    protocol: type[Echo] = Echo

    def __init__(
        self,
        *,
        protocol: type[Echo] | None = None,
        log: LogDetail | str = LogDetail.LISTENING,
        limits: Limits | None = None,
        proxy_headers: ProxyHeaders | None = None,
        reactor: Any = None,
    ) -> None:
        """Make a factory without connections.

        :param protocol: a subclass of :class:`echoproto.Echo`.
        :param log: how much to log of each connection.
        :param limits: an :class:`echoproto.Limits`; unlimited if none is given.
        :param proxy_headers: an :class:`echoproto.ProxyHeaders` to strip the headers
            of connections that a balancer passes on; ``None`` if none does.
        :param reactor: an ``IReactorTime``; the global one, when first needed, if none is given.
        :raises TypeError: when the protocol cannot be composed.
        :raises ValueError: when there is no such detail.
        """
        if protocol is not None:
            self.protocol = protocol
        connection_class(self.protocol)
        listening = LogDetail(log) is LogDetail.LISTENING
        self.log = None if listening else ConnectionLog(log == LogDetail.CHUNKS)
        self.connections: set[Connection] = set()
        self._reactor = reactor
        self._stats = Stats()
        self._warnings = RateLimitedLog(_log, lambda: self.clock)
        self.slots: Slots | None = None
        self._pacers: Callable[[Connection], Pacer] | None = None
        self._sweep: Sweep | None = None
        gates: list[GateMaker | None] = []
        if limits is not None:
            self.slots = limits.make_slots(lambda: len(self.connections))
            self._pacers = limits.make_pacers(lambda: self.clock)
            self._sweep = limits.make_sweep(lambda: self.connections, lambda: self.clock)
        if self.slots is not None:
            gates.append(self.slots.gate)
        if proxy_headers is not None:
            gates.append(proxy_headers.make_gate(lambda: self.clock))
        if limits is not None:
            gates.append(limits.make_source_gate())
        self.gates: Sequence[GateMaker] = [gate for gate in gates if gate is not None]

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        connection_class(cls.protocol)

    @classmethod
    def forProtocol(cls, protocol: Any, *args: Any, **named: Any) -> EchoFactory:
        """Make a factory for a protocol; see ``twisted.internet.protocol.Factory``."""
        connection_class(protocol)
        return super().forProtocol(protocol, *args, **named)  # type: ignore[return-value]

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]
        """Make the server's end of a connection."""
        connection = connection_class(self.protocol)()
        connection.attach(self, addr)
        return connection

    @property
    def clock(self) -> IReactorTime:
        """What counts the time."""
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        return self._reactor  # type: ignore[no-any-return]

    @property
    def live(self) -> int:
        """How many connections are open."""
        return len(self.connections)

    @property
    def stats(self) -> Stats:
        """What was counted until now, open connections included."""
        echoed = sum(map(attrgetter("bytes_echoed"), self.connections), self._stats.bytes_echoed)
        return replace(self._stats, bytes_echoed=echoed)

    def flush(self) -> None:
        """Log now what would be summed up later."""
        self._warnings.flush()

    # What connections ask: see Owner in connection.py.

    def make_pacer(self, connection: Connection) -> Pacer | None:
        return None if self._pacers is None else self._pacers(connection)

    def connection_opened(self, connection: Connection) -> None:
        self._stats.accepted += 1
        self.connections.add(connection)
        if self._sweep is not None:
            self._sweep.start()

    def connection_closed(self, connection: Connection, reason: Failure | None) -> None:
        if not self._forget(connection):
            return
        why = connection.ending
        error = None if reason is None else reason.value
        if why is None and not connection.refused and not isinstance(error, ConnectionDone):
            why = "no reason given" if reason is None else reason.getErrorMessage()
            self._stats.failed += 1
        if not (connection.bytes_echoed or connection.bytes_discarded or connection.refused):
            self._stats.silent += 1
        seconds = time.monotonic() - connection.opened
        self._stats.add_duration(seconds)
        if self.log is not None and connection.logged:
            self.log.closed(connection, seconds, why)

    def connection_dropped(self, connection: Connection) -> None:
        self._stats.dropped += self._forget(connection)

    def connection_refused(self, connection: Connection, why: str, source: str | None) -> None:
        reason = connection.refused or ""
        self._stats.refused[reason] += 1
        client = client_of(connection)
        self._warnings.warn(reason, "refused {client}: {why}", source, client=client, why=why)

    def connection_ended(self, connection: Connection, unreturned: int) -> None:
        reason = connection.ending or ""
        self._stats.ended[reason] += 1
        if unreturned:
            self._stats.bytes_unreturned += unreturned
            self._warnings.warn(
                reason,
                "aborted {reason} connection from {client}: {unreturned} bytes not returned "
                "because the client does not read ({total} in total)",
                reason=reason,
                client=client_of(connection),
                unreturned=unreturned,
                total=self._stats.bytes_unreturned,
            )

    def _forget(self, connection: Connection) -> bool:
        """Take a connection and its bytes out of the open ones; return whether it was there."""
        if connection not in self.connections:
            return False
        self.connections.discard(connection)
        self._stats.bytes_echoed += connection.bytes_echoed
        self._stats.bytes_discarded += connection.bytes_discarded
        if self._sweep is not None and not self.connections:
            self._sweep.stop()
        return True
