"""Several processes on one port: the parent, which opens the sockets and supervises.

The parent opens the listening sockets and never accepts. Each worker
(:mod:`echoproto.workers.worker`) inherits one for each endpoint. A TCP port has one
socket per worker, joined by ``SO_REUSEPORT``, among which the kernel spreads the clients
evenly; with one shared socket the worker that wakes up first takes most of them. Because
the parent keeps the sockets open too, clients in the accept queue of a worker that dies
are served by the one that replaces it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import fullyQualifiedName, namedAny

from echoproto.base.lifecycle import DrainingService, as_endpoints, close_now, close_port
from echoproto.base.waiters import Waiters
from echoproto.core.composition import connection_class
from echoproto.core.connection_log import LogDetail
from echoproto.core.protocol import Echo
from echoproto.drain.progress import DrainDelay, Progress
from echoproto.drain.signals import AbortAtSecondSignal
from echoproto.limits.limits import Limits
from echoproto.net.ports import listen_now, share_socket
from echoproto.net.string_endpoint import StringEndpoint
from echoproto.net.tcp_endpoint import TCPEndpoint
from echoproto.proxy_protocol.gate import ProxyHeaders
from echoproto.service import check_seconds
from echoproto.status.report import Report
from echoproto.status.snapshot import Process
from echoproto.workers.channel import FIRST_SOCKET
from echoproto.workers.log_relay import log_relayed
from echoproto.workers.process import Spawner, WorkerProcess, exit_reason, spawn
from echoproto.workers.reports import WorkerReports
from echoproto.workers.settings import InheritedSocket, WorkerSettings
from echoproto.workers.shared_limits import LimitCoordinator

_log = Logger(namespace="echoproto")

# Seconds that a worker gets beyond its own drain, which may take some, before it is killed.
_GRACE = 5.0


class WorkersService(DrainingService):
    """Serves the echo on any number of endpoints from several processes.

    Twisted's process monitor replaces a worker that dies: at once, or, if it lived
    for less than a second, after a delay that doubles each time.

    :ivar count: how many workers there should be.
    :ivar draining: as for :class:`echoproto.EchoService`.
    """

    def __init__(
        self,
        endpoints: IStreamServerEndpoint | Sequence[IStreamServerEndpoint],
        count: int,
        *,
        reactor: Any = None,
        protocol: type[Echo] = Echo,
        log: LogDetail | str = LogDetail.LISTENING,
        limits: Limits | None = None,
        proxy_headers: ProxyHeaders | None = None,
        drain_timeout: float = 10.0,
        drain_delay: float = 0.0,
        fast_lane: bool = True,
    ) -> None:
        """Describe a service; it listens when it is started.

        :param endpoints: where to listen: one stream server endpoint, or several. Workers
            inherit sockets; an endpoint that adds a layer, as TLS, has to be an
            :class:`echoproto.StringEndpoint`, which they can make again.
        :param count: how many workers, at least 1.
        :param reactor: an ``IReactorProcess``; the global one if none is given.
        :param protocol: see :class:`echoproto.EchoFactory`; a class that workers can import.
        :param log: how much a worker logs of its connections.
        :param limits: what all workers together give at most; unlimited if none are given.
        :param proxy_headers: see :class:`echoproto.EchoFactory`.
        :param drain_timeout: see :class:`echoproto.EchoService`.
        :param drain_delay: see there.
        :param fast_lane: see there.
        :raises TypeError: when the protocol cannot be composed, or not be imported.
        :raises ValueError: when the count is below 1, or an option is out of range.
        """
        super().__init__(reactor, [AbortAtSecondSignal(self.abort)])
        if count < 1:
            raise ValueError(f"count={count!r}; allowed: 1 or more")
        limits = limits or Limits()
        self.count = count
        self._endpoints = as_endpoints(endpoints)
        self._settings = WorkerSettings(
            reactor="",
            sockets=(),
            protocol=_importable(protocol),
            log=LogDetail(log).value,
            limits=dataclasses.asdict(limits),
            proxy_headers=proxy_headers.as_dict() if proxy_headers else None,
            drain_timeout=check_seconds("drain_timeout", drain_timeout),
            drain_delay=check_seconds("drain_delay", drain_delay),
            fast_lane=fast_lane,
        )
        self._coordinator = LimitCoordinator(limits)
        # For each endpoint its sockets: one for each worker, or one for all.
        self._ports: list[list[IListeningPort]] = []
        self._monitor: Any = None
        self._processes: dict[str, WorkerProcess] = {}
        self._ready_workers: set[str] = set()
        self._reports = WorkerReports()
        self._all_ended = Waiters()

    def startService(self) -> None:
        """Start the workers, as the user that the process is now."""
        super().startService()
        # This module installs a reactor when it is imported.
        from twisted.runner.procmon import ProcessMonitor

        self._monitor = ProcessMonitor(Spawner(self._reactor, self._spawn))
        self._monitor.killTime = self._settings.drain_timeout + _GRACE
        # A worker that lives for less than a second counts as one that failed at once.
        self._monitor.minRestartDelay = 0.1
        self._monitor.maxRestartDelay = 30
        for number in range(self.count):
            self._monitor.addProcess(_name(number), self._command(), env=os.environ)
        self._monitor.startService()

    @property
    def live(self) -> int:
        """How many connections were open at the workers' last reports."""
        return self._reports.total().live

    @property
    def bytes_echoed(self) -> int:
        """Bytes returned in total, as of the workers' last reports."""
        return self._reports.total().stats.bytes_echoed

    @property
    def ports(self) -> list[IListeningPort]:
        """The open sockets, those of an endpoint in sequence."""
        return [port for each in self._ports for port in each]

    @property
    def pids(self) -> dict[str, int]:
        """The process of each running worker, by its name, as ``worker 1``."""
        return {name: process.pid for name, process in self._processes.items()}

    def processes(self, sources: bool = False) -> list[Process]:
        """Return the workers as the status shows them.

        :param sources: whether their next reports are to count the sources.
        """
        if sources:
            self._send_all("sources")
        pids = self.pids
        names = [_name(number) for number in range(self.count)]
        return [self._reports.process(name, pids.get(name, 0), self._reactor) for name in names]

    def total(self) -> Report:
        """Return what all workers have reported, those included that have ended."""
        return self._reports.total()

    def _is_ready(self) -> bool:
        return len(self._ready_workers) == self.count

    def _is_listening(self) -> bool:
        return bool(self._ports)

    def _listen(self) -> None:
        try:
            for endpoint in self._endpoints:
                ports = self._open(endpoint)
                self._ports.append(ports)
                for port in ports:
                    share_socket(port)
        except BaseException:
            for port in self.ports:
                close_now(port)
            self._ports = []
            raise

    def _open(self, endpoint: IStreamServerEndpoint) -> list[IListeningPort]:
        factory = ServerFactory()
        factory.noisy = False
        if isinstance(endpoint, (TCPEndpoint, StringEndpoint)):
            return endpoint.listen_many(factory, self.count)
        port = listen_now(endpoint, factory)
        if getattr(port, "factory", factory) is not factory:
            close_now(port)
            raise TypeError(
                f"{endpoint} adds a layer, as TLS, that workers do not inherit with its socket; "
                "allowed: echoproto.StringEndpoint, which they make again"
            )
        return [port]

    def _close_ports(self) -> Deferred[Any]:
        # Before the workers': as long as one is open, its queue takes clients.
        ports = self.ports
        self._ports = []
        return gatherResults([close_port(port, self._reactor) for port in ports])

    def _make_drain(self) -> WorkersDrain:
        return WorkersDrain(self, self._reactor, self._settings)

    def stop_workers(self) -> Deferred[None]:
        """Let the workers drain and end; the Deferred fires when all have."""
        over = self._all_ended.wait()
        # A worker that something else told to stop may be in its own delay.
        self._send_all("close")
        if self._monitor is not None:
            self._monitor.stopService()
        self._check_ended()
        return over

    def abort_workers(self) -> None:
        """Let the workers abort their connections."""
        self._send_all("abort")

    def _stopped(self, outcome: Any) -> Any:
        self._monitor = None
        return super()._stopped(outcome)

    def _send_all(self, kind: str) -> None:
        for process in self._processes.values():
            process.channel.send(kind)

    def _command(self) -> list[str]:
        sockets = [
            InheritedSocket(
                backlog=getattr(endpoint, "backlog", None),
                wrapper=getattr(endpoint, "wrapper", None),
            )
            for endpoint in self._endpoints
        ]
        settings = dataclasses.replace(
            self._settings, sockets=sockets, reactor=type(self._reactor).__module__
        )
        return [sys.executable, "-m", "echoproto.workers.worker", settings.as_json()]

    def _spawn(self, monitored: Any, *args: Any, **named: Any) -> Any:
        """Start a worker for the monitor, with its sockets."""
        process = WorkerProcess(monitored.name, monitored, self._ended)
        handlers: dict[str, Callable[..., None]] = {
            "log": log_relayed,
            "ready": self._worker_ready,
            "report": self._worker_reported,
        }
        for kind, handler in handlers.items():
            process.channel.on(kind, functools.partial(handler, process.name))
        self._coordinator.connect(process.name, process.channel)
        index = int(process.name.split()[1]) - 1
        sockets = {
            FIRST_SOCKET + n: ports[index % len(ports)].fileno()  # type: ignore[attr-defined]
            for n, ports in enumerate(self._ports)
        }
        started = spawn(self._reactor, process, sockets, *args, **named)
        self._processes[process.name] = process
        _log.info("{name} started, pid {pid}", name=process.name, pid=process.pid)
        return started

    def _worker_ready(self, name: str) -> None:
        self._ready_workers.add(name)
        if self._is_ready():
            self._ready.release()

    def _worker_reported(self, name: str, **members: Any) -> None:
        self._reports.received(name, Report.from_dict(members), self._reactor.seconds())

    def _ended(self, process: WorkerProcess, reason: Failure) -> None:
        name = process.name
        self._processes.pop(name, None)
        self._ready_workers.discard(name)
        self._reports.ended(name)
        self._coordinator.forget(name)
        restart = self._monitor.restart.get(name)
        if restart is not None and restart.active():
            _log.warn(
                "{name} ended ({why}); a new one starts in {delay:.1f} s",
                name=name,
                why=exit_reason(reason),
                delay=max(0.0, restart.getTime() - self._reactor.seconds()),
            )
        self._check_ended()

    def _check_ended(self) -> None:
        if not self._processes:
            self._all_ended.release()


class WorkersDrain:
    """Stops the workers: each drains its own connections, and the parent logs how far all are."""

    def __init__(self, workers: WorkersService, clock: Any, settings: WorkerSettings) -> None:
        """Describe a drain; nothing happens yet.

        :param workers: the workers.
        :param clock: what counts the time.
        :param settings: with the drain's times.
        """
        self._workers = workers
        self._timeout = settings.drain_timeout
        self._progress = Progress(clock, lambda: workers.live, lambda: workers.bytes_echoed)
        delay = settings.drain_delay if workers.pids else 0.0
        self._delay = DrainDelay(clock, delay, self._progress)

    def run(self, close_ports: Callable[[], Deferred[Any]]) -> Deferred[None]:
        """Run it; the Deferred fires when all workers have ended."""
        over = self._delay.start().addCallback(lambda _: close_ports())
        return over.addCallback(self._stop).addBoth(self._end)

    def abort(self) -> None:
        """Abort what is left of it, its delay included."""
        self._workers.abort_workers()
        self._delay.skip()

    def skip_delay(self) -> None:
        """Close the ports now, if they are still open."""
        self._delay.skip()

    def _stop(self, _: object) -> Deferred[None]:
        if self._workers.pids and self._timeout > 0:
            self._progress.drain(self._timeout)
        return self._workers.stop_workers()

    def _end(self, outcome: Any) -> Any:
        self._progress.stop()
        return outcome


def _name(number: int) -> str:
    return f"worker {number + 1}"


def _importable(protocol: type[Echo]) -> str:
    """Return the name by which workers import a protocol.

    :raises TypeError: when it cannot be composed, or not be imported by that name.
    """
    connection_class(protocol)
    name: str = fullyQualifiedName(protocol)
    try:
        found = None if protocol.__module__ == "__main__" else namedAny(name)
    except Exception:
        found = None
    if found is not protocol:
        raise TypeError(
            f"protocol={name} cannot be imported by workers; allowed: a class at the top of a "
            "module that is not the program itself"
        )
    return name
