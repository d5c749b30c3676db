"""The service: it listens, serves, and drains."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IReadDescriptor, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.core import listen_queue
from echoproto.core.address import format_address
from echoproto.core.factory import EchoFactory
from echoproto.drain.drain import Delay, Drain, watch_signals
from echoproto.limits.idle import IdleSweep
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.ports import close_now
from echoproto.net.tls import let_half_close
from echoproto.net.transports import StockTransport

_log = Logger(namespace="echoproto")

# The most that are let in from a queue whose length is not known; Linux allows a
# queue no more than this unless told otherwise (``net.core.somaxconn``).
_MOST_WAITING = 4096


class EchoService(Service):
    """Serves the echo on any number of endpoints.

    It can be started, stopped, and started again.

    :ivar factory: its connections and totals.
    :ivar ports: the ports that it listens on now.
    :ivar draining: whether it is on its way to an end: from the moment when it is
        told to stop, although it may still take connections (``drain_delay``), to the
        end of the last connection.
    """

    def __init__(
        self,
        endpoints: IStreamServerEndpoint | Sequence[IStreamServerEndpoint],
        factory: EchoFactory | None = None,
        drain_timeout: float = 10.0,
        reactor: Any = None,
        fast_lane: bool = True,
        drain_delay: float = 0.0,
    ) -> None:
        """Describe a service; it listens when it is started.

        :param endpoints: where to listen: one stream server endpoint, or several.
        :param factory: makes the connections; a new :class:`EchoFactory` if none is given.
        :param drain_timeout: seconds that running connections get to finish
            when the service stops; 0 aborts them at once.
        :param reactor: whose time and shutdown count; the global one if none is given.
        :param fast_lane: serve in a :class:`echoproto.net.epoll_lane.EpollLane` below
            the reactor, where the platform has one. Without it a client that
            pushes tiny chunks and never reads can cost 2 MiB, not 256 KiB.
        :param drain_delay: seconds for which connections are still taken when the
            service stops; then the ports close, and ``drain_timeout`` begins. For
            load balancers, which take a while to learn of it.
        """
        if IStreamServerEndpoint.providedBy(endpoints):
            endpoints = [endpoints]
        self._endpoints: Sequence[IStreamServerEndpoint] = endpoints
        self.factory = EchoFactory() if factory is None else factory
        self._drain_timeout = drain_timeout
        self._drain_delay = drain_delay
        self._reactor = reactor
        self._fast_lane = fast_lane
        self._lane: EpollLane | None = None
        self.ports: list[IListeningPort] = []
        # The length of its accept queue that was asked for; None if somebody else did.
        self._backlogs: dict[IListeningPort, int | None] = {}
        self._listening: list[Deferred[Any]] = []
        self._shutdown_trigger: Any = None
        self._shutting_down = False
        self.draining = False
        self._announced: set[IListeningPort] = set()
        self._waiting_for_ready: list[Deferred[None]] = []
        self._delay: Delay | None = None
        self._drain: Drain | None = None
        self._idle_sweep: IdleSweep | None = None
        self._end_watch: Callable[[], None] | None = None

    def privilegedStartService(self) -> None:
        """Listen, while the process still has the right to take any port.

        :raises Exception: what an endpoint's ``listen`` failed with, as a rule
            :class:`twisted.internet.error.CannotListenError`; then no port is
            left open.
        :raises RuntimeError: while it still drains.
        """
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """Listen, unless :meth:`privilegedStartService` did; raises what that raises."""
        if not self._listening:
            self._listen()
        super().startService()
        if self.factory.limits.idle_timeout:
            self._idle_sweep = IdleSweep(
                self.factory, self._reactor, self.factory.limits.idle_timeout
            )
            self._idle_sweep.start()
        self._shutting_down = False
        self._shutdown_trigger = self._reactor.addSystemEventTrigger(
            "before", "shutdown", self._reactor_shuts_down
        )

    @property
    def live(self) -> int:
        """How many connections there are now."""
        return self.factory.live

    def when_ready(self) -> Deferred[None]:
        """Return a Deferred that fires once every endpoint listens and the reactor runs."""
        if self.ports and len(self._announced) == len(self._endpoints):
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting_for_ready.append(waiting)
        return waiting

    def stopService(self) -> Deferred[None]:
        """Close the ports, after ``drain_delay``, and let the connections finish.

        :returns: a Deferred that fires when no port and no connection is left.
        """
        super().stopService()
        self._call_off_listening()
        self.draining = True
        drain = Drain(self.factory, self._reactor, self._drain_timeout)
        delay = Delay(self._reactor, self._drain_delay if self.ports else 0, drain.progress)
        self._drain, self._delay = drain, delay
        if self._shutting_down:
            self._watch_signals()
        over = delay.start().addCallback(lambda _: self._close_ports())
        return over.addCallback(lambda _: drain.start()).addCallback(self._stopped)

    def cut(self) -> None:
        """Abort what is left of a drain that has begun, its delay included."""
        if self._drain is not None:
            self._drain.cut()
        self.skip_delay()

    def skip_delay(self) -> None:
        """Close the ports now, if the service still takes connections although it stops."""
        if self._delay is not None:
            self._delay.cut()

    def _close_ports(self) -> Deferred[Any]:
        closed = [self._close(port) for port in self.ports]
        self.ports = []
        return gatherResults(closed)

    def _close(self, port: IListeningPort) -> Deferred[Any]:
        if self._backlogs[port] is not None:
            self.factory.places.closing(port)
        # A port closes in the reactor's next turn. Those who wait to be
        # accepted then would be reset, so they are let in right before; at an
        # inherited socket only as far as there are places, since the others can
        # wait there for whoever takes it next.
        self._reactor.callLater(0, self._accept_waiting, port)
        closed = maybeDeferred(port.stopListening)
        return closed.addCallback(lambda _: self.factory.places.closing(port))

    def _accept_waiting(self, port: IListeningPort) -> None:
        if not IReadDescriptor.providedBy(port):
            return
        queue = listen_queue.accept_queue(port)
        if queue is None:
            _accept_from_unknown_queue(port)
            return
        # A port may accept only one at a time.
        for _ in range(queue.queued):
            port.doRead()
        # There may be no descriptor for them.
        left = listen_queue.accept_queue(port)
        if left is not None and left.queued and self._backlogs[port] is not None:
            _log.warn(
                "{address} closes while {left} clients still wait to be accepted",
                address=format_address(port.getHost()),
                left=left.queued,
            )

    def _listen(self) -> None:
        if self._drain is not None:
            raise RuntimeError(
                "the service still drains: start it again when the Deferred "
                "that stopService returned has fired"
            )
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        if self._fast_lane and EpollLane.available():
            self._lane = EpollLane(self._reactor)
        self._announced.clear()
        starting = True
        failures: list[Failure] = []

        def failed(failure: Failure) -> None:
            if starting:
                failures.append(failure)
            elif not failure.check(CancelledError):
                _log.failure("cannot listen", failure)

        for endpoint in self._endpoints:
            listening = maybeDeferred(endpoint.listen, self.factory)
            listening.addCallback(self._opened, endpoint)
            self._listening.append(listening.addErrback(failed))
        starting = False
        if failures:
            self._call_off_listening()
            for port in self.ports:
                close_now(port)
            self.ports = []
            self._close_lane()
            failures[0].raiseException()

    def _call_off_listening(self) -> None:
        for listening in self._listening:
            listening.cancel()
        self._listening = []

    def _opened(self, port: IListeningPort, endpoint: IStreamServerEndpoint) -> None:
        self.ports.append(port)
        # Our own endpoint may have clamped what was asked; Twisted's pass it on.
        self._backlogs[port] = getattr(endpoint, "backlog", getattr(port, "backlog", None))
        let_half_close(port)
        taken = self._lane is not None and self._lane.adopt(port)
        if not taken and type(port) is tcp.Port:
            # Where Twisted's documentation of a port says what it accepts with.
            port.transport = StockTransport
        self.factory.places.guard(port)
        # Who reads that it listens may count on all of it: on the handlers of
        # signals too, which the reactor sets only when it runs.
        self._reactor.callWhenRunning(self._announce, port)

    def _announce(self, port: IListeningPort) -> None:
        if port not in self.ports:
            return
        _log.info(
            "listening on {address}; {queue}",
            address=format_address(port.getHost()),
            queue=listen_queue.describe(
                self._backlogs[port], listen_queue.accept_queue(port), listen_queue.read_limits()
            ),
        )
        self._announced.add(port)
        if len(self._announced) == len(self._endpoints):
            waiting, self._waiting_for_ready = self._waiting_for_ready, []
            for each in waiting:
                each.callback(None)

    def _reactor_shuts_down(self) -> None:
        self._shutdown_trigger = None
        self._shutting_down = True
        if self._drain is not None:
            self._watch_signals()

    def _watch_signals(self) -> None:
        if self._end_watch is None:
            self._end_watch = watch_signals(self._reactor, self.cut)

    def _close_lane(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def _stopped(self, _: object) -> None:
        self._close_lane()
        if self._idle_sweep is not None:
            self._idle_sweep.stop()
            self._idle_sweep = None
        self.factory.flush()
        self._backlogs.clear()
        self._drain = self._delay = None
        self.draining = False
        if self._end_watch is not None:
            self._end_watch()
            self._end_watch = None
        if self._shutdown_trigger is not None:
            self._reactor.removeSystemEventTrigger(self._shutdown_trigger)
            self._shutdown_trigger = None


def _accept_from_unknown_queue(port: Any) -> None:
    """Accept those who wait at a UNIX socket, which tells only whether anybody does."""
    if not hasattr(select, "poll"):
        return
    waiting = select.poll()
    waiting.register(port.fileno(), select.POLLIN)
    # Who comes meanwhile, without an end, must not keep the port open.
    for _ in range(_MOST_WAITING):
        if not waiting.poll(0):
            return
        port.doRead()
