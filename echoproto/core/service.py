"""The service: it listens on endpoints, serves, and stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.base.lifecycle import (
    Drain,
    DrainingService,
    Extension,
    as_endpoints,
    close_now,
    close_port,
)
from echoproto.core.factory import EchoFactory
from echoproto.core.group import ConnectionGroup

_log = Logger(namespace="echoproto")


class ListeningService(DrainingService):
    """Serves a factory's connections on any number of endpoints, and can be started again.

    :ivar factory: makes and counts its connections.
    :ivar connections: its own, where other services share the factory.
    :ivar ports: the ports that it listens on now.
    """

    def __init__(
        self,
        endpoints: IStreamServerEndpoint | Sequence[IStreamServerEndpoint],
        factory: EchoFactory,
        make_drain: Callable[[ConnectionGroup, Any], Drain],
        *,
        reactor: Any = None,
        extensions: Sequence[Extension] = (),
    ) -> None:
        """Describe a service; it listens when it is started.

        :param endpoints: where to listen: one stream server endpoint, or several.
        :param factory: makes the connections.
        :param make_drain: called with the connections and the reactor for each stop.
        :param reactor: the one to run in; the global one if none is given.
        :param extensions: what options add.
        """
        super().__init__(reactor, extensions)
        self.factory = factory
        self.connections = ConnectionGroup(factory)
        self.ports: list[IListeningPort] = []
        self._endpoints = as_endpoints(endpoints)
        self._new_drain = make_drain
        self._listening: list[Deferred[Any]] = []
        self._announced: set[IListeningPort] = set()

    @property
    def live(self) -> int:
        """How many connections are open."""
        return self.connections.live

    def open(self, endpoint: IStreamServerEndpoint) -> Deferred[IListeningPort]:
        """Listen on one more endpoint; the Deferred fails as its ``listen`` does."""
        return maybeDeferred(endpoint.listen, self.connections).addCallback(self._opened, endpoint)

    def close(self, port: IListeningPort) -> Deferred[Any]:
        """Close one of the ports; its connections go on. The Deferred never fails."""
        self.ports.remove(port)
        self._tell("port_closing", port)
        closed = close_port(port, self._reactor)
        return closed.addCallback(lambda _: self._tell("port_closed", port))

    def stopService(self) -> Deferred[None]:
        """Stop; see :class:`DrainingService`."""
        self._call_off()
        return super().stopService()

    def _call_off(self) -> None:
        for listening in self._listening:
            listening.cancel()
        self._listening = []

    def _is_ready(self) -> bool:
        return bool(self.ports) and len(self._announced) == len(self._endpoints)

    def _is_listening(self) -> bool:
        return bool(self._listening)

    def _listen(self) -> None:
        self._announced.clear()
        starting = True
        failures: list[Failure] = []

        def failed(failure: Failure) -> None:
            if starting:
                failures.append(failure)
            elif not failure.check(CancelledError):
                _log.failure("cannot listen", failure)

        for endpoint in self._endpoints:
            # "Listening" promises all of the service: the handlers of signals too, which
            # the reactor sets only when it runs.
            listening = self.open(endpoint)
            listening.addCallback(partial(self._reactor.callWhenRunning, self._announce))
            self._listening.append(listening.addErrback(failed))
        starting = False
        if failures:
            self._call_off()
            for port in self.ports:
                close_now(port)
            self.ports = []
            failures[0].raiseException()

    def _opened(self, port: IListeningPort, endpoint: IStreamServerEndpoint) -> IListeningPort:
        self.ports.append(port)
        # Our own endpoint may have clamped what was asked; Twisted's pass it on.
        backlog = getattr(endpoint, "backlog", getattr(port, "backlog", None))
        self._tell("port_opened", port, backlog)
        return port

    def _announce(self, port: IListeningPort) -> None:
        if port in self.ports:
            self._tell("port_ready", port)
            self._announced.add(port)
            if self._is_ready():
                self._ready.release()

    def _close_ports(self) -> Deferred[Any]:
        return gatherResults([self.close(port) for port in tuple(self.ports)])

    def _make_drain(self) -> Drain:
        return self._new_drain(self.connections, self._reactor)

    def _stopped(self, outcome: Any) -> Any:
        self.factory.flush()
        return super()._stopped(outcome)
