"""What one server gives at the most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from echoproto.core.connection import Connection


@dataclass(frozen=True)
class Limits:
    """What one server gives at the most; 0 means without a limit.

    :ivar max_connections: connections at once, in all.
    :ivar max_per_source: connections at once with one source.
    :ivar idle_timeout: seconds without a byte in either direction after which
        a connection ends.
    :ivar max_bytes_per_second: bytes that a connection is read a second.
    """

    max_connections: int = 0
    max_per_source: int = 0
    idle_timeout: float = 0.0
    max_bytes_per_second: int = 0


class PerSourceLimit:
    """How many connections each source has, and whether it may have one more."""

    def __init__(self, most: int) -> None:
        """Begin with none.

        :param most: connections at once with one source.
        """
        self._most = most
        self._live: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many sources have any."""
        return len(self._live)

    def enter(self, source: str) -> bool:
        """Count one more, if it may be; return whether."""
        if self._live[source] >= self._most:
            return False
        self._live[source] += 1
        return True

    def leave(self, source: str) -> None:
        """Count one less."""
        self._live[source] -= 1
        if not self._live[source]:
            del self._live[source]

    def ask(
        self,
        source: str,
        connection: Connection,
        payload: bytes,
        go_on: Callable[[Connection, bytes], None],
        refuse: Callable[[Connection, str], None],
    ) -> None:
        """Find out whether a connection may go on.

        :param source: what its client is counted as; until :meth:`leave`, if it goes on.
        :param connection: the one.
        :param payload: what has come of it.
        :param go_on: called with connection and payload if it may.
        :param refuse: called with connection and source if it may not.
        """
        if self.enter(source):
            connection.source = source
            go_on(connection, payload)
        else:
            refuse(connection, source)
