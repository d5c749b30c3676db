"""The clock of a reactor: not the system time, which may be set."""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """Let a reactor time its delayed calls by the monotonic clock.

    Twisted's reactors use ``time.time``. If that clock is set back by an hour, every
    deadline is an hour late; if it is set forward, all deadlines pass at once. Both
    happen: when a virtual machine was paused, with the first answer of NTP, by an
    administrator.

    A reactor that has delayed calls already is left alone: their times are those of the
    other clock.

    :param reactor: an ``IReactorTime`` that the program itself runs; its ``seconds`` is
        replaced. The reactor of an application must not be changed.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic
