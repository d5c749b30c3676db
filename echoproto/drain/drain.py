"""How a stopping service lets its connections end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from echoproto.core.factory import EchoFactory

_log = Logger(namespace="echoproto")
# Workers leave these lines to their parent.
_progress_log = Logger(namespace="echoproto.progress")

# What a connection gets, in seconds, to take its last bytes and our FIN
# after the deadline.
_FLUSH_TIME = 1.0


class Progress:
    """Says each second how a drain goes.

    The namespace of its log is its own: workers leave these lines to their parent.
    """

    def __init__(
        self, clock: IReactorTime, live: Callable[[], int], echoed: Callable[[], int]
    ) -> None:
        """Describe what is looked at; nothing is said yet.

        :param clock: what counts the time.
        :param live: returns how many connections there are.
        :param echoed: returns how many bytes have been returned so far.
        """
        self._clock = clock
        self._live = live
        self._echoed = echoed
        self._end = 0.0
        self._echoed_before = 0
        self._next: IDelayedCall | None = None

    def delay(self, seconds: float) -> None:
        """Say now, and then each second, for how long connections are still taken.

        :param seconds: that long.
        """
        self._begin(seconds, self._say_delay)
        self._say_delay()

    def drain(self, seconds: float) -> None:
        """Say each second what is left.

        :param seconds: to the deadline.
        """
        self._begin(seconds, self._say_left)

    def stop(self) -> None:
        """Say no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _begin(self, seconds: float, say: Callable[[], None]) -> None:
        self.stop()
        self._end = self._clock.seconds() + seconds
        self._echoed_before = self._echoed()
        self._next = self._clock.callLater(1, self._tick, say)

    def _tick(self, say: Callable[[], None]) -> None:
        if self._seconds_left() < 0.5:
            return
        self._next = self._clock.callLater(1, self._tick, say)
        say()

    def _seconds_left(self) -> float:
        return self._end - self._clock.seconds()

    def _say_delay(self) -> None:
        _progress_log.info(
            "draining: still taking connections for {seconds:.0f} s; {live} connections",
            seconds=self._seconds_left(),
            live=self._live(),
        )

    def _say_left(self) -> None:
        echoed = self._echoed()
        _progress_log.info(
            "draining: {live} connections left, {echoed} bytes echoed in the last second, "
            "{seconds:.0f} s to the deadline",
            live=self._live(),
            echoed=max(0, echoed - self._echoed_before),
            seconds=self._seconds_left(),
        )
        self._echoed_before = echoed


class Delay:
    """For how long connections are still taken once a drain was asked for."""

    def __init__(self, clock: IReactorTime, seconds: float, progress: Progress) -> None:
        """Describe it; nothing happens yet.

        :param clock: what counts the time.
        :param seconds: how long; 0 for not at all.
        :param progress: says how it goes.
        """
        self._clock = clock
        self._seconds = seconds
        self._progress = progress
        self._over: Deferred[None] = Deferred()
        self._timer: IDelayedCall | None = None

    def start(self) -> Deferred[None]:
        """Begin; the Deferred fires when it is over, at once if it is none."""
        if self._seconds > 0:
            self._timer = self._clock.callLater(self._seconds, self._end)
            self._progress.delay(self._seconds)
        else:
            self._end()
        return self._over

    def cut(self) -> None:
        """End it now, if it has begun, and else when it begins."""
        self._seconds = 0
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
            self._end()

    def _end(self) -> None:
        self._progress.stop()
        self._over.callback(None)


class Drain:
    """Waits for connections to finish, and at the deadline finishes them.

    Until the deadline nothing is done to them. Then each is flushed and
    closed (:meth:`echoproto.Echo.finish`), and what is left one second later
    is aborted. :meth:`cut` aborts at once.

    :ivar progress: says how it goes.
    """

    def __init__(self, factory: EchoFactory, clock: IReactorTime, timeout: float) -> None:
        """Describe a drain; nothing happens yet.

        :param factory: whose connections.
        :param clock: what counts the time.
        :param timeout: seconds to the deadline; 0 aborts at once.
        """
        self._factory = factory
        self._clock = clock
        self._timeout = timeout
        self.progress = Progress(clock, lambda: factory.live, lambda: factory.bytes_echoed)
        self._deadline: IDelayedCall | None = None

    def start(self) -> Deferred[None]:
        """Begin; the Deferred fires when no connection is left."""
        live = self._factory.live + self._factory.places.waiting
        empty = self._factory.when_empty()
        if live == 0:
            return empty
        if self._timeout <= 0:
            self.cut()
            return empty
        _log.info(
            "draining: {live} connections have {timeout:g} s to finish",
            live=live,
            timeout=self._timeout,
        )
        self.progress.drain(self._timeout)
        self._deadline = self._clock.callLater(self._timeout, self._finish)
        return empty.addCallback(self._drained)

    def cut(self) -> None:
        """Abort what is left, and what would still begin to drain."""
        self._timeout = 0
        self._cancel_deadline()
        self._factory.drop_waiting()
        if self._factory.live:
            _log.warn("aborting {live} connections", live=self._factory.live)
        for connection in tuple(self._factory.connections):
            connection.transport.abortConnection()

    def _finish(self) -> None:
        self.progress.stop()
        self._factory.drop_waiting()
        _log.warn("drain deadline: closing {live} connections", live=self._factory.live)
        self._deadline = self._clock.callLater(_FLUSH_TIME, self.cut)
        for connection in tuple(self._factory.connections):
            connection.finish()

    def _drained(self, _: None) -> None:
        self._cancel_deadline()
        discarded = self._factory.bytes_discarded
        if discarded:
            _log.warn(
                "drained; {discarded} bytes came after the deadline and were not returned",
                discarded=discarded,
            )
        else:
            _log.info("drained")

    def _cancel_deadline(self) -> None:
        self.progress.stop()
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
