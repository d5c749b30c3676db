"""How a stopping service lets its conversations end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from echoproto.factory import EchoFactory

# What a conversation gets, in seconds, to take its last bytes and our FIN
# after the deadline.
_FLUSH_TIME = 1.0


class Drain:
    """Waits for conversations to finish, and at the deadline finishes them.

    Until the deadline nothing is done to them. Then each is flushed and
    closed (:meth:`echoproto.Echo.finish`), and what is left one second later
    is aborted. :meth:`cut` aborts at once.
    """

    _log = Logger()

    def __init__(self, factory: EchoFactory, clock: IReactorTime, timeout: float) -> None:
        """Describe a drain; nothing happens yet.

        :param factory: whose conversations.
        :param clock: what counts the time.
        :param timeout: seconds to the deadline; 0 aborts at once.
        """
        self._factory = factory
        self._clock = clock
        self._timeout = timeout
        self._deadline: IDelayedCall | None = None

    def start(self) -> Deferred[None]:
        """Begin; the Deferred fires when no conversation is left."""
        live = self._factory.live + self._factory.places.waiting
        empty = self._factory.when_empty()
        if live == 0:
            return empty
        if self._timeout <= 0:
            self.cut()
            return empty
        self._log.info(
            "draining: {live} conversations have {timeout:g} s to finish",
            live=live,
            timeout=self._timeout,
        )
        self._deadline = self._clock.callLater(self._timeout, self._finish)
        return empty.addCallback(self._drained)

    def cut(self) -> None:
        """Abort what is left, and what would still begin to drain."""
        self._timeout = 0
        self._cancel_deadline()
        self._factory.turn_away_waiting()
        if self._factory.live:
            self._log.warn("aborting {live} conversations", live=self._factory.live)
        for conversation in tuple(self._factory.conversations):
            conversation.transport.abortConnection()

    def _finish(self) -> None:
        self._factory.turn_away_waiting()
        self._log.warn("drain deadline: closing {live} conversations", live=self._factory.live)
        self._deadline = self._clock.callLater(_FLUSH_TIME, self.cut)
        for conversation in tuple(self._factory.conversations):
            conversation.finish()

    def _drained(self, _: None) -> None:
        self._cancel_deadline()
        discarded = self._factory.bytes_discarded
        if discarded:
            self._log.warn(
                "drained; {discarded} bytes came after the deadline and were not returned",
                discarded=discarded,
            )
        else:
            self._log.info("drained")

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None


# Signals belong to the process, and so does the list of what they cut short,
# and so do the handlers that have been replaced meanwhile.
_cuts: list[Callable[[], None]] = []
_replaced: dict[signal.Signals, Any] = {}


def watch_signals(reactor: Any, cut: Callable[[], None]) -> Callable[[], None]:
    """Let a further SIGINT or SIGTERM cut a drain short while the reactor shuts down.

    The first one stops the reactor, which then waits for the drain. For the
    second the reactor's own handlers have nothing but an error in the log
    (ReactorNotRunning), so they are replaced until the last drain is over; and
    only they are: a handler that the application has set stays.

    :param reactor: the one that is shutting down.
    :param cut: called, in the reactor's thread, for each signal.
    :returns: a function that ends the watch.
    """

    def cut_all(signum: int, frame: object) -> None:
        # A signal arrives in the middle of anything: leave that first.
        for each in _cuts:
            reactor.callFromThread(each)

    def end() -> None:
        _cuts.remove(cut)
        if not _cuts:
            while _replaced:
                signal.signal(*_replaced.popitem())

    for signum, name in ((signal.SIGINT, "sigInt"), (signal.SIGTERM, "sigTerm")):
        handler = signal.getsignal(signum)
        if handler == getattr(reactor, name, None):
            _replaced[signum] = handler
            signal.signal(signum, cut_all)
    _cuts.append(cut)
    return end
