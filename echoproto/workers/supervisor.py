"""Keeps the worker processes running: starts, watches and replaces them.

Twisted's process monitor starts a worker again when it ends: at once if it had served
for a second, else after a delay that doubles each time. Three things are added to that.

- A worker counts as started when it says that it is ready, not when its process exists.
  One that never gets there is tried again less and less often, and the log has the reason
  in one line each time.
- A worker that sends no report for a few seconds hangs. It is logged, and killed after a
  while, so that it is replaced.
- As long as a worker does not serve, the others accept for it
  (:mod:`echoproto.workers.cover`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.base.bounds import LEAST_WORKER_TIMEOUT, MOST_SECONDS, check_number
from echoproto.base.waiters import Waiters
from echoproto.workers.process import Spawner, WorkerProcess, exit_reason, spawn
from echoproto.workers.reports import REPORT_INTERVAL, REPORT_TIMEOUT

# Seconds that a worker gets to become ready, if it may hang for less than that. A start
# takes half a second on a quiet machine, and many times that on a busy one.
START_TIMEOUT = 60.0

_MIN_RESTART_DELAY = 0.1
_MAX_RESTART_DELAY = 30.0

_log = Logger(namespace="echoproto")


def check_worker_timeout(seconds: float) -> None:
    """Check the time after which a worker that hangs is killed.

    :param seconds: how long; 0 for never.
    :raises ValueError: when it is out of bounds.
    """
    allowed = f"{LEAST_WORKER_TIMEOUT:g} seconds or more; 0 for never"
    check_number("worker_timeout", seconds, allowed, MOST_SECONDS, LEAST_WORKER_TIMEOUT)


class Listener(Protocol):
    """What hears of the workers."""

    def worker_starting(self, process: WorkerProcess) -> None:
        """Handle a process that is about to be started."""

    def worker_ready(self) -> None:
        """Handle a worker that serves now."""

    def worker_ended(self, name: str) -> None:
        """Handle the end of a worker's process."""


class Supervisor:
    """Starts, watches and replaces the workers of one service.

    :ivar start_failure: why no worker could start; ``None`` as long as one has, or may.
    """

    def __init__(
        self, names: Sequence[str], listener: Listener, kill_time: float, timeout: float
    ) -> None:
        """Describe the workers; :meth:`start` starts them.

        :param names: one for each worker.
        :param listener: hears of them.
        :param kill_time: seconds after which a worker that was told to stop is killed.
        :param timeout: seconds without a message after which a worker is killed; 0 for
            never.
        """
        self.start_failure: str | None = None
        self._names = names
        self._listener = listener
        self._kill_time = kill_time
        self._timeout = timeout
        self._reactor: Any = None
        self._monitor: Any = None
        self._sockets: Mapping[int, int] = {}
        self._stopping = False
        self._processes: dict[str, WorkerProcess] = {}
        self._hung: set[WorkerProcess] = set()
        self._failed: set[str] = set()
        self._any_started = False
        self._start_failed = Waiters()
        self._all_ended = Waiters()
        self._watch = LoopingCall(self._check)
        self._checked = 0.0

    def start(
        self, reactor: Any, commands: Mapping[str, list[str]], sockets: Mapping[int, int]
    ) -> None:
        """Start the workers, as the user that the process is now.

        :param reactor: an ``IReactorProcess`` and ``IReactorTime``.
        :param commands: the command line of each worker.
        :param sockets: for each descriptor of a worker, the descriptor here.
        """
        # This module installs a reactor when it is imported.
        from twisted.runner.procmon import ProcessMonitor

        self._reactor = reactor
        self._sockets = sockets
        self._stopping = False
        self._monitor = ProcessMonitor(Spawner(reactor, self._spawn))
        self._monitor.killTime = self._kill_time
        self._monitor.minRestartDelay = _MIN_RESTART_DELAY
        self._monitor.maxRestartDelay = _MAX_RESTART_DELAY
        for name, command in commands.items():
            self._monitor.addProcess(name, command, env=os.environ)
        self._monitor.startService()
        self._watch.clock = reactor
        self._checked = reactor.seconds()
        self._watch.start(REPORT_INTERVAL, now=False)

    def stop(self) -> Deferred[None]:
        """Let the workers drain and end; the Deferred fires when all have."""
        over = self._all_ended.wait()
        self._stopping = True
        # A worker that something else told to stop may be in its own delay.
        self.send("close")
        if self._monitor is not None:
            self._monitor.stopService()
        self._check_ended()
        return over

    def send(self, kind: str, **members: Any) -> None:
        """Send all workers a message; see :class:`echoproto.workers.channel.Channel`."""
        for process in self._processes.values():
            process.channel.send(kind, **members)

    @property
    def pids(self) -> dict[str, int]:
        """The process of each running worker, by its name."""
        return {name: process.pid for name, process in self._processes.items()}

    @property
    def all_ready(self) -> bool:
        """Whether all workers serve."""
        ready = sum(process.ready for process in self._processes.values())
        return ready == len(self._names)

    def answers(self, name: str) -> bool:
        """Return whether a worker serves, and has been heard of lately."""
        process = self._processes.get(name)
        return process is not None and process.ready and process.silent <= REPORT_TIMEOUT

    def when_start_failed(self) -> Deferred[None]:
        """Return a Deferred that fires when each worker has failed to start.

        It fires only if no worker has ever become ready; :attr:`start_failure` is set then.
        """
        return self._start_failed.wait()

    def _spawn(self, monitored: Any, *args: Any, **named: Any) -> Any:
        """Start a worker for the monitor."""
        name = monitored.name
        process = WorkerProcess(name, monitored, self._reactor, self._ended)
        process.channel.on("ready", lambda: self._ready(process))
        self._listener.worker_starting(process)
        # How long a worker has lived is counted from when it is ready.
        self._monitor.timeStarted[name] = float("inf")
        started = spawn(self._reactor, process, self._sockets, *args, **named)
        self._processes[name] = process
        if process.pid:
            _log.info("{name} started, pid {pid}", name=name, pid=process.pid)
        return started

    def _ready(self, process: WorkerProcess) -> None:
        process.started()
        self._monitor.timeStarted[process.name] = self._reactor.seconds()
        self._any_started = True
        self._cover()
        self._listener.worker_ready()

    def _ended(self, process: WorkerProcess, reason: Failure) -> None:
        name = process.name
        self._processes.pop(name, None)
        self._hung.discard(process)
        self._listener.worker_ended(name)
        why = exit_reason(reason)
        if not process.ready:
            why = process.start_failure or why
        self._log_end(process, why, clean=reason.check(ProcessDone) is not None)
        if not (process.ready or self._stopping):
            self._failed.add(name)
            self._check_start(why)
        self._cover()
        self._check_ended()

    def _log_end(self, process: WorkerProcess, why: str, clean: bool) -> None:
        restart = self._monitor.restart.get(process.name)
        if restart is not None and restart.active():
            _log.warn(
                "{name} {what} ({why}); a new one starts in {delay:.1f} s",
                name=process.name,
                what="ended" if process.ready else "could not start",
                why=why,
                delay=max(0.0, restart.getTime() - self._reactor.seconds()),
            )
        elif self._stopping and process.ready and not clean:
            _log.warn("{name} ended ({why}) before it had drained", name=process.name, why=why)

    def _check_start(self, why: str) -> None:
        if not self._any_started and len(self._failed) == len(self._names):
            self.start_failure = why
            self._start_failed.release()

    def _check_ended(self) -> None:
        if not self._processes:
            if self._stopping and self._watch.running:
                self._watch.stop()
            self._all_ended.release()

    def _check(self) -> None:
        """Look for workers that hang, once a second."""
        now = self._reactor.seconds()
        late = now - self._checked > 2 * REPORT_INTERVAL
        self._checked = now
        if late:
            # This process has been stopped, or was busy. What the workers have sent
            # meanwhile is read before the next check.
            return
        for process in tuple(self._processes.values()):
            self._check_one(process)
        self._cover()

    def _check_one(self, process: WorkerProcess) -> None:
        hangs = process.silent > REPORT_TIMEOUT
        limit = self._timeout if process.ready else max(self._timeout, START_TIMEOUT)
        if process.killed:
            return
        if self._timeout and process.silent >= limit:
            _log.error(
                "{name} has not answered for {seconds:.0f} s: killing pid {pid}",
                name=process.name,
                seconds=process.silent,
                pid=process.pid,
            )
            process.kill()
        elif process.ready and hangs and process not in self._hung:
            self._hung.add(process)
            _log.warn(
                "{name} does not answer (no report for {seconds:.0f} s); {then}",
                name=process.name,
                seconds=process.silent,
                then=self._fate(limit),
            )
        elif not hangs and process in self._hung:
            self._hung.discard(process)
            _log.info("{name} answers again", name=process.name)

    def _fate(self, limit: float) -> str:
        """Say what becomes of a worker that hangs."""
        if self._stopping:
            return f"it is killed {self._kill_time:g} s after the order to stop"
        return f"it is killed after {limit:g} s" if self._timeout else "it is left alone"

    def _cover(self) -> None:
        """Let the workers that serve accept for the others."""
        if self._stopping:
            return
        serving = self._serving()
        away = [number for number in range(len(self._names)) if number not in serving]
        for process in serving.values():
            process.cover(away)

    def _serving(self) -> dict[int, WorkerProcess]:
        """Return the workers that serve, by their number."""
        return {
            number: process
            for number, name in enumerate(self._names)
            if (process := self._processes.get(name)) and process.ready
            if process not in self._hung
        }
