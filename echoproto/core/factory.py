"""Who may come in, who is in, and what was carried."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.core.address import format_address, source
from echoproto.core.connection import Connection, Told, ToldInFull
from echoproto.core.protocol import has_half_close
from echoproto.core.rate_limited_log import RateLimitedLog
from echoproto.limits.per_source import Limits, PerSourceLimit
from echoproto.limits.rate import Throttled
from echoproto.limits.slots import ConnectionSlots
from echoproto.proxy_protocol.parser import ProxyHeaders

_log = Logger(namespace="echoproto")

# The upper bounds of the histogram of durations, in seconds.
DURATION_BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)


class LogDetail(str, Enum):
    """How much is logged of connections."""

    LISTENING = "listening"
    """Nothing of connections."""
    CONNECTIONS = "connections"
    """Each one opened and closed, if it says anything."""
    CHUNKS = "chunks"
    """Also each chunk received and each end of input."""

    def __str__(self) -> str:
        return self.value


class EchoFactory(ServerFactory):
    """Makes connections and knows those that are live.

    :ivar limits: what it gives at the most.
    :ivar places: how many more connections there may be, and who waits for one
        of these places.
    :ivar sources: how many connections each source has, if that is limited.
    :ivar connections: the live ones.
    :ivar accepted: how many there have been, with the live ones.
    :ivar failed: how many of those that are over ended in an error: a reset, a
        time-out, an abort.
    :ivar silent: how many of those that are over never sent a byte, as health
        probes do.
    :ivar refused: how many clients were turned away, by reason: ``source`` (its
        source has as many connections as it may), ``proxy`` (no PROXY header
        that counts), ``places`` (no place is left, at a port that cannot wait).
    :ivar ended: how many connections the server has ended, by reason: ``idle``.
    :ivar durations: how many of those that are over lasted up to each of
        :data:`DURATION_BOUNDS` and longer than the one before; last, those that
        lasted longer than all.
    :ivar seconds: how long those lasted, in all.
    :ivar bytes_discarded: bytes that came too late in a drain to be returned.
    :ivar bytes_unreturned: bytes of idle connections that their clients had sent, and
        did not take back.
    """

    noisy = False

    def __init__(
        self,
        log: LogDetail | str = LogDetail.LISTENING,
        proxy_headers: ProxyHeaders | None = None,
        clock: Any = None,
        limits: Limits | None = None,
    ) -> None:
        """Make a factory without connections.

        :param log: how much to log of each connection.
        :param proxy_headers: takes the headers off connections that a
            balancer passes on; ``None`` if none does.
        :param clock: an ``IReactorTime``, for what has to come in time; the
            global reactor if none is given.
        :param limits: what it gives at the most; there are none if none is given.
        :raises ValueError: when there is no such detail.
        """
        detail = LogDetail(log)
        self.limits = Limits() if limits is None else limits
        self.places = ConnectionSlots(self.limits.max_connections, lambda: self.live)
        self.sources = PerSourceLimit(self.limits.max_per_source)
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.failed = 0
        self.silent = 0
        self.refused: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.durations = [0] * (len(DURATION_BOUNDS) + 1)
        self.seconds = 0.0
        self.bytes_discarded = 0
        self.bytes_unreturned = 0
        self._bytes_of_closed = 0
        self._connection = _kind(detail, self.limits)
        self._proxy_headers = proxy_headers
        self._clock = clock
        self._tally: RateLimitedLog | None = None
        self._waiting_for_empty: list[Deferred[None]] = []

    @property
    def live(self) -> int:
        """How many connections there are now."""
        return len(self.connections)

    @property
    def bytes_echoed(self) -> int:
        """Bytes returned in all, those of the live connections included."""
        return self._bytes_of_closed + sum(each.bytes_echoed for each in self.connections)

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]
        """Make the server's end of a new connection."""
        connection = self._connection()
        connection.factory = self
        connection.client = addr
        return connection

    def top_sources(self, count: int) -> list[tuple[str, int]]:
        """Return the sources with the most live connections, and how many each has.

        :param count: how many sources at the most.
        """
        sources = Counter(source(each.client) for each in self.connections)
        del sources[None]
        return [(name, live) for name, live in sources.most_common(count) if name is not None]

    def when_empty(self) -> Deferred[None]:
        """Return a Deferred that fires once no connection is live, and none is to begin."""
        if self._is_empty():
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting_for_empty.append(waiting)
        return waiting

    def refuse(self, connection: Connection, reason: str, why: str, of: str | None = None) -> None:
        """Turn a client away, and say so at most once a second for each reason.

        :param connection: what it has begun.
        :param reason: what it is counted under in ``refused``.
        :param why: the same for people.
        :param of: whose it is, where the line that sums up has to say whose they are.
        """
        connection.refused = reason
        self.refused[reason] += 1
        self._tell_tally(reason, "refused {client}: {why}", connection, of, why=why)
        transport = connection.transport
        transport.unregisterProducer()
        transport.pauseProducing()
        if has_half_close(transport):
            transport.loseConnection()
        else:
            # TLS would shake hands first, and wait for the other side's end.
            transport.abortConnection()

    def end_idle(self, connection: Connection, stuck: int) -> None:
        """End a connection in which nothing moves.

        :param connection: the one.
        :param stuck: how many bytes its client has sent and does not take back. They
            are lost, and the log says how many.
        """
        connection.ending = "idle"
        self.ended["idle"] += 1
        transport = connection.transport
        if not stuck:
            # A transport waits for its producer before it closes.
            transport.unregisterProducer()
            transport.loseConnection()
            return
        self.bytes_unreturned += stuck
        self._tell_tally(
            "idle",
            "aborted {client}, which takes nothing back: {stuck} bytes not returned, "
            "{in_all} so far",
            connection,
            stuck=stuck,
            in_all=self.bytes_unreturned,
        )
        transport.abortConnection()

    def drop_waiting(self) -> None:
        """Close those who were accepted in a drain and still wait for a place."""
        number = self.places.drop_waiting()
        if number:
            _log.warn(
                "closed {number} clients unheard, which had waited for a place", number=number
            )
            self._check_empty()

    def flush(self) -> None:
        """Log now what would be summed up later."""
        if self._tally is not None:
            self._tally.flush()

    @property
    def clock(self) -> IReactorTime:
        """What counts the time."""
        if self._clock is None:
            from twisted.internet import reactor

            self._clock = reactor
        return self._clock  # type: ignore[no-any-return]

    def _opened(self, connection: Connection) -> None:
        # A port cannot wait if it is not one that the reactor reads.
        room = not self.places.limited or self.places.available > 0
        self.accepted += 1
        self.connections.add(connection)
        if not room:
            self.refuse(connection, "places", "no place is left")
        elif self._proxy_headers is not None:
            self._proxy_headers.take(connection, self.clock, self._identified, self._refuse_header)
        elif self.limits.max_per_source:
            self._identified(connection, b"")

    def _identified(self, connection: Connection, payload: bytes) -> None:
        """It is known whose the connection is; what has come of its payload is taken now."""
        name = source(connection.client) if self.limits.max_per_source else None
        if name is None:
            self._begin(connection, payload)
        else:
            self.sources.ask(name, connection, payload, self._begin, self._refuse_source)

    @staticmethod
    def _begin(connection: Connection, payload: bytes) -> None:
        if payload:
            connection.dataReceived(payload)

    def _refuse_source(self, connection: Connection, name: str) -> None:
        why = f"{name} has {self.limits.max_per_source} connections, and may have no more"
        self.refuse(connection, "source", why, of=name)

    def _refuse_header(self, connection: Connection, why: str) -> None:
        self.refuse(connection, "proxy", why)

    def _tell_tally(
        self,
        kind: str,
        line: str,
        connection: Connection,
        of: str | None = None,
        **members: Any,
    ) -> None:
        """Warn of what happens to a connection, at most once a second for each kind."""
        if self._tally is None:
            self._tally = RateLimitedLog(_log, self.clock)
        self._tally.tell(kind, line, of, client=self._client(connection), **members)

    def _tell_opened(self, connection: Connection) -> None:
        if connection.via is None:
            _log.info("opened {client}", client=self._client(connection))
        else:
            _log.info(
                "opened {client} via {via}",
                client=self._client(connection),
                via=format_address(connection.via),
            )

    def _closed(self, connection: Connection, reason: Failure) -> None:
        self.connections.discard(connection)
        self._bytes_of_closed += connection.bytes_echoed
        self.bytes_discarded += connection.bytes_discarded
        why = connection.ending
        failed = not (
            connection.refused or why is not None or isinstance(reason.value, ConnectionDone)
        )
        if failed:
            why = reason.getErrorMessage()
        self.failed += failed
        if not (connection.bytes_echoed or connection.bytes_discarded or connection.refused):
            self.silent += 1
        seconds = time.monotonic() - connection.opened
        self.seconds += seconds
        self.durations[bisect_left(DURATION_BOUNDS, seconds)] += 1
        if connection.told:
            _log.info(
                "closed {client}: {bytes} bytes in {seconds:.3f} s{error}",
                client=self._client(connection),
                bytes=connection.bytes_echoed,
                seconds=seconds,
                error=f", {why}" if why else "",
            )
        if connection.source is not None:
            self.sources.leave(connection.source)
        if self.places.limited:
            self.places.release()
        self._check_empty()

    def _is_empty(self) -> bool:
        return not self.connections and not self.places.waiting

    def _check_empty(self) -> None:
        if self._waiting_for_empty and self._is_empty():
            waiting, self._waiting_for_empty = self._waiting_for_empty, []
            for each in waiting:
                each.callback(None)

    @staticmethod
    def _client(connection: Connection) -> str:
        assert connection.client is not None
        return format_address(connection.client)


def _kind(detail: LogDetail, limits: Limits) -> type[Connection]:
    """Put together what a connection has to do, and no more."""
    told = {
        LogDetail.LISTENING: Connection,
        LogDetail.CONNECTIONS: Told,
        LogDetail.CHUNKS: ToldInFull,
    }[detail]
    if not limits.max_bytes_per_second:
        return told
    if told is Connection:
        return Throttled
    return type("Connection", (told, Throttled), {})
