"""Several processes on one port: the service, whose process is the workers' parent.

The parent opens the listening sockets and never accepts. The workers
(:mod:`echoproto.workers.worker`) inherit them. A TCP port has one socket per worker,
joined by ``SO_REUSEPORT``, among which the kernel spreads the clients evenly; with one
shared socket the worker that wakes up first takes most of them. Clients in the accept
queue of a worker that is dead or hangs are served by the others, or by the one that
replaces it, since the parent and all workers keep the sockets open.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.python.reflect import fullyQualifiedName, namedAny

from echoproto.base.lifecycle import DrainingService, as_endpoints, close_now, close_port
from echoproto.core.composition import connection_class
from echoproto.core.connection_log import LogDetail
from echoproto.core.protocol import Echo
from echoproto.drain.signals import AbortAtSecondSignal
from echoproto.limits.limits import Limits
from echoproto.net.connection_options import ConnectionOptions, check_keepalive
from echoproto.net.extensions import Certificates
from echoproto.net.ports import listen_now, share_socket
from echoproto.net.string_endpoint import StringEndpoint
from echoproto.net.tcp_endpoint import TCPEndpoint
from echoproto.net.tls_settings import NO_DEMANDS
from echoproto.proxy_protocol.gate import ProxyHeaders
from echoproto.service import KEEPALIVE, check_seconds
from echoproto.status.report import Report
from echoproto.status.snapshot import Process
from echoproto.workers.channel import FIRST_SOCKET
from echoproto.workers.drain import WorkersDrain
from echoproto.workers.launch import worker_command
from echoproto.workers.log_relay import log_relayed
from echoproto.workers.process import WorkerProcess
from echoproto.workers.reports import WorkerReports
from echoproto.workers.settings import InheritedSocket, WorkerSettings
from echoproto.workers.shared_limits import LimitCoordinator
from echoproto.workers.supervisor import Supervisor, check_worker_timeout

# Seconds that a worker gets beyond its own drain, which may take some, before it is killed.
_GRACE = 5.0


class WorkersService(DrainingService):
    """Serves the echo on any number of endpoints from several processes.

    A worker that dies is replaced: at once, or, if it served for less than a second,
    after a delay that doubles each time, up to 30 s. One that hangs is killed after
    ``worker_timeout``, and replaced. Meanwhile the other workers serve its new clients.

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
        worker_timeout: float = 30.0,
        keepalive: float = KEEPALIVE,
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
        :param worker_timeout: seconds without a report after which a worker is killed, at
            least 5; 0 for never. Workers report each second.
        :param keepalive: see there.
        :raises TypeError: when the protocol cannot be composed, or not be imported.
        :raises ValueError: when the count is below 1, or an option is out of range.
        """
        super().__init__(reactor, [AbortAtSecondSignal(self.abort)])
        limits = limits or Limits()
        self._names = _names(count)
        self.count, self._endpoints = count, as_endpoints(endpoints)
        self._certificates = Certificates(endpoints)
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
            keepalive=check_keepalive(keepalive),
        )
        self._coordinator = LimitCoordinator(limits)
        # For each endpoint its sockets: one for each worker, or one for all.
        self._ports: list[list[IListeningPort]] = []
        self._reports = WorkerReports()
        check_worker_timeout(worker_timeout)
        self._supervisor = Supervisor(self._names, self, drain_timeout + _GRACE, worker_timeout)

    def startService(self) -> None:
        """Start the workers, as the user that the process is now."""
        super().startService()
        settings, inherited = self._describe()
        commands = {
            name: worker_command(dataclasses.replace(settings, number=number))
            for number, name in enumerate(self._names)
        }
        self._supervisor.start(self._reactor, commands, inherited)

    def when_start_failed(self) -> Deferred[None]:
        """Return a Deferred that fires when each worker has failed to start.

        It fires only if no worker has ever become ready. :attr:`start_failure` is set
        then. Starts are tried again until the service is stopped.
        """
        return self._supervisor.when_start_failed()

    @property
    def start_failure(self) -> str | None:
        """In one line, why no worker could start; ``None`` as long as one has, or may."""
        return self._supervisor.start_failure

    def reload(self) -> None:
        """Let the workers load the certificates again; see :class:`DrainingService`.

        What this process cannot use is refused here, in one line for all workers.
        """
        self._supervisor.send("reload", only=self._certificates.check())

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
        return self._supervisor.pids

    def processes(self, sources: bool = False) -> list[Process]:
        """Return the workers as the status shows them.

        :param sources: whether their next reports are to count the sources.
        """
        if sources:
            self._supervisor.send("sources")
        pids = self.pids
        return [
            self._reports.process(name, pids.get(name, 0), self._supervisor.answers(name))
            for name in self._names
        ]

    def total(self) -> Report:
        """Return what all workers have reported, those included that have ended."""
        return self._reports.total()

    def _is_ready(self) -> bool:
        return self._supervisor.all_ready

    def _is_listening(self) -> bool:
        return bool(self._ports)

    def _listen(self) -> None:
        # Here already: clients may come before a worker runs.
        options = ConnectionOptions(self._settings.keepalive)
        try:
            for endpoint in self._endpoints:
                ports = self._open(endpoint)
                self._ports.append(ports)
                for port in ports:
                    share_socket(port)
                    options.apply_to_port(port)
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
        return self._supervisor.stop()

    def abort_workers(self) -> None:
        """Let the workers abort their connections."""
        self._supervisor.send("abort")

    def _describe(self) -> tuple[WorkerSettings, dict[int, int]]:
        """Return what workers are told, and for each of their descriptors the one here."""
        inherited: dict[int, int] = {}
        sockets: list[InheritedSocket] = []
        for endpoint, ports in zip(self._endpoints, self._ports, strict=True):
            first = FIRST_SOCKET + len(inherited)
            descriptors = range(first, first + len(ports))
            inherited |= {n: p.fileno() for n, p in zip(descriptors, ports, strict=True)}  # type: ignore[attr-defined]
            sockets.append(
                InheritedSocket(
                    backlog=getattr(endpoint, "backlog", None),
                    wrapper=getattr(endpoint, "wrapper", None),
                    descriptors=list(descriptors),
                    tls=getattr(endpoint, "tls", NO_DEMANDS),
                )
            )
        reactor = type(self._reactor).__module__
        return dataclasses.replace(self._settings, sockets=sockets, reactor=reactor), inherited

    def worker_starting(self, process: WorkerProcess) -> None:
        """Handle what a new process of a worker sends; the supervisor calls this."""
        process.channel.on("log", functools.partial(log_relayed, process.name))
        process.channel.on("report", functools.partial(self._worker_reported, process.name))
        self._coordinator.connect(process.name, process.channel)

    def worker_ready(self) -> None:
        """Handle a worker that serves now; the supervisor calls this."""
        if self._is_ready():
            self._ready.release()

    def _worker_reported(self, name: str, **members: Any) -> None:
        self._reports.received(name, Report.from_dict(members))

    def worker_ended(self, name: str) -> None:
        """Forget what a worker had that has ended; the supervisor calls this."""
        self._reports.ended(name)
        self._coordinator.forget(name)


def _names(count: int) -> list[str]:
    """Return the workers' names; raise ``ValueError`` without a worker."""
    if count < 1:
        raise ValueError(f"count={count!r}; allowed: 1 or more")
    return [f"worker {number + 1}" for number in range(count)]


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
