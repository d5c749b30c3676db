"""How late the event loop is: what a connection waits for beyond its own work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

# Seconds between two looks, and how many of them are remembered: a minute.
_PERIOD = 0.25
_REMEMBERED = 240


class LoopLag:
    """Asks to be called four times a second, and notes how late the call comes."""

    def __init__(self, reactor: IReactorTime, clock: Callable[[], float] = time.monotonic) -> None:
        """Describe a measurement; nothing is measured yet.

        :param reactor: whose lateness.
        :param clock: tells seconds that never jump, as the reactor's own do
            when somebody sets the time of day.
        """
        self._reactor = reactor
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._due = 0.0
        self._lags: deque[float] = deque(maxlen=_REMEMBERED)

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._call is None:
            self._lags.clear()
            self._wait()

    def stop(self) -> None:
        """End."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def last(self) -> float:
        """Seconds that the last call came late."""
        return self._lags[-1] if self._lags else 0.0

    @property
    def most(self) -> float:
        """The most seconds that one of the last minute's calls came late."""
        return max(self._lags, default=0.0)

    def _wait(self) -> None:
        self._due = self._clock() + _PERIOD
        self._call = self._reactor.callLater(_PERIOD, self._look)

    def _look(self) -> None:
        self._lags.append(max(0.0, self._clock() - self._due))
        self._wait()
