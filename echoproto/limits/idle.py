"""Connections on which nothing moves.

Nothing is noted per message. Instead all connections are looked at from time to
time, and compared with what they were before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator

from twisted.internet.interfaces import IDelayedCall

from echoproto.core.connection import Connection
from echoproto.core.factory import Clock
from echoproto.net.wire_counters import unreturned, wire_counters

# Looks per timeout. A byte may move right after one, so that the next one notices it,
# and the timeout may end right after one: 2/16 too late. Over TLS a close that is not
# answered is enforced by the next: 3/16, where 1/4 is allowed.
_LOOKS = 16

# Connections looked at in one turn of the reactor: about a millisecond, for which all
# others wait.
_BATCH = 200


class IdleSweep:
    """Closes connections on which no byte moves, in either direction, for too long.

    A byte counts when it moves on the wire, not when the server hands it to the
    kernel: a slow reader is active as long as it takes anything; one that has
    filled its window and takes nothing is idle. Where the kernel does not tell
    (outside Linux, and in gVisor), what the server reads and writes counts, and a
    connection that may have moved is not idle.
    """

    def __init__(
        self, live: Callable[[], Collection[Connection]], clock: Clock, timeout: float
    ) -> None:
        """Describe a sweep.

        :param live: returns the open connections.
        :param clock: returns what counts the time.
        :param timeout: seconds without a byte; a connection is closed within that
            and a quarter more.
        """
        self._live = live
        self._clock = clock
        self._timeout = timeout
        # What each connection was when it was last looked at, and when it last changed.
        self._seen: dict[Connection, tuple[tuple[int, ...], float]] = {}
        self._next: IDelayedCall | None = None
        self._running = False

    def start(self) -> None:
        """Look from now on, unless it does already."""
        if not self._running:
            self._running = True
            self._next = self._clock().callLater(self._timeout / _LOOKS, self._begin)

    def stop(self) -> None:
        """Stop looking."""
        self._running = False
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        self._seen = {}

    def _begin(self) -> None:
        self._look(self._clock().seconds(), iter(tuple(self._live())), {})

    def _look(
        self,
        began: float,
        left: Iterator[Connection],
        seen: dict[Connection, tuple[tuple[int, ...], float]],
    ) -> None:
        """Look at a batch, and at the others in the next turn."""
        batch = list(itertools.islice(left, _BATCH))
        for connection in batch:
            if connection in self._live():
                seen[connection] = self._look_at(connection)
        if not self._running:
            # The last one closed meanwhile.
            return
        clock = self._clock()
        if len(batch) == _BATCH:
            self._next = clock.callLater(0, self._look, began, left, seen)
            return
        self._seen = seen
        rest = self._timeout / _LOOKS - (clock.seconds() - began)
        self._next = clock.callLater(max(0.0, rest), self._begin)

    def _look_at(self, connection: Connection) -> tuple[tuple[int, ...], float]:
        now = self._clock().seconds()
        wire = wire_counters(connection.transport, connection.bytes_echoed)
        moved = (connection.bytes_echoed, *(wire or ()))
        before = self._seen.get(connection)
        if wire is None or before is None or before[0] != moved or connection.throttled:
            return moved, now
        if connection.ending is not None:
            # It was told to close, and waits for the client.
            connection.abort()
        elif now - before[1] >= self._timeout:
            queued, unread, sent = unreturned(connection.transport)
            if unread and not queued:
                # The server has not read yet: it was stopped, or is late.
                return moved, now
            connection.end("idle", queued + unread + sent)
        return before
