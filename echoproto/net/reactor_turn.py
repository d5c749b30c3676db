"""The turn of an epoll reactor, in which the lane waits instead of the reactor.

A lane that is a reader of its reactor costs two calls of ``epoll_wait`` and a log context per
wake-up. With one connection, each message is a wake-up. Twisted's epoll reactor can be turned
round: its epoll set becomes a member of the lane's, the lane waits, and the reactor looks at its
own descriptors when its set is ready. Its delayed calls, threads and signals are unaffected: the
time to wait is still the reactor's, and a thread or a signal makes a descriptor of its set
ready.

What is replaced is ``doIteration``, which is public, of one reactor. What is read is its epoll
set (``_poller``), which has no public name. Any other reactor keeps the lane as a reader.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

# Where there is no epoll, Twisted's module cannot be imported.
if hasattr(select, "epoll"):
    from twisted.internet import epollreactor

    _STOCK_TURN: Any = epollreactor.EPollReactor.doIteration


class ReactorTurn:
    """Runs the turns of one reactor.

    :ivar descriptor: of the reactor's epoll set. It is readable when the reactor has events.
    """

    def __init__(self, reactor: Any, wait: Callable[[float], None]) -> None:
        """Take the turns over.

        :param reactor: one that :meth:`possible` accepts.
        :param wait: waits for events and handles them, for this many seconds at most; a
            negative number means without a limit. It calls :meth:`look` when the
            descriptor is readable.
        """
        self._reactor = reactor
        self._wait = wait
        self._stock_turn: Callable[[float | None], None] = reactor.doIteration
        self.descriptor: int = reactor._poller.fileno()  # noqa: SLF001
        reactor.doIteration = self._turn

    @staticmethod
    def possible(reactor: Any) -> bool:
        """Tell whether a reactor's turns can be taken over, and have not been.

        :param reactor: any.
        """
        return hasattr(select, "epoll") and (
            isinstance(reactor, epollreactor.EPollReactor)
            and getattr(reactor.doIteration, "__func__", None) is _STOCK_TURN
        )

    def look(self) -> None:
        """Let the reactor handle the events that it has."""
        self._stock_turn(0)

    def give_back(self) -> None:
        """Let the reactor wait itself again."""
        if vars(self._reactor).get("doIteration") == self._turn:
            del self._reactor.doIteration
        # Otherwise another party has wrapped the turn meanwhile.
        self._wait = self._stock_turn

    def _turn(self, delay: float | None) -> None:
        self._wait(-1 if delay is None else delay)
