"""How many connections each source may have."""

from __future__ import annotations

import functools
from collections import Counter

from echoproto.base.address import source
from echoproto.core.connection import Connection, Gate


class PerSourceLimit:
    """Counts the connections of each source, and refuses those over the limit."""

    def __init__(self, limit: int) -> None:
        """Begin with none.

        :param limit: connections at once from one source.
        """
        self._limit = limit
        self._live: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many sources have connections."""
        return len(self._live)

    def acquire(self, source: str) -> bool:
        """Count a connection of a source, if it may have one more; return whether it may."""
        if self._live[source] >= self._limit:
            if not self._live[source]:
                del self._live[source]
            return False
        self._live[source] += 1
        return True

    def release(self, source: str) -> None:
        """Count one connection less."""
        self._live[source] -= 1
        if not self._live[source]:
            del self._live[source]

    def gate(self, connection: Connection) -> Gate | None:
        """Admit a connection if its source may have one more, else refuse it.

        :param connection: with its client's true address; one without a source, as a
            UNIX client, is admitted.
        """
        name = source(connection.client)
        if name is not None:
            self.settle(name, connection, self.acquire(name))
        return None

    def settle(self, source: str, connection: Connection, acquired: bool) -> None:
        """Keep what was acquired until the connection closes, or refuse the connection.

        :param source: the client's.
        :param connection: the one.
        :param acquired: the answer.
        """
        if acquired:
            connection.on_close(functools.partial(self.release, source))
        else:
            connections = "connection" if self._limit == 1 else "connections"
            why = f"{source} is at its limit of {self._limit} {connections} (--max-per-source)"
            connection.refuse("source", why, source)
