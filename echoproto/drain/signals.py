"""Signals that reach a process while it drains."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from echoproto.base.lifecycle import Extension

# Signals belong to the process, and so do the list of what they abort and the
# handlers that have been replaced meanwhile.
_aborts: list[Callable[[], None]] = []
_replaced: dict[signal.Signals, Any] = {}


def watch_signals(reactor: Any, abort: Callable[[], None]) -> Callable[[], None]:
    """Let a second SIGINT or SIGTERM abort a drain while the reactor shuts down.

    The first signal stops the reactor, which then waits for the drain. For the
    second the reactor's own handlers have nothing but an error in the log
    (ReactorNotRunning), so they are replaced until the last drain is over. A
    handler that the application has set stays.

    :param reactor: the one that is shutting down.
    :param abort: called, in the reactor's thread, for each signal.
    :returns: a function that ends the watch.
    """

    def abort_all(signum: int, frame: object) -> None:
        # A signal interrupts anything; leave that first.
        for each in _aborts:
            reactor.callFromThread(each)

    def end() -> None:
        _aborts.remove(abort)
        if not _aborts:
            while _replaced:
                signal.signal(*_replaced.popitem())

    for signum, name in ((signal.SIGINT, "sigInt"), (signal.SIGTERM, "sigTerm")):
        handler = signal.getsignal(signum)
        if handler == getattr(reactor, name, None):
            _replaced[signum] = handler
            signal.signal(signum, abort_all)
    _aborts.append(abort)
    return end


class AbortAtSecondSignal(Extension):
    """Aborts a service's drain at a second SIGINT or SIGTERM, in the reactor's shutdown."""

    def __init__(self, abort: Callable[[], None]) -> None:
        """Describe it.

        :param abort: aborts the drain, if there is one.
        """
        self._abort = abort
        self._reactor: Any = None
        self._trigger: Any = None
        self._end_watch: Callable[[], None] | None = None

    def starting(self, reactor: Any) -> None:
        self._reactor = reactor

    def started(self) -> None:
        self._trigger = self._reactor.addSystemEventTrigger("before", "shutdown", self._shutdown)

    def stopped(self) -> None:
        if self._end_watch is not None:
            self._end_watch()
            self._end_watch = None
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None

    def _shutdown(self) -> None:
        self._trigger = None
        self._end_watch = watch_signals(self._reactor, self._abort)
