"""The state of a server at one moment, in one process or several."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twisted.internet.interfaces import IListeningPort

from echoproto.base.address import format_address
from echoproto.core.stats import DURATION_BOUNDS
from echoproto.net.listen_queue import accept_queue
from echoproto.status.health import Health
from echoproto.status.kernel import ListenDrops
from echoproto.status.report import Report

# As many sources as a screen shows.
_SHOWN_SOURCES = 10


@dataclass(frozen=True)
class Listener:
    """A listening socket and its accept queue.

    :ivar address: where it listens.
    :ivar socket: its number, from 1, among those that share the address.
    :ivar queued: connections that wait to be accepted; ``None`` where that
        cannot be read (outside Linux, and for a UNIX socket).
    :ivar limit: how many may wait; see :class:`echoproto.net.listen_queue.AcceptQueue`.
    """

    address: str
    socket: int
    queued: int | None
    limit: int | None


@dataclass(frozen=True)
class Process:
    """A process that serves connections.

    :ivar name: which one.
    :ivar pid: its number; 0 for a worker that waits to be started again.
    :ivar answering: whether its last report is recent.
    :ivar report: its last report.
    """

    name: str
    pid: int
    answering: bool
    report: Report


@dataclass(frozen=True)
class Build:
    """Versions."""

    version: str = importlib.metadata.version("echoproto")
    twisted: str = importlib.metadata.version("Twisted")
    python: str = platform.python_version()


@dataclass(frozen=True)
class Snapshot:
    """The state of a server at one moment.

    :ivar started: when the service began to listen, in seconds since 1970.
    :ivar uptime: seconds since then, by a clock that never jumps.
    :ivar health: whether it serves.
    :ivar total: all processes together, ended ones included.
    :ivar processes: the ones that serve.
    :ivar workers: whether these are workers rather than this process.
    :ivar listeners: the open ports.
    :ivar drops: what the kernel dropped since the start; ``None`` outside Linux.
    :ivar lag: delay of this process's event loop when last measured, in seconds.
    :ivar max_lag: the maximum of the last minute.
    :ivar settings: the options, as text.
    :ivar max_live: how many connections there may be at once; 0 for any number.
    """

    started: float
    uptime: float
    health: Health
    total: Report
    processes: tuple[Process, ...]
    workers: bool
    listeners: tuple[Listener, ...]
    drops: ListenDrops | None
    lag: float
    max_lag: float
    settings: Mapping[str, str]
    max_live: int
    build: Build = Build()

    def as_json(self) -> dict[str, Any]:
        """Return it for the page, which shows the busiest sources only."""
        members = dict(vars(self))
        health: Health = members.pop("health")
        busiest = sorted(self.total.sources.items(), key=lambda each: (-each[1], each[0]))
        return {
            **members,
            "listening": health.listening,
            "draining": health.draining,
            "not_ready": health.not_ready,
            "total": {**_flat(self.total), "sources": busiest[:_SHOWN_SOURCES]},
            "processes": [_process_as_json(each) for each in self.processes],
            "listeners": [asdict(each) for each in self.listeners],
            "drops": None if self.drops is None else asdict(self.drops),
            "build": asdict(self.build),
            "settings": dict(self.settings),
            "duration_bounds": DURATION_BOUNDS,
        }


def _flat(report: Report) -> dict[str, Any]:
    """Return a report whose counters stand beside its other members."""
    members = report.as_dict()
    return {**members.pop("stats"), **members}


def _process_as_json(process: Process) -> dict[str, Any]:
    report = _flat(process.report)
    del report["sources"], report["durations"]
    return {**vars(process), "report": report}


def read_listeners(ports: Iterable[IListeningPort]) -> tuple[Listener, ...]:
    """Read the accept queues of open ports.

    :param ports: several may share an address (``SO_REUSEPORT``).
    """
    found: list[Listener] = []
    for port in ports:
        address = format_address(port.getHost())
        queue = accept_queue(port)
        found.append(
            Listener(
                address,
                1 + sum(each.address == address for each in found),
                None if queue is None else queue.queued,
                None if queue is None else queue.limit,
            )
        )
    return tuple(found)
