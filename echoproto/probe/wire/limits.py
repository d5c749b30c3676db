"""How long an exchange waits."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """The timeouts of a conversation, in seconds.

    Attributes:
        stall: a wait fails after this time without progress.
        half_close: whether the end of a conversation is judged by EOF.
        connect: for connecting, and for the TLS handshake.
        total: for a whole conversation, in addition to its own pauses and slow reading.
        grace: how long to watch for extra bytes after the last one, where EOF cannot be used.
    """

    stall: float
    half_close: bool
    connect: float = 5.0
    total: float = 60.0
    grace: float = 0.002
