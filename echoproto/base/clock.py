"""What counts the time: not the clock on the wall, which may be set."""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """Let a reactor count its delayed calls by the monotonic clock.

    Twisted's reactors count by ``time.time``: a clock that is set back an hour
    holds every deadline up for an hour, and one that is set forward lets all
    pass at once. Both happen to machines: a virtual one that was paused, a first
    answer of NTP, an administrator.

    Nothing is done where a call is already being delayed: its time was counted
    by the other clock.

    :param reactor: an ``IReactorTime``, whose ``seconds`` is replaced.
        What the program itself runs; an application's own is not ours to change.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic
