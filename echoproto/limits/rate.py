"""A connection that is read no faster than its limit."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.core.connection import Connection
from echoproto.net.transports import read_at_most

# How much may be read at once, in seconds of the limit. Less is smoother, and takes
# more timers: a connection at its limit has 1 / _BURST of them a second.
_BURST = 0.1


@implementer(IPushProducer)
class Throttled(Connection):
    """Stops reading while it has used up its allowance (a token bucket).

    Nothing is dropped: what is not read waits in the kernel, and then at the
    client. In any W seconds it reads no more than the limit allows in W + 0.2.

    Reading has two reasons to stop, the allowance and bytes that the kernel does
    not take, and goes on when neither is left. So it is the transport's
    producer itself, where else the transport is.
    """

    _blocked = False
    _pause: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._rate = self.factory.limits.max_bytes_per_second
        self._burst = max(1.0, self._rate * _BURST)
        self._allowance = self._burst
        self._since = self.factory.clock.seconds()
        read_at_most(self.transport, int(self._burst))
        super().connectionMade()

    @property
    def producer(self) -> Any:
        return self

    @property
    def throttled(self) -> bool:
        return self._pause is not None or super().throttled

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        now = self.factory.clock.seconds()
        earned = (now - self._since) * self._rate
        self._allowance = min(self._burst, self._allowance + earned) - len(data)
        self._since = now
        if self._allowance <= 0 and self._pause is None:
            # Half a burst is kept back, so that a timer that is late costs nothing.
            wait = (self._burst / 2 - self._allowance) / self._rate
            self._pause = self.factory.clock.callLater(wait, self._go_on)
            self.transport.pauseProducing()

    def pauseProducing(self) -> None:
        """The transport has enough to send."""
        self._blocked = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._blocked = False
        if self._pause is None:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is gone."""

    def readConnectionLost(self) -> None:
        self._end_pause()
        super().readConnectionLost()

    def finish(self) -> None:
        self._end_pause()
        super().finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end_pause()
        super().connectionLost(reason)

    def _go_on(self) -> None:
        self._pause = None
        if not self._blocked:
            self.transport.resumeProducing()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
