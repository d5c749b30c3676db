"""How long to wait for a path, from the echo round trips seen on it so far."""

from __future__ import annotations

from collections.abc import Sequence

from echoproto.probe.wire.statistics import median

__all__ = ["Clock"]

_LEAST_TIMEOUT = 0.05
"""Seconds: on a busy machine, a process sometimes waits for tens of milliseconds."""

_LEAST_LATE = 1.0

_GRANULARITY = 0.001

_TIMEOUTS = 4
_LATES = 12
_MOST = 2.0


class Clock:
    """The smoothed round trip of a path, and the waits that follow from it.

    The estimate is that of RFC 6298, section 2. It starts from the median of some samples, and a
    later sample counts as ``_MOST`` times the expected at most: one bad sample does not set it.
    Samples come from echoes on established connections only, since a proxy nearby accepts a
    connection for an echo far away.

    Args:
        samples: the first round trips, in seconds; at least one.
        least: seconds that every wait takes at least (``--timeout``).

    Attributes:
        round_trip: the smoothed round trip, in seconds.
        variation: how much the round trips vary, in seconds.
    """

    def __init__(self, samples: Sequence[float], least: float = 0.0) -> None:
        self.round_trip = median(samples)
        self.variation = median(abs(self.round_trip - one) for one in samples)
        self._least = least

    def add(self, seconds: float) -> None:
        """Take one more round trip into account."""
        seconds = min(seconds, _MOST * self.retransmission)
        self.variation += (abs(self.round_trip - seconds) - self.variation) / 4
        self.round_trip += (seconds - self.round_trip) / 8

    @property
    def retransmission(self) -> float:
        """The retransmission timeout of RFC 6298, without its lower limit of a second."""
        return self.round_trip + max(4 * self.variation, _GRANULARITY)

    @property
    def timeout(self) -> float:
        """Seconds without progress after which a trial counts as stalled.

        Trials are held while a failure is reproduced and shrunk. The result is confirmed with
        the whole patience.
        """
        return max(_TIMEOUTS * self.retransmission, _LEAST_TIMEOUT, self._least)

    @property
    def late(self) -> float:
        """Seconds without progress after which a conversation counts as late."""
        return max(_LATES * self.retransmission, _LEAST_LATE, self._least)

    @property
    def grace(self) -> float:
        """Seconds to watch for extra bytes after the last one."""
        return max(3 * self.round_trip, 0.002)
