"""What the first process of a container owes the others: it reaps those without a parent."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import process
from twisted.internet.task import LoopingCall

# Seconds between two looks. SIGCHLD belongs to the reactor.
_INTERVAL = 1.0


def reap_orphans() -> None:
    """Reap the ended children that nothing waits for.

    The kernel makes process 1 of a PID namespace the parent of its orphans
    (``pid_namespaces(7)``). Twisted reaps only the processes that it has started.
    """
    # Its own come first, so that none of them hides another (and none is taken from it).
    process.reapAllProcesses()
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        # One of Twisted's own has ended since; it is reaped at its SIGCHLD.
        if ended is None or ended.si_pid in process.reapProcessHandlers:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


def start_reaping(reactor: Any) -> LoopingCall:
    """Reap orphans from now on; return what stops it.

    :param reactor: an ``IReactorTime``.
    """
    loop = LoopingCall(reap_orphans)
    loop.clock = reactor
    loop.start(_INTERVAL)
    return loop
