"""How long an exchange waits."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["CONNECT_TIMEOUT", "PATIENCE", "SLOWEST_LINK", "Limits"]

PATIENCE = 30.0
"""Seconds after which silence is a fault, by default: less is late."""

CONNECT_TIMEOUT = 10.0
"""Seconds that connecting may take, by default."""

SLOWEST_LINK = 8000
"""Bytes per second, of a link of 64 kbit/s. A conversation may last as long as they take there."""


@dataclass(frozen=True)
class Limits:
    """The timeouts of a conversation, in seconds.

    Attributes:
        stall: a wait fails after this time without progress.
        half_close: whether the end of a conversation is judged by EOF.
        connect: for connecting, and for the TLS handshake.
        total: for a whole conversation, in addition to its own pauses and slow reading, and to what
            its bytes take on the slowest link.
        grace: how long to watch for extra bytes after the last one, where EOF cannot be used.
        late: a conversation is late after this time without progress; it stays open.
        capture: how many received bytes to keep, and to read on after a wrong one; 0 to keep none
            and to end there.
        max_delay: the longest wait that passes; a longer one is ``Fault.DELAYED``.
    """

    stall: float
    half_close: bool
    connect: float = CONNECT_TIMEOUT
    total: float = 60.0
    grace: float = 0.002
    late: float = math.inf
    capture: int = 0
    max_delay: float = math.inf
