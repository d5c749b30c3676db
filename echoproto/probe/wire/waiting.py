"""How long an exchange has waited, and how much longer it does. Pure logic."""

from __future__ import annotations

from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.verdict import Action

__all__ = ["Waiting"]


class Waiting:
    """The waits of one exchange. Times are those of ``time.monotonic``, in seconds.

    Args:
        limits: how long to wait.
        now: the time.

    Attributes:
        last: when something last moved, in either direction.
        deadline: when the exchange ends in any case.
        longest: the longest wait for the path so far, in seconds.
        waited_for: what ended it: ``RECEIVED`` or ``GOT_EOF``.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self.last = now
        self.deadline = now
        self.longest = 0.0
        self.waited_for = Action.RECEIVED
        self._limits = limits
        self._began = now

    def begin(self, now: float, own_seconds: float) -> None:
        """Note that the connection is open.

        Args:
            now: the time.
            own_seconds: what pauses and slow reading take on any path.
        """
        self.last = now
        self.deadline = now + self._limits.total + own_seconds

    def moved(self, now: float) -> None:
        """Note that this side did something."""
        self.last = max(self.last, now)

    def answered(self, now: float, action: Action, waited: bool) -> None:
        """Note that something came from the path.

        Args:
            now: the time.
            action: ``RECEIVED`` or ``GOT_EOF``.
            waited: whether it was waited for.
        """
        if waited and now - self.last > self.longest:
            self.longest, self.waited_for = now - self.last, action
        self.last = now

    @property
    def too_long(self) -> bool:
        """Whether something came later than ``Limits.max_delay`` allows."""
        return self.longest > self._limits.max_delay

    def is_late(self, now: float) -> bool:
        """Return whether nothing has moved for longer than ``Limits.late``."""
        return now > self.last + self._limits.late

    def is_over(self, now: float) -> bool:
        """Return whether nothing has moved for longer than ``Limits.stall``."""
        return now >= self.last + self._limits.stall

    def in_words(self, now: float) -> str:
        """Return how long was waited, if that was too long."""
        if now >= self.deadline:
            return f"not done {now - self._began:.3g} s after the start"
        return f"nothing moved for {now - self.last:.3g} s"

    def wake(self) -> float:
        """Return when the wait is over, unless something moves."""
        return min(self.last + self._limits.stall, self.deadline)
