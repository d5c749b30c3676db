"""Waits for the events of any number of sessions, in one thread."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterator

from echoproto.probe.wire.exchange import Exchange
from echoproto.probe.wire.running import Running

__all__ = ["Loop"]

# epoll(7) is used only where there is nothing better to do: a longer wait is cut.
_LONGEST_WAIT = 3600.0


class Loop:
    """Sessions under way, and the descriptors that they wait for."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[int, tuple[Running, Exchange, int]] = {}
        self._sessions: dict[Running, list[int]] = {}
        self._wakes: dict[Running, float] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Running]:
        return iter(self._sessions)

    def add(self, running: Running) -> None:
        """Begin a session.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory.
        """
        self._sessions[running] = []
        try:
            running.start(time.monotonic())
        except BaseException:
            self.remove(running)
            raise
        self._watch(running)

    def remove(self, running: Running) -> None:
        """Give up a session, and release its sockets."""
        self._forget(running, self._sessions.pop(running, []))
        self._wakes.pop(running, None)
        running.drop()

    def turn(self, until: float = math.inf) -> list[Running]:
        """Wait for events, and handle them; return the sessions that are done.

        Args:
            until: when to return at the latest, in ``time.monotonic`` seconds.

        Raises:
            LocalError: as :meth:`add` does.
        """
        wake = min(min(self._wakes.values(), default=math.inf), until)
        wait = min(wake - time.monotonic(), _LONGEST_WAIT)
        # Rounded up: waking early would spin until the moment comes.
        ready = self._poll.poll(max(0, int(wait * 1000) + 1) if wait > 0 else 0)
        now = time.monotonic()
        touched: dict[Running, None] = {}
        for fd, events in ready:
            running, exchange, _ = self._watched[fd]
            touched[running] = None
            if not exchange.done:
                running.on_ready(exchange, events, now)
        for running, at in list(self._wakes.items()):
            # What has an event has done what it could.
            if at <= now and running not in touched:
                touched[running] = None
                running.advance(now)
        for running in touched:
            self._watch(running)
        return [running for running in touched if running.outcome is not None]

    def close(self) -> None:
        """Give up all sessions."""
        for running in list(self._sessions):
            self.remove(running)

    def _watch(self, running: Running) -> None:
        """Register the descriptors that the session now waits for."""
        if running.outcome is not None:
            self.remove(running)
            return
        wanted = {e.fd: (running, e, mask) for e in running.active if (mask := e.mask())}
        self._forget(running, [fd for fd in self._sessions[running] if fd not in wanted])
        for fd, entry in wanted.items():
            if self._watched.get(fd) != entry:
                self._poll.register(fd, entry[2])
                self._watched[fd] = entry
        self._sessions[running] = list(wanted)
        self._wakes[running] = running.wake()

    def _forget(self, running: Running, descriptors: list[int]) -> None:
        for fd in descriptors:
            # A closed descriptor's number may be that of another session's new socket by now.
            if (watched := self._watched.get(fd)) is not None and watched[0] is running:
                del self._watched[fd]
                self._poll.unregister(fd)
