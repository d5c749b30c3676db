"""How a stopping service lets its connections end.

A stop has an end, whatever a protocol or an endpoint does: after ``drain_delay``
the ports close, after ``drain_timeout`` the connections are flushed and closed,
:data:`FLUSH_TIME` later what is left is aborted, and :data:`LAST_TIME` later
what has still not reported its end is logged, counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from echoproto.base.words import counted
from echoproto.drain.progress import DrainDelay, Progress

_log = Logger(namespace="echoproto")

# Seconds that a connection gets after the deadline to take its last bytes and our FIN.
FLUSH_TIME = 1.0
# Seconds that an aborted connection gets to report its end, which takes one turn of the
# reactor.
LAST_TIME = 1.0


class Drainable(Protocol):
    """What can be drained: the connections of one service."""

    @property
    def live(self) -> int:
        """How many connections are open."""

    @property
    def waiting(self) -> int:
        """How many accepted clients wait for a slot."""

    @property
    def bytes_echoed(self) -> int:
        """Bytes returned in total."""

    @property
    def bytes_discarded(self) -> int:
        """Bytes that arrived too late to be returned."""

    def when_empty(self) -> Deferred[None]:
        """Return a Deferred that fires once no connection is open and none waits."""

    def drop_waiting(self) -> None:
        """Close the accepted clients that wait for a slot."""

    def finish_all(self) -> None:
        """Flush and close every connection."""

    def abort_all(self) -> None:
        """Abort every connection."""

    def drop_all(self) -> int:
        """Give up on the connections that are left; return how many."""


class Drain:
    """Closes the ports, waits for connections to end, and at the deadline ends them.

    Until the deadline nothing is done to a connection. :meth:`abort` aborts at once.
    """

    def __init__(
        self, connections: Drainable, clock: IReactorTime, timeout: float, delay: float = 0.0
    ) -> None:
        """Describe a drain; nothing happens yet.

        :param connections: whose end it waits for.
        :param clock: what counts the time.
        :param timeout: seconds from the closing of the ports to the deadline; 0
            aborts at once.
        :param delay: seconds for which connections are still accepted.
        """
        self._connections = connections
        self._clock = clock
        self._timeout = timeout
        self._progress = Progress(clock, lambda: connections.live, lambda: connections.bytes_echoed)
        self._delay = DrainDelay(clock, delay, self._progress)
        self._discarded_before = connections.bytes_discarded
        self._over: Deferred[None] = Deferred()
        self._timer: IDelayedCall | None = None
        self._draining = False
        self._aborted = False

    def run(self, close_ports: Callable[[], Deferred[Any]]) -> Deferred[None]:
        """Run it.

        :param close_ports: closes the ports; its Deferred fires when they are closed.
        :returns: a Deferred that fires when no connection is left.
        """
        self._delay.start().addCallback(lambda _: self._close(close_ports))
        return self._over

    def skip_delay(self) -> None:
        """Close the ports now, if they are still open."""
        self._delay.skip()

    def abort(self) -> None:
        """Abort what is left, and what would still begin to drain."""
        self._timeout = 0
        self._connections.drop_waiting()
        live = self._connections.live
        if live:
            _log.warn("aborting {connections}", connections=counted(live, "connection"))
            self._connections.abort_all()
        if self._draining and not self._over.called and not self._aborted:
            # Once: further signals must not put the end off.
            self._aborted = True
            self._progress.stop()
            self._set_timer(LAST_TIME, self._give_up)
        self._delay.skip()

    def _close(self, close_ports: Callable[[], Deferred[Any]]) -> None:
        close_ports().addBoth(lambda _: self._drain())

    def _drain(self) -> None:
        """Wait for the connections; the ports are closed."""
        self._draining = True
        live = self._connections.live + self._connections.waiting
        if live and self._timeout > 0:
            _log.info(
                "draining: {connections}, {timeout:g} s to finish",
                connections=counted(live, "connection"),
                timeout=self._timeout,
            )
            self._progress.drain(self._timeout)
            self._set_timer(self._timeout, self._finish)
        elif live:
            self.abort()
        self._connections.when_empty().addCallback(lambda _: self._end(was_empty=not live))

    def _finish(self) -> None:
        self._progress.stop()
        self._connections.drop_waiting()
        live = counted(self._connections.live, "connection")
        _log.warn("drain deadline: closing {connections}", connections=live)
        self._set_timer(FLUSH_TIME, self.abort)
        self._connections.finish_all()

    def _give_up(self) -> None:
        left = counted(self._connections.live, "connection")
        _log.error("gave up on {connections} that did not close", connections=left)
        self._connections.drop_all()

    def _end(self, was_empty: bool) -> None:
        self._progress.stop()
        self._cancel_timer()
        discarded = self._connections.bytes_discarded - self._discarded_before
        if discarded:
            _log.warn(
                "drained; {discarded} bytes arrived after the deadline and were not returned",
                discarded=discarded,
            )
        elif not was_empty:
            _log.info("drained")
        self._over.callback(None)

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._clock.callLater(seconds, call)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
