"""Starting a worker process, and hearing from it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.workers.cgroup import cpu_quota
from echoproto.workers.channel import FROM_WORKER, TO_WORKER, Channel
from echoproto.workers.signals import held_back

# Bytes that are kept of what a worker prints before it is ready.
_MAX_PRINTED = 8192


def available() -> bool:
    """Tell whether this platform can serve one port from several processes."""
    return os.name == "posix" and hasattr(socket, "SO_REUSEPORT")


def cores(proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may use, by its affinity and its cgroup's quota.

    :param proc: where the kernel tells of this process.
    :param root: where cgroups are mounted.
    """
    allowed = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota(proc, root)
    # A part of a core does not serve as one more worker; a quota below 1 needs one still.
    return allowed if quota is None else max(1, min(allowed, int(quota)))


class WorkerProcess(ProcessProtocol):
    """One worker: how it ends goes to the monitor, its messages go to its channel.

    :ivar name: the worker's name, as ``worker 1``.
    :ivar channel: to the worker.
    :ivar ready: whether it has begun to serve.
    :ivar heard: when it last sent a message, or was started, in the clock's seconds.
    :ivar killed: whether it was killed; it may take a while to end.
    :ivar failure: in one line, why it could not begin to serve, if it said so.
    """

    def __init__(
        self,
        name: str,
        monitored: Any,
        clock: IReactorTime,
        ended: Callable[[WorkerProcess, Failure], None],
    ) -> None:
        """Describe it; :func:`spawn` starts it.

        :param name: its name.
        :param monitored: the process monitor's protocol for it.
        :param clock: what counts the time.
        :param ended: called when it has ended, after the monitor.
        """
        self.name = name
        self.channel = Channel(self._write)
        self.ready = False
        self.heard = clock.seconds()
        self.failure: str | None = None
        self.killed = False
        self._clock = clock
        self._monitored = monitored
        self._ended = ended
        self._printed = b""
        self._covering: Sequence[int] = []
        self.channel.on("failed", self.failed)

    @property
    def pid(self) -> int:
        """Its process; 0 if it could not be started."""
        pid: int = self.transport.pid  # type: ignore[union-attr]
        return pid

    @property
    def silent(self) -> float:
        """Seconds since it last sent a message."""
        return self._clock.seconds() - self.heard

    @property
    def start_failure(self) -> str:
        """In one line, why it could not begin to serve, as far as that is known."""
        if self.failure is not None:
            return self.failure
        # The last line of a traceback names the error.
        lines = self._printed.decode(errors="backslashreplace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def failed(self, why: str) -> None:
        """Note why it cannot begin to serve."""
        self.failure = why

    def started(self) -> None:
        """Note that it serves."""
        self.ready = True
        printed, self._printed = self._printed, b""
        if printed:
            self._monitored.childDataReceived(2, printed)

    def cover(self, workers: Sequence[int]) -> None:
        """Let it accept for other workers too, and for no others any more.

        :param workers: their numbers, from 0.
        """
        if workers != self._covering:
            self._covering = workers
            self.channel.send("cover", workers=workers)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        self.killed = True
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]

    def connectionMade(self) -> None:
        self._monitored.makeConnection(self.transport)

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        if childFD == FROM_WORKER:
            self.heard = self._clock.seconds()
            self.channel.receive(data)
        elif self.ready:
            self._monitored.childDataReceived(childFD, data)
        else:
            self._printed = (self._printed + data)[-_MAX_PRINTED:]

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        self._monitored.processEnded(reason)
        self._ended(self, reason)

    def _write(self, data: bytes) -> None:
        self.transport.writeToChild(TO_WORKER, data)  # type: ignore[union-attr]


@implementer(IReactorProcess, IReactorTime)
class Spawner:
    """A reactor for the process monitor, except for how it starts processes."""

    def __init__(self, reactor: Any, spawn: Callable[..., Any]) -> None:
        """Make one.

        :param reactor: does everything else.
        :param spawn: called as ``spawnProcess`` would be.
        """
        self._reactor = reactor
        self._spawn = spawn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def spawnProcess(self, *args: Any, **named: Any) -> Any:  # noqa: N802
        """Start a process; see ``IReactorProcess``."""
        return self._spawn(*args, **named)


def spawn(
    reactor: Any, process: WorkerProcess, sockets: Mapping[int, int], *args: Any, **named: Any
) -> Any:
    """Start a worker. If the system refuses to, the worker ends in the reactor's next turn.

    :param reactor: an ``IReactorProcess``.
    :param process: the worker.
    :param sockets: for each of its descriptors, the descriptor here that it inherits.
    :param args: and ``named``, what follows the protocol in ``spawnProcess``.
    :returns: the process transport.
    """
    streams = {TO_WORKER: "w", 1: "r", 2: "r", FROM_WORKER: "r"}
    try:
        with held_back():
            return reactor.spawnProcess(process, *args, childFDs={**streams, **sockets}, **named)
    except OSError as error:
        # The monitor expects that a start always succeeds, and waits for the end.
        process.failed(f"cannot start {args[0]}: {error.strerror}")
        transport = _NotStarted()
        process.makeConnection(transport)
        reactor.callLater(0, process.processEnded, Failure(ProcessTerminated(exitCode=1)))
        return transport


class _NotStarted:
    """Stands for a process that the system refused to start."""

    pid = 0

    def writeToChild(self, descriptor: int, data: bytes) -> None:  # noqa: N802
        """Do nothing."""

    def signalProcess(self, name: str) -> None:  # noqa: N802
        """Raise what a process that has ended raises."""
        raise ProcessExitedAlready


def exit_reason(reason: Failure) -> str:
    """Return in a few words how a process ended.

    :param reason: a ``ProcessDone`` or ``ProcessTerminated``.
    """
    signum = getattr(reason.value, "signal", None)
    if signum is not None:
        return f"killed by signal {signum}"
    return f"exit code {getattr(reason.value, 'exitCode', 'unknown')}"
