"""A service that takes time to be ready and time to stop; options plug into it as extensions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorTime,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.base.waiters import Waiters

_log = Logger(namespace="echoproto")

# Seconds that a port gets to close, which takes one turn of the reactor.
CLOSE_TIMEOUT = 1.0


class Drain(Protocol):
    """How a service stops; see :mod:`echoproto.drain`."""

    def run(self, close_ports: Callable[[], Deferred[Any]]) -> Deferred[None]:
        """Close the ports, let the connections end, and fire when none is left."""

    def abort(self) -> None:
        """Abort what is left, now."""

    def skip_delay(self) -> None:
        """Close the ports now, if they are still open."""


class Extension:
    """What an option adds to a service. Each method may be left as it is."""

    def starting(self, reactor: Any) -> None:
        """Prepare: ports are about to be opened."""

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        """Handle a port that listens and has not accepted a client yet.

        :param port: what an endpoint's ``listen`` gave.
        :param backlog: the length of the accept queue that was asked for, in
            connections; ``None`` for a socket that another process has opened.
        """

    def port_ready(self, port: IListeningPort) -> None:
        """Handle a port whose clients are served from now on: the reactor runs."""

    def started(self) -> None:
        """Handle the start: all ports listen, or will once the reactor runs."""

    def port_closing(self, port: IListeningPort) -> None:
        """Handle a port that closes in the reactor's next turn."""

    def port_closed(self, port: IListeningPort) -> None:
        """Handle a port that is closed."""

    def stopped(self) -> None:
        """Release everything: the service has stopped, or its start has failed."""


def as_endpoints(
    endpoints: IStreamServerEndpoint | Sequence[IStreamServerEndpoint],
) -> Sequence[IStreamServerEndpoint]:
    """Return endpoints as a sequence, one or several."""
    return [endpoints] if IStreamServerEndpoint.providedBy(endpoints) else endpoints


def close_now(port: IListeningPort) -> None:
    """Close a port in this turn of the reactor: after a failed start there may be no other.

    :param port: what an endpoint's ``listen`` gave.
    """
    # Any: Twisted's ports are both, and no interface says so.
    open_port: Any = port
    if IReadDescriptor.providedBy(port):
        open_port.stopReading()
        open_port.connectionLost(Failure(ConnectionDone()))
    else:
        open_port.stopListening()


def close_port(port: IListeningPort, clock: IReactorTime) -> Deferred[Any]:
    """Close a port.

    :param port: what an endpoint's ``listen`` gave.
    :param clock: what counts the time.
    :returns: a Deferred that fires when it is closed, or after
        :data:`CLOSE_TIMEOUT` at the latest, and never fails.
    """
    closed = maybeDeferred(port.stopListening)
    closed.addTimeout(CLOSE_TIMEOUT, clock)
    return closed.addErrback(
        lambda failure: _log.error("a port did not close: {why!r}", why=failure.value)
    )


class DrainingService(Service, ABC):
    """A service that takes time to be ready, and time to stop.

    :ivar draining: whether it is stopping: from the moment it is told to, although
        it may still accept connections (``drain_delay``), until the last one ends.
    """

    def __init__(self, reactor: Any, extensions: Sequence[Extension] = ()) -> None:
        """Describe a service.

        :param reactor: the one to run in; the global one, at the start, if it is ``None``.
        :param extensions: what options add.
        """
        self.draining = False
        self._reactor = reactor
        self._extensions = extensions
        self._drain: Drain | None = None
        self._ready = Waiters()

    def when_ready(self) -> Deferred[None]:
        """Return a Deferred that fires once it listens everywhere and the reactor runs."""
        return succeed(None) if self._is_ready() else self._ready.wait()

    def privilegedStartService(self) -> None:
        """Listen, while the process still has the right to take any port.

        :raises Exception: what an endpoint's ``listen`` failed with, as a rule
            :class:`twisted.internet.error.CannotListenError`; then no port is left open.
        :raises RuntimeError: while it drains.
        """
        super().privilegedStartService()
        if self._drain is not None:
            raise RuntimeError("the service still drains: wait for what stopService returned")
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        self._tell("starting", self._reactor)
        try:
            self._listen()
        except BaseException:
            self._tell("stopped")
            raise

    def startService(self) -> None:
        """Listen, unless :meth:`privilegedStartService` did; raises what that raises."""
        if not self._is_listening():
            self.privilegedStartService()
        super().startService()
        self._tell("started")

    def stopService(self) -> Deferred[None]:
        """Stop accepting, after ``drain_delay``, and let the connections end.

        :returns: a Deferred that fires when no port and no connection is left. It
            does so after the drain's timeout and a few seconds at the latest.
        """
        super().stopService()
        self.draining = True
        self._drain = self._make_drain()
        return self._drain.run(self._close_ports).addBoth(self._stopped)

    def abort(self) -> None:
        """Abort what is left of a drain that has begun, its delay included."""
        if self._drain is not None:
            self._drain.abort()

    def skip_delay(self) -> None:
        """Close the ports now, if the service is stopping and still accepts connections."""
        if self._drain is not None:
            self._drain.skip_delay()

    def reload(self) -> None:
        """Read again what was read from files, for new connections, and log the outcome.

        Existing connections are unaffected. What cannot be used is refused in one log
        line, and the old material stays.
        """

    def _tell(self, event: str, *arguments: Any) -> None:
        for extension in self._extensions:
            getattr(extension, event)(*arguments)

    def _stopped(self, outcome: Any) -> Any:
        self._drain = None
        self.draining = False
        self._tell("stopped")
        return outcome

    @abstractmethod
    def _is_ready(self) -> bool:
        """Tell whether it listens everywhere and the reactor runs."""

    @abstractmethod
    def _is_listening(self) -> bool:
        """Tell whether it has begun to listen."""

    @abstractmethod
    def _listen(self) -> None:
        """Open the ports; if one cannot be had, leave none open and raise."""

    @abstractmethod
    def _close_ports(self) -> Deferred[Any]:
        """Close the ports; the Deferred fires when they are closed, and never fails."""

    @abstractmethod
    def _make_drain(self) -> Drain:
        """Return what stops it."""
