"""The stages of an exchange, in order."""

from __future__ import annotations

import enum

__all__ = ["Stage"]


class Stage(enum.IntEnum):
    """How far an exchange is."""

    OPENING = 0
    STEPS = 1
    WHOLE = 2
    """All steps are done, bytes are still missing."""
    TOGETHER = 3
    """All bytes are back; waits for the other conversations of the session."""
    CLOSING = 4
    """This side has closed; waits for EOF."""
    GRACE = 5
    """Watches for extra bytes, where EOF cannot be used."""
    DONE = 6
