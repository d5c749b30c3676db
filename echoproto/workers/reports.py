"""What the workers have reported."""

from __future__ import annotations

from echoproto.status.report import Report, total
from echoproto.status.snapshot import Process

# Seconds between two reports of a worker.
REPORT_INTERVAL = 1.0
# Seconds after which a worker without a new report counts as not answering. A worker may
# be late by a batch of work, and the machine may be busy.
REPORT_TIMEOUT = 3.0


class WorkerReports:
    """Keeps the last report of each worker, and the sum of what ended ones had counted."""

    def __init__(self) -> None:
        self._last: dict[str, Report] = {}
        self._ended = Report()

    def received(self, name: str, report: Report) -> None:
        """Keep a report.

        :param name: the worker's.
        :param report: its newest.
        """
        self._last[name] = report

    def ended(self, name: str) -> None:
        """Add a worker that has ended to the sum; another may get its name."""
        last = self._last.pop(name, None)
        if last is not None:
            self._ended += last.ended()

    def total(self) -> Report:
        """Return all workers together, ended ones included."""
        return total([self._ended, *self._last.values()])

    def process(self, name: str, pid: int, answering: bool) -> Process:
        """Return a worker as the status shows it.

        :param name: the worker's.
        :param pid: of its process; 0 if it waits to be started again.
        :param answering: whether it has been heard of lately.
        """
        return Process(name, pid, answering, self._last.get(name, Report()))
