"""How late the event loop is, which every connection waits for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

# Seconds between two measurements, and how many are kept: a minute of them.
_PERIOD = 0.25
_REMEMBERED = 240


class LoopLag:
    """Schedules a call four times a second, and records how late it is."""

    def __init__(self, reactor: IReactorTime, clock: Callable[[], float] = time.monotonic) -> None:
        """Describe a measurement; it begins with :meth:`start`.

        :param reactor: its event loop is measured.
        :param clock: returns seconds that never jump, as the reactor's own do when the
            time of day is set.
        """
        self._reactor = reactor
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._due = 0.0
        self._lags: deque[float] = deque(maxlen=_REMEMBERED)

    def start(self) -> None:
        """Begin to measure, unless it has begun."""
        if self._call is None:
            self._lags.clear()
            self._wait()

    def stop(self) -> None:
        """Stop measuring."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def last(self) -> float:
        """Delay of the last call, in seconds."""
        return self._lags[-1] if self._lags else 0.0

    @property
    def most(self) -> float:
        """Maximum delay of a call in the last minute, in seconds."""
        return max(self._lags, default=0.0)

    def _wait(self) -> None:
        self._due = self._clock() + _PERIOD
        self._call = self._reactor.callLater(_PERIOD, self._look)

    def _look(self) -> None:
        self._lags.append(max(0.0, self._clock() - self._due))
        self._wait()
