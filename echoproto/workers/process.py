"""Starting a worker process, and hearing from it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.workers.channel import FROM_WORKER, TO_WORKER, Channel


def available() -> bool:
    """Tell whether this platform can serve one port from several processes."""
    return os.name == "posix" and hasattr(socket, "SO_REUSEPORT")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerProcess(ProcessProtocol):
    """One worker: what it prints and how it ends go to the monitor, messages to its channel.

    :ivar name: the worker's name, as ``worker 1``.
    :ivar channel: to the worker.
    """

    def __init__(
        self, name: str, monitored: Any, ended: Callable[[WorkerProcess, Failure], None]
    ) -> None:
        """Describe it; :func:`spawn` starts it.

        :param name: its name.
        :param monitored: the process monitor's protocol for it.
        :param ended: called, after the monitor, when it has ended.
        """
        self.name = name
        self.channel = Channel(lambda data: self.transport.writeToChild(TO_WORKER, data))  # type: ignore[union-attr]
        self._monitored = monitored
        self._ended = ended

    @property
    def pid(self) -> int:
        """Its process."""
        pid: int = self.transport.pid  # type: ignore[union-attr]
        return pid

    def connectionMade(self) -> None:
        self._monitored.makeConnection(self.transport)

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        if childFD == FROM_WORKER:
            self.channel.receive(data)
        else:
            self._monitored.childDataReceived(childFD, data)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        self._monitored.processEnded(reason)
        self._ended(self, reason)


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
    """Start a worker.

    :param reactor: an ``IReactorProcess``.
    :param process: the worker.
    :param sockets: for each of its descriptors, the descriptor here that it inherits.
    :param args: and ``named``, what follows the protocol in ``spawnProcess``.
    """
    streams = {TO_WORKER: "w", 1: "r", 2: "r", FROM_WORKER: "r"}
    with _sigterm_held_back():
        return reactor.spawnProcess(process, *args, childFDs={**streams, **sockets}, **named)


@contextlib.contextmanager
def _sigterm_held_back() -> Iterator[None]:
    """Keep SIGTERM from a process that is started meanwhile until it can drain.

    The process inherits the mask, and lifts it when it has a handler (``signal(7)``). An
    earlier SIGTERM is then delivered; without the mask it would end the process, and
    reset the clients in its accept queue.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exit_reason(reason: Failure) -> str:
    """Return in a few words how a process ended.

    :param reason: a ``ProcessDone`` or ``ProcessTerminated``.
    """
    signum = getattr(reason.value, "signal", None)
    if signum is not None:
        return f"killed by signal {signum}"
    return f"exit code {getattr(reason.value, 'exitCode', 'unknown')}"
