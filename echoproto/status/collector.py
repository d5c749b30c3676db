"""Gathers a snapshot: of this process, or of its workers, which are asked.

A worker that does not answer in time is told as such, with what it said last.
What one that is gone had counted stays in the totals: what it said last when it
was asked, and what it says as it ends in order. Only what a killed one had
counted since it was last asked is lost with it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from echoproto.core.service import EchoService
from echoproto.status.kernel import read_drops
from echoproto.status.lag import LoopLag
from echoproto.status.report import Report, total
from echoproto.status.snapshot import Process, Snapshot, read_listeners
from echoproto.workers.parent import WorkersService

# Seconds that workers get to answer. Who asks whether we live waits a second,
# as a rule (Kubernetes, HAProxy).
ANSWER_TIMEOUT = 0.75


class Collector(ABC):
    """Gathers what a service has to tell. For the two kinds there are subclasses."""

    def __init__(
        self,
        service: EchoService | WorkersService,
        reactor: Any,
        settings: Mapping[str, str],
        max_live: int = 0,
    ) -> None:
        """Describe a collector; it measures from :meth:`start` on.

        :param service: what to tell of.
        :param reactor: whose lag, and whose time.
        :param settings: the options, as text.
        :param max_live: how many connections there may be at once.
        """
        self._service = service
        self._reactor = reactor
        self._settings = settings
        self._max_live = max_live
        self._lag = LoopLag(reactor)

    def start(self) -> None:
        """Count from now on what the kernel drops, and measure the lag."""
        self._lag.start()
        self._drops = read_drops()
        self._started = time.time()
        self._started_monotonic = time.monotonic()

    def stop(self) -> None:
        """Measure no more."""
        self._lag.stop()

    @abstractmethod
    def collect(self, sources: bool = False) -> Deferred[Snapshot]:
        """Return what there is to tell now.

        :param sources: whether to count the sources too, which takes a moment
            where there are many connections.
        """

    def _snapshot(self, processes: list[Process], whole: Report, workers: bool) -> Snapshot:
        service = self._service
        drops = read_drops()
        listeners = read_listeners(service.ports)
        return Snapshot(
            started=self._started,
            uptime=time.monotonic() - self._started_monotonic,
            listening=bool(listeners),
            # A service that stops at once has no time in which it is said to drain.
            draining=getattr(service, "draining", False) or not service.running,
            total=whole,
            processes=tuple(processes),
            workers=workers,
            listeners=listeners,
            drops=drops - self._drops if drops and self._drops else None,
            lag=self._lag.last,
            max_lag=self._lag.most,
            settings=self._settings,
            max_live=self._max_live,
        )


class ProcessCollector(Collector):
    """Tells of the one process there is."""

    _service: EchoService

    def collect(self, sources: bool = False) -> Deferred[Snapshot]:
        """Return what there is to tell now; it is there at once."""
        report = Report.of(self._service.factory, self._lag, sources)
        process = Process("echo", report.pid, True, report)
        return succeed(self._snapshot([process], report, workers=False))


class WorkersCollector(Collector):
    """Asks the workers."""

    _service: WorkersService

    def __init__(self, *args: Any, **named: Any) -> None:
        """Describe a collector; see :class:`Collector`."""
        super().__init__(*args, **named)
        # What each worker said last, and the sum of what those did that are gone.
        self._last: dict[str, Report] = {}
        self._gone = Report()
        # The processes that were asked and have not answered yet.
        self._asked: set[int] = set()
        # Those of them whose answer those who wait now wait for.
        self._awaited: set[int] = set()
        self._asking = False
        self._with_sources = False
        self._waiting: list[Deferred[Snapshot]] = []
        self._end_of_patience: IDelayedCall | None = None
        self._service.on("report", self._answered)

    def start(self) -> None:
        """Measure, and ask from now on."""
        super().start()
        self._asking = True

    def stop(self) -> None:
        """Ask no more; who waits is told what is known."""
        super().stop()
        self._asking = False
        if self._end_of_patience is not None:
            self._tell()

    def collect(self, sources: bool = False) -> Deferred[Snapshot]:
        """Ask all workers; those who ask the same meanwhile get the same answer."""
        if not self._asking:
            return succeed(self._told())
        waiting: Deferred[Snapshot] = Deferred()
        self._waiting.append(waiting)
        if self._end_of_patience is None:
            self._ask(sources)
        elif sources and not self._with_sources:
            return waiting.addCallback(lambda _: self.collect(sources=True))
        return waiting

    def _ask(self, sources: bool) -> None:
        pids = self._service.pids
        # One that owes an answer would read the question only with the first.
        silent = self._asked.intersection(pids.values())
        self._awaited = set(pids.values()) - silent
        self._asked = silent | self._awaited
        self._with_sources = sources
        self._end_of_patience = self._reactor.callLater(
            ANSWER_TIMEOUT if self._awaited else 0, self._tell
        )
        for name, pid in pids.items():
            if pid in self._awaited:
                self._service.tell(name, "report", sources=sources)

    def _answered(self, name: str, **members: Any) -> None:
        report = Report(**members)
        last = self._last.get(name)
        if last is not None and last.pid != report.pid:
            self._gone = total([self._gone, last.over()])
        self._last[name] = report
        self._asked.discard(report.pid)
        if self._end_of_patience is not None:
            self._awaited.discard(report.pid)
            if not self._awaited:
                self._tell()

    def _tell(self) -> None:
        if self._end_of_patience is not None and self._end_of_patience.active():
            self._end_of_patience.cancel()
        self._end_of_patience = None
        waiting, self._waiting = self._waiting, []
        snapshot = self._told()
        for each in waiting:
            each.callback(snapshot)

    def _told(self) -> Snapshot:
        pids = self._service.pids
        processes = []
        reports = [self._gone]
        for number in range(self._service.count):
            name = f"worker {number + 1}"
            pid = pids.get(name, 0)
            last = self._last.get(name, Report())
            if last.pid == pid:
                answering = pid != 0 and pid not in self._asked
                processes.append(Process(name, pid, answering, last))
                reports.append(last)
            else:
                # The process that replaced the last one has yet to say something.
                processes.append(Process(name, pid, False, Report()))
                reports.append(last.over())
        return self._snapshot(processes, total(reports), workers=True)
