"""What one server gives at the most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one server gives at the most; 0 means without a limit.

    :ivar max_connections: conversations at once, in all.
    :ivar max_per_source: conversations at once with one source.
    :ivar idle_timeout: seconds without a byte in either direction after which
        a conversation ends.
    :ivar max_bytes_per_second: bytes that a conversation is read a second.
    """

    max_connections: int = 0
    max_per_source: int = 0
    idle_timeout: float = 0.0
    max_bytes_per_second: int = 0
