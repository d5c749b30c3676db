"""A connection that is read no faster than its limit."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from echoproto.core.connection import RATE, Connection
from echoproto.net.transports import read_at_most

# How much may be read at once, in seconds of the limit. Less is smoother and takes
# more timers: a connection at its limit has 1 / _BURST of them a second.
_BURST = 0.1


class RateLimit:
    """Pauses a connection while it has used up its allowance (a token bucket).

    Nothing is dropped: what is not read waits in the kernel, and then at the
    client. In any W seconds no more is read than the limit allows in W + 0.2.
    """

    def __init__(self, connection: Connection, rate: int, clock: IReactorTime) -> None:
        """Begin with a full allowance.

        :param connection: the one to limit.
        :param rate: bytes per second.
        :param clock: what counts the time.
        """
        self._connection = connection
        self._rate = rate
        self._clock = clock
        self._burst = max(1.0, rate * _BURST)
        self._allowance = self._burst
        self._since = clock.seconds()
        self._pause: IDelayedCall | None = None
        read_at_most(connection.transport, int(self._burst))

    def received(self, count: int) -> None:
        """Take bytes out of the allowance, and pause the connection when it is used up.

        :param count: how many were read.
        """
        now = self._clock.seconds()
        earned = (now - self._since) * self._rate
        self._allowance = min(self._burst, self._allowance + earned) - count
        self._since = now
        if self._allowance <= 0 and self._pause is None and not self._connection.input_ended:
            # Half a burst is held back, so that a late timer costs nothing.
            wait = (self._burst / 2 - self._allowance) / self._rate
            self._pause = self._clock.callLater(wait, self._resume)
            self._connection.pause_reading(RATE)

    def close(self) -> None:
        """Stop limiting."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _resume(self) -> None:
        self._pause = None
        self._connection.resume_reading(RATE)
