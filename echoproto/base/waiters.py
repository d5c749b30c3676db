"""Deferreds that wait for one event."""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Waiters:
    """Hands out Deferreds, and fires all of them when the event happens."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires at the next :meth:`release`."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def release(self) -> None:
        """Fire all that were handed out since the last time."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
