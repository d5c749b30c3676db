"""Gathers a snapshot: of this process, or of what its workers have reported.

Workers report each second. One whose last report is too old is shown as not
answering, with what it reported last. What a worker that has ended had counted stays in
the totals, so that they never go backwards; only what a killed one had counted
since its last report is lost.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IListeningPort

from echoproto.service import EchoService
from echoproto.status.health import Health
from echoproto.status.kernel import read_drops
from echoproto.status.lag import LoopLag
from echoproto.status.report import Report
from echoproto.status.snapshot import Process, Snapshot, read_listeners
from echoproto.status.sources import SourceCount


class Workers(Protocol):
    """What is asked of a service with workers."""

    running: int
    draining: bool

    @property
    def ports(self) -> Sequence[IListeningPort]:
        """The open ports."""

    def processes(self, sources: bool) -> list[Process]:
        """Return the workers; with their busiest sources from the next report on, if asked."""

    def total(self) -> Report:
        """Return all workers together, those included that have ended."""


class Collector(ABC):
    """Gathers what there is to show of a service."""

    def __init__(
        self,
        service: EchoService | Workers,
        reactor: Any,
        settings: Mapping[str, str],
        max_live: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe a collector; it measures from :meth:`start` on.

        :param service: the service.
        :param reactor: whose lag, and whose time.
        :param settings: the options, as text.
        :param max_live: how many connections there may be at once.
        :param clock: returns seconds that never jump.
        """
        self._reactor = reactor
        self._clock = clock
        self._running = service
        self._settings = settings
        self._max_live = max_live
        self._lag = LoopLag(reactor)

    def start(self) -> None:
        """Begin to measure the lag and to count what the kernel drops."""
        self._lag.start()
        self._drops = read_drops()
        self._started = time.time()
        self._started_monotonic = time.monotonic()

    def stop(self) -> None:
        """Stop measuring."""
        self._lag.stop()

    @abstractmethod
    def collect(self, sources: bool = False) -> Snapshot:
        """Return what there is to show now.

        :param sources: whether to tell the busiest sources too. They are counted again for
            the next time, where there are many connections.
        """

    @abstractmethod
    def health(self) -> Health:
        """Return whether the service serves: without a look at its connections."""

    def _health(self, answering: Sequence[bool]) -> Health:
        service = self._running
        return Health(
            listening=bool(service.ports),
            # A service that stops at once is never seen draining.
            draining=service.draining or not service.running,
            serving=len(answering),
            answering=sum(answering),
        )

    def _snapshot(self, processes: list[Process], whole: Report, workers: bool) -> Snapshot:
        drops = read_drops()
        return Snapshot(
            started=self._started,
            uptime=time.monotonic() - self._started_monotonic,
            health=self._health([each.answering for each in processes]),
            total=whole,
            processes=tuple(processes),
            workers=workers,
            listeners=read_listeners(self._running.ports),
            drops=drops - self._drops if drops and self._drops else None,
            lag=self._lag.last,
            max_lag=self._lag.most,
            settings=self._settings,
            max_live=self._max_live,
        )


class ProcessCollector(Collector):
    """Gathers what there is to show of a service in this process."""

    def __init__(self, service: EchoService, *args: Any, **named: Any) -> None:
        """Describe a collector; see :class:`Collector`."""
        super().__init__(service, *args, **named)
        self._factory = service.factory
        self._sources = SourceCount(service.factory, self._reactor, self._clock)

    def stop(self) -> None:
        """Stop measuring."""
        super().stop()
        self._sources.stop()

    def collect(self, sources: bool = False) -> Snapshot:
        """Return what there is to show now; sources are counted once a second at most."""
        if sources:
            self._sources.refresh()
        report = Report.of(self._factory, self._lag, self._sources.busiest if sources else {})
        process = Process("echo", report.pid, True, report)
        return self._snapshot([process], report, workers=False)

    def health(self) -> Health:
        """Return whether the service serves."""
        return self._health([True])


class WorkersCollector(Collector):
    """Gathers what there is to show of a service with workers."""

    def __init__(self, service: Workers, *args: Any, **named: Any) -> None:
        """Describe a collector; see :class:`Collector`."""
        super().__init__(service, *args, **named)
        self._workers = service

    def collect(self, sources: bool = False) -> Snapshot:
        """Return what there is to show now."""
        return self._snapshot(self._workers.processes(sources), self._workers.total(), workers=True)

    def health(self) -> Health:
        """Return whether the service serves."""
        return self._health([each.answering for each in self._workers.processes(False)])
