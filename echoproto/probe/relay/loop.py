"""Sockets that are waited for, and timers, in one thread.

asyncio is not used because its transports hide what a relay has to pass on as it is: whether a
connection ended with FIN or RST, and a reset of a connection that is not being read.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import socket
import time
from collections.abc import Callable

__all__ = ["ERROR", "HANGUP", "READ", "WRITE", "Loop", "Timer"]

# epoll(7) has the same values.
READ, WRITE, ERROR, HANGUP = select.POLLIN, select.POLLOUT, select.POLLERR, select.POLLHUP

#: Cancelled timers are removed when there are more of them than this, and than of the others.
_MOST_CANCELLED = 1000


class Timer:
    """A call at a time, unless it is cancelled before."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call


class Loop:
    """Waits for sockets, and calls what waits for them.

    Args:
        now: the time in seconds, which never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._poller = _Poller()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._sockets: set[socket.socket] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._cancelled = 0
        self._stopping = False
        self._wake, woken = socket.socketpair()
        self._wake.setblocking(False)
        self.own(self._wake)
        self.own(woken)
        self.watch(woken, READ, lambda _: None)

    def own(self, sock: socket.socket) -> None:
        """Close the socket when the loop ends, unless it has been closed by then."""
        self._sockets.add(sock)

    def watch(self, sock: socket.socket, events: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` with the events of a socket.

        Args:
            sock: a socket that is not watched yet.
            events: ``READ``, ``WRITE``, both or 0. ``ERROR`` and ``HANGUP`` are always reported.
            handler: called with those that have occurred.
        """
        self._handlers[sock.fileno()] = handler
        self._poller.register(sock.fileno(), events)

    def change(self, sock: socket.socket, events: int) -> None:
        """Wait for other events of a socket that is watched."""
        self._poller.modify(sock.fileno(), events)

    def ignore(self, sock: socket.socket) -> None:
        """Stop watching a socket."""
        if self._handlers.pop(sock.fileno(), None) is not None:
            self._poller.unregister(sock.fileno())

    def close(self, sock: socket.socket) -> None:
        """Close a socket, watched or not."""
        self.ignore(sock)
        self._sockets.discard(sock)
        sock.close()

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        """Call once, this many milliseconds from now."""
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now() + ms / 1000, next(self._count), timer))
        return timer

    def cancel(self, timer: Timer) -> None:
        """Do not call; harmless after the call."""
        if timer.call is None:
            return
        timer.call = None
        self._cancelled += 1
        if self._cancelled > max(_MOST_CANCELLED, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def run(self) -> None:
        """Serve until :meth:`stop`, then close every socket."""
        try:
            while not self._stopping:
                self.turn(self._timeout())
        finally:
            for sock in list(self._sockets):
                self.close(sock)
            self._poller.close()

    def turn(self, seconds: float | None) -> bool:
        """Wait for a socket, call what waits for those that are ready, and then what is due.

        Args:
            seconds: how long to wait at most; None for ever.

        Returns:
            Whether a socket was ready.
        """
        ready = self._poller.wait(seconds)
        for descriptor, events in ready:
            # An earlier handler may have closed this one.
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler(events)
        self._call_timers()
        return bool(ready)

    def stop(self) -> None:
        """End :meth:`run`; may be called from another thread or from a signal handler."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    @property
    def next_due(self) -> float | None:
        """When the next timer is due, in the time of ``now``; None without any."""
        return self._timers[0][0] if self._timers else None

    def _timeout(self) -> float | None:
        due = self.next_due
        return None if due is None else max(0.0, due - self.now())

    def _call_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now():
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled = max(0, self._cancelled - 1)
            else:
                call()


class _Poller:
    """epoll(7), or poll(2) where there is none.

    Not a selector of the standard library: that cannot wait for a reset alone, which is all there
    is to wait for on a connection that is not being read.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poll = self._epoll or select.poll()
        self.register = self._poll.register
        self.modify = self._poll.modify
        self.unregister = self._poll.unregister

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        if self._epoll is not None:
            return self._epoll.poll(seconds)
        # Rounded up, so that a timer is due when the wait ends.
        return self._poll.poll(None if seconds is None else int(seconds * 1000) + 1)

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
