"""How all workers stop together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from echoproto.drain.progress import DrainDelay, Progress
from echoproto.workers.settings import WorkerSettings


class Workers(Protocol):
    """What is asked of the workers."""

    @property
    def live(self) -> int:
        """How many connections are open."""

    @property
    def bytes_echoed(self) -> int:
        """Bytes returned in total."""

    @property
    def pids(self) -> Mapping[str, int]:
        """The process of each running worker."""

    def stop_workers(self) -> Deferred[None]:
        """Let the workers drain and end; the Deferred fires when all have."""

    def abort_workers(self) -> None:
        """Let the workers abort their connections."""


class WorkersDrain:
    """Stops the workers: each drains its own connections, and the parent logs how far all are."""

    def __init__(self, workers: Workers, clock: Any, settings: WorkerSettings) -> None:
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
