"""Several processes on one port: the parent, which opens the sockets and supervises.

The parent opens the listening sockets and never accepts. Each worker
(:mod:`echoproto.workers.worker`) inherits one for each endpoint. A TCP port has one
socket for each worker, joined by ``SO_REUSEPORT``, among which the kernel
spreads the clients evenly; sharing one socket, the worker that wakes up first
takes most. Since the parent keeps the sockets open too, clients who wait in the
accept queue of a worker that dies are served by the one that replaces it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IListeningPort,
    IProcessProtocol,
    IReactorProcess,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from echoproto.core.factory import LogDetail
from echoproto.drain.drain import Delay, Progress, watch_signals
from echoproto.limits.per_source import Limits
from echoproto.net.ports import close_now, listen_now, share_socket
from echoproto.net.string_endpoint import StringEndpoint
from echoproto.net.tcp_endpoint import TCPEndpoint
from echoproto.proxy_protocol.parser import ProxyHeaders
from echoproto.workers.channel import (
    FIRST_SOCKET,
    FROM_WORKER,
    TO_WORKER,
    Handler,
    Messages,
    encode,
)
from echoproto.workers.shared_limits import LimitCoordinator

_log = Logger(namespace="echoproto")

# Seconds that a worker gets beyond its own drain before it is killed.
_GRACE = 5.0


def available() -> bool:
    """Tell whether this platform can serve one port from several processes."""
    return os.name == "posix" and hasattr(socket, "SO_REUSEPORT")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkersService(Service):
    """Serves the echo on any number of endpoints from several processes.

    Twisted's process monitor starts a worker anew when it dies: at once, or,
    if it lived for less than a second, after a delay that doubles each time.

    :ivar count: how many workers there should be.
    :ivar pids: the process of each worker that runs, by its name, as ``worker 1``.
    :ivar draining: as for :class:`echoproto.EchoService`.
    """

    def __init__(
        self,
        endpoints: IStreamServerEndpoint | Sequence[IStreamServerEndpoint],
        count: int,
        log: LogDetail = LogDetail.LISTENING,
        proxy_headers: ProxyHeaders | None = None,
        drain_timeout: float = 10.0,
        fast_lane: bool = True,
        reactor: Any = None,
        reports: bool = False,
        limits: Limits | None = None,
        drain_delay: float = 0.0,
    ) -> None:
        """Describe a service; it listens when it is started.

        :param endpoints: where to listen. The bytes are echoed as they come
            from the socket: an endpoint that adds a layer, as TLS, does not fit.
        :param count: how many workers; at least 1.
        :param log: how much a worker logs of its connections.
        :param proxy_headers: see :class:`echoproto.EchoFactory`.
        :param drain_timeout: seconds that running connections get to finish
            when the service stops; 0 aborts them at once.
        :param fast_lane: see :class:`echoproto.EchoService`.
        :param reactor: an ``IReactorProcess``; the global one if none is given.
        :param reports: let workers measure how late their event loops are, and
            send a ``report`` as they end; see :meth:`on`.
        :param limits: what all workers give at the most, together; there are none
            if none is given.
        :param drain_delay: see :class:`echoproto.EchoService`.
        """
        if IStreamServerEndpoint.providedBy(endpoints):
            endpoints = [endpoints]
        self._endpoints: Sequence[IStreamServerEndpoint] = endpoints
        self.count = count
        self.pids: dict[str, int] = {}
        limits = limits or Limits()
        self._arbiter = LimitCoordinator(limits, self.tell)
        self._settings = {
            "log": log.value,
            "proxy_headers": proxy_headers and proxy_headers.settings(),
            "limits": dataclasses.asdict(limits),
            "drain_timeout": drain_timeout,
            "drain_delay": drain_delay,
            "fast_lane": fast_lane,
            "reports": reports,
        }
        self._reactor = reactor
        self._drain_timeout = drain_timeout
        self._drain_delay = drain_delay
        # For each endpoint its sockets: one for each worker, or one for all.
        self._ports: list[list[IListeningPort]] = []
        self._monitor: Any = None
        self._handlers: dict[str, Handler] = {
            "log": self._relay,
            "ready": self._worker_ready,
            "carried": self._worker_carried,
        }
        self._ready: set[str] = set()
        self._waiting_for_ready: list[Deferred[None]] = []
        # For each worker its connections, and the bytes returned; and those by
        # workers that have ended.
        self._live: dict[str, int] = {}
        self._echoed: dict[str, int] = {}
        self._echoed_by_ended = 0
        self.draining = False
        self._delay: Delay | None = None
        self._progress: Progress | None = None
        self._all_ended: Deferred[None] | None = None
        self._shutdown_trigger: Any = None
        self._end_watch: Callable[[], None] | None = None

    def privilegedStartService(self) -> None:
        """Listen, while the process still has the right to take any port.

        :raises Exception: what an endpoint's ``listen`` failed with; then no
            port is left open.
        """
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """Start the workers, as the user that the process is now."""
        if not self._ports:
            self._listen()
        super().startService()
        # This module installs a reactor when it is imported.
        from twisted.runner.procmon import ProcessMonitor

        self._monitor = ProcessMonitor(self._spawner())
        self._monitor.killTime = self._drain_timeout + _GRACE
        # What it lives for less than a second counts as an instant death.
        self._monitor.minRestartDelay = 0.1
        self._monitor.maxRestartDelay = 30
        for number in range(self.count):
            self._monitor.addProcess(f"worker {number + 1}", self._command(), env=os.environ)
        self._monitor.startService()
        self._shutdown_trigger = self._reactor.addSystemEventTrigger(
            "before", "shutdown", self._watch_signals
        )

    @property
    def live(self) -> int:
        """How many connections there were when the workers last told, at most a second ago."""
        return sum(self._live.values())

    @property
    def bytes_echoed(self) -> int:
        """Bytes returned in all, as far as the workers have told."""
        return self._echoed_by_ended + sum(self._echoed.values())

    def when_ready(self) -> Deferred[None]:
        """Return a Deferred that fires once every worker listens."""
        if len(self._ready) == self.count:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting_for_ready.append(waiting)
        return waiting

    def stopService(self) -> Deferred[None]:
        """Close the ports, after ``drain_delay``, and let the workers drain.

        :returns: a Deferred that fires when all have ended.
        """
        super().stopService()
        self.draining = True
        self._progress = Progress(self._reactor, lambda: self.live, lambda: self.bytes_echoed)
        delay = self._drain_delay if self.pids else 0
        self._delay = Delay(self._reactor, delay, self._progress)
        over = self._delay.start().addCallback(lambda _: self._close_ports())
        return over.addCallback(self._stop_workers).addCallback(self._stopped)

    def _close_ports(self) -> Deferred[Any]:
        # Before the workers': as long as one is open, its queue takes clients.
        ports = self.ports
        self._ports = []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])

    def cut(self) -> None:
        """Abort what is left of a drain, its delay included."""
        for name in self._monitor.protocols:
            self.tell(name, "cut")
        if self._delay is not None:
            self._delay.cut()

    def tell(self, name: str, kind: str, **members: Any) -> None:
        """Send a message to a worker.

        :param name: the worker's.
        :param kind: what the message is about.
        :param members: what it says.
        """
        protocol = self._monitor.protocols.get(name)
        if protocol is not None:
            protocol.transport.write(encode(kind, **members))

    def on(self, kind: str, handler: Handler) -> None:
        """Name who handles what workers say of a kind; to be called before the start.

        :param kind: of the message.
        :param handler: called with the worker's name, and the message's
            members as named arguments.
        """
        self._handlers[kind] = handler

    @property
    def ports(self) -> list[IListeningPort]:
        """The sockets that are open, all those of an endpoint in turn."""
        return [port for each in self._ports for port in each]

    def _listen(self) -> None:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        try:
            for endpoint in self._endpoints:
                ports = self._open(endpoint)
                self._ports.append(ports)
                for port in ports:
                    share_socket(port)
        except BaseException:
            for ports in self._ports:
                for port in ports:
                    close_now(port)
            self._ports = []
            raise

    def _open(self, endpoint: IStreamServerEndpoint) -> list[IListeningPort]:
        factory = ServerFactory()
        factory.noisy = False
        if isinstance(endpoint, (TCPEndpoint, StringEndpoint)):
            return endpoint.listen_many(factory, self.count)
        return [listen_now(endpoint, factory)]

    def _command(self) -> list[str]:
        sockets = [
            {
                "backlog": getattr(endpoint, "backlog", None),
                "description": getattr(endpoint, "wrapper", None),
            }
            for endpoint in self._endpoints
        ]
        settings = {
            **self._settings,
            "sockets": sockets,
            "reactor": type(self._reactor).__module__,
        }
        return [sys.executable, "-m", "echoproto.workers.worker", json.dumps(settings)]

    def _spawner(self) -> Any:
        """Return a reactor for the monitor, whose processes inherit the sockets."""
        service = self

        class Spawner:
            def __getattr__(self, name: str) -> Any:
                return getattr(service._reactor, name)

            def spawnProcess(  # noqa: N802
                self, protocol: IProcessProtocol, *args: Any, **named: Any
            ) -> Any:
                return service._spawn(protocol, *args, **named)

        spawner = Spawner()
        directlyProvides(spawner, IReactorProcess, IReactorTime)
        return spawner

    def _spawn(self, protocol: Any, *args: Any, **named: Any) -> Any:
        name: str = protocol.name
        index = int(name.split()[1]) - 1
        sockets = {
            FIRST_SOCKET + n: ports[index % len(ports)].fileno()  # type: ignore[attr-defined]
            for n, ports in enumerate(self._ports)
        }
        tell_monitor = protocol.processEnded

        def ended(reason: Failure) -> None:
            tell_monitor(reason)
            self._worker_ended(name, reason)

        messages = Messages()
        for kind, handler in self._handlers.items():
            messages.on(kind, functools.partial(handler, name))
        self._arbiter.listen_to(name, messages)
        relay_output = protocol.childDataReceived

        def received(descriptor: int, data: bytes) -> None:
            if descriptor == FROM_WORKER:
                messages.receive(data)
            else:
                relay_output(descriptor, data)

        protocol.processEnded = ended
        protocol.childDataReceived = received
        streams = {TO_WORKER: "w", 1: "r", 2: "r", FROM_WORKER: "r"}
        with _sigterm_held_back():
            process = self._reactor.spawnProcess(
                protocol, *args, childFDs={**streams, **sockets}, **named
            )
        self.pids[name] = process.pid
        _log.info("{name} started, pid {pid}", name=name, pid=process.pid)
        return process

    @staticmethod
    def _relay(worker: str, level: str, system: str, text: str, fields: dict[str, Any]) -> None:
        """Log what a worker has logged, as from where it did."""
        event = {**fields, "worker": worker, "text": text}
        # What emit() calls its own arguments.
        for taken in ("self", "level", "format"):
            event.pop(taken, None)
        Logger(namespace=system).emit(LogLevel.lookupByName(level), "[{worker}] {text}", **event)

    def _worker_ready(self, name: str) -> None:
        self._ready.add(name)
        if len(self._ready) == self.count:
            waiting, self._waiting_for_ready = self._waiting_for_ready, []
            for each in waiting:
                each.callback(None)

    def _worker_carried(self, name: str, live: int, echoed: int) -> None:
        self._live[name], self._echoed[name] = live, echoed

    def _worker_ended(self, name: str, reason: Failure) -> None:
        self.pids.pop(name, None)
        self._ready.discard(name)
        self._live.pop(name, None)
        self._echoed_by_ended += self._echoed.pop(name, 0)
        self._arbiter.forget(name)
        restart = self._monitor.restart.get(name)
        if restart is not None and restart.active():
            _log.warn(
                "{name} ended ({why}); a new one starts in {delay:.1f} s",
                name=name,
                why=_why(reason),
                delay=max(0.0, restart.getTime() - self._reactor.seconds()),
            )
        if self._all_ended is not None and not self.pids:
            self._all_ended.callback(None)

    def _stop_workers(self, _: object) -> Deferred[None]:
        self._all_ended = Deferred()
        if not self.pids:
            self._all_ended.callback(None)
        elif self._progress is not None and self._drain_timeout > 0:
            self._progress.drain(self._drain_timeout)
        for name in tuple(self.pids):
            # One that was told to stop by somebody else may be in its own delay.
            self.tell(name, "close")
        if self._monitor is not None:
            self._monitor.stopService()
        return self._all_ended

    def _stopped(self, _: object) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._delay = None
        self.draining = False
        self._monitor = None
        self._all_ended = None
        if self._end_watch is not None:
            self._end_watch()
            self._end_watch = None
        elif self._shutdown_trigger is not None:
            self._reactor.removeSystemEventTrigger(self._shutdown_trigger)
        self._shutdown_trigger = None

    def _watch_signals(self) -> None:
        self._end_watch = watch_signals(self._reactor, self.cut)


@contextlib.contextmanager
def _sigterm_held_back() -> Iterator[None]:
    """Let a process that is started meanwhile take no SIGTERM before it can drain.

    It inherits the mask, and lifts it when it has a handler (``signal(7)``). One that
    comes earlier waits, where it would end the process, and reset who waits in its queue.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _why(reason: Failure) -> str:
    """Say how a process ended: ``ProcessDone`` and ``ProcessTerminated`` tell it at length."""
    signum = getattr(reason.value, "signal", None)
    if signum is not None:
        return f"killed by signal {signum}"
    return f"exit code {getattr(reason.value, 'exitCode', 'unknown')}"
