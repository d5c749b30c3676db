"""What a stopping service logs each second, and how long it still accepts connections."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from echoproto.base.words import counted

# A namespace of its own: workers leave these lines to their parent.
_log = Logger(namespace="echoproto.progress")


class Progress:
    """Logs each second how far a drain is."""

    def __init__(
        self, clock: IReactorTime, live: Callable[[], int], echoed: Callable[[], int]
    ) -> None:
        """Describe what is watched; nothing is logged yet.

        :param clock: what counts the time.
        :param live: returns how many connections are open.
        :param echoed: returns how many bytes have been returned so far.
        """
        self._clock = clock
        self._live = live
        self._echoed = echoed
        self._end = 0.0
        self._echoed_before = 0
        self._next: IDelayedCall | None = None

    def delay(self, seconds: float) -> None:
        """Log now, and then each second, for how long connections are still accepted.

        :param seconds: until the ports close.
        """
        self._begin(seconds, self._log_delay)
        self._log_delay()

    def drain(self, seconds: float) -> None:
        """Log each second what is left.

        :param seconds: until the deadline.
        """
        self._begin(seconds, self._log_left)

    def stop(self) -> None:
        """Log nothing more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _begin(self, seconds: float, log: Callable[[], None]) -> None:
        self.stop()
        self._end = self._clock.seconds() + seconds
        self._echoed_before = self._echoed()
        self._next = self._clock.callLater(1, self._tick, log)

    def _tick(self, log: Callable[[], None]) -> None:
        if self._seconds_left() < 0.5:
            return
        self._next = self._clock.callLater(1, self._tick, log)
        log()

    def _seconds_left(self) -> float:
        return self._end - self._clock.seconds()

    def _log_delay(self) -> None:
        _log.info(
            "draining: still accepting connections for {seconds:.0f} s; {connections}",
            seconds=self._seconds_left(),
            connections=counted(self._live(), "connection"),
        )

    def _log_left(self) -> None:
        echoed = self._echoed()
        _log.info(
            "draining: {connections} left, {echoed} bytes echoed in the last second, "
            "{seconds:.0f} s to the deadline",
            connections=counted(self._live(), "connection"),
            echoed=max(0, echoed - self._echoed_before),
            seconds=self._seconds_left(),
        )
        self._echoed_before = echoed


class DrainDelay:
    """For how long connections are still accepted after the service was told to stop."""

    def __init__(self, clock: IReactorTime, seconds: float, progress: Progress) -> None:
        """Describe it; nothing happens yet.

        :param clock: what counts the time.
        :param seconds: how long; 0 for not at all.
        :param progress: logs it.
        """
        self._clock = clock
        self._seconds = seconds
        self._progress = progress
        self._over: Deferred[None] = Deferred()
        self._timer: IDelayedCall | None = None

    def start(self) -> Deferred[None]:
        """Begin; the Deferred fires when it is over, at once if its length is 0."""
        if self._seconds > 0:
            self._timer = self._clock.callLater(self._seconds, self._end)
            self._progress.delay(self._seconds)
        else:
            self._end()
        return self._over

    def skip(self) -> None:
        """End it now, if it has begun, and else as soon as it begins."""
        self._seconds = 0
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
            self._end()

    def _end(self) -> None:
        self._progress.stop()
        self._over.callback(None)
