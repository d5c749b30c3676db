"""Holds independent sessions at the same time, and knows which were under way together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.plan import Planned
from echoproto.probe.search.window import Window
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.loop import Loop
from echoproto.probe.wire.running import Running
from echoproto.probe.wire.verdict import Outcome

__all__ = ["Held", "Pool", "Room"]

_HISTORY = 8
_BESIDE = 16
_TICK = 0.25  # seconds after which it is seen that a session is late
_MOST_LATE = 128


@dataclass(eq=False)
class Held:
    """One session of a phase, from its start to its outcome.

    Attributes:
        planned: what is held, and its name.
        running: its exchanges.
        history: the sessions that ended just before it began, latest last: the path may
            remember something of them.
        under_way: how many connections there were at once, its own included.
        beside: sessions that were under way at the same time, the last ones.
        first: what it repeats by itself, having failed beside others; else None.
        passed_alone: how often it was repeated so, and passed.
        late: whether it waits longer than expected.
        apart: whether it takes no place in the window, because it waits by itself.
        ended: when, in ``time.monotonic`` seconds.
    """

    planned: Planned
    running: Running
    history: tuple[Session, ...]
    under_way: int
    beside: deque[Held] = field(default_factory=lambda: deque(maxlen=_BESIDE))
    first: Held | None = None
    passed_alone: int = 0
    late: bool = False
    apart: bool = False
    ended: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """Its outcome; only once it has ended."""
        assert self.running.outcome is not None
        return self.running.outcome

    @property
    def session(self) -> Session:
        """The session."""
        return self.planned.session


class Room(NamedTuple):
    """What sessions under way may take together.

    Attributes:
        connections: how many may be open.
        bytes: how many may be sent; infinite for no limit.
    """

    connections: int
    bytes: float


class Pool:
    """The sessions under way on one path.

    A session that is late stays open, and leaves its place to the next one.

    Args:
        connector: where to connect.
        limits: called for the limits of each session: of one that ends with a FIN, or without.
        window: how many may be under way.
        room: what all of them may take, the late ones not counted.
    """

    def __init__(
        self,
        connector: Connector,
        limits: Callable[[bool], Limits],
        window: Window,
        room: Room,
    ) -> None:
        self.window = window
        self._connector = connector
        self._limits = limits
        self._room = room
        self._loop = Loop()
        self._held: dict[Running, Held] = {}
        self._ended: list[Held] = []
        self._history: deque[Session] = deque(maxlen=_HISTORY)

    @property
    def in_time(self) -> list[Held]:
        """The sessions under way in the window: not late, and not apart."""
        return [held for held in self._held.values() if not held.late and not held.apart]

    @property
    def apart(self) -> list[Held]:
        """The sessions under way that are apart, and still wait by themselves."""
        return [held for held in self._held.values() if held.apart and not held.late]

    @property
    def late(self) -> list[Held]:
        """The sessions under way that are late."""
        return [held for held in self._held.values() if held.late]

    def has_room(self, planned: Planned) -> bool:
        """Return whether another session may begin now."""
        in_time = self.in_time
        if not in_time:
            return len(self.late) < _MOST_LATE
        if len(in_time) >= self.window.size or len(self.late) >= _MOST_LATE:
            return False
        connections = sum(held.planned.parallel for held in in_time + self.apart)
        connections += planned.parallel
        size = sum(held.planned.size for held in in_time) + planned.size
        return connections <= self._room.connections and size <= self._room.bytes

    def hold(self, planned: Planned, first: Held | None = None, apart: bool = False) -> None:
        """Begin a session.

        Args:
            planned: which.
            first: as in :class:`Held`.
            apart: the same.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory; so do the others.
        """
        running = Running(planned.session, self._connector, self._limits(planned.fin))
        others = self.in_time
        held = Held(
            planned,
            running,
            tuple(self._history),
            sum(other.planned.parallel for other in others) + planned.parallel,
            first=first,
            apart=apart,
        )
        held.beside.extend(others)
        for other in () if apart else others:
            other.beside.append(held)
            other.under_way = max(other.under_way, held.under_way)
        self._held[running] = held
        self._loop.add(running)
        self._end([running])

    @property
    def has_ended(self) -> bool:
        """Whether a session has ended that :meth:`turn` has not returned yet."""
        return bool(self._ended)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is under way at all."""
        return not self._held

    @property
    def has_connection(self) -> bool:
        """Whether anything under way has a connection; what is in between two has none."""
        return any(held.running.active for held in self._held.values())

    def turn(self, wait: bool = True) -> list[Held]:
        """Return the sessions that have ended since.

        Args:
            wait: whether to wait until something happens, for a while at most.
        """
        if not self._ended and self._held:
            self._turn(time.monotonic() + _TICK * wait)
        ended, self._ended = self._ended, []
        return ended

    def drop(self, held: Held) -> None:
        """Give up a session without an outcome."""
        self._loop.remove(held.running)
        self._held.pop(held.running, None)

    def give_up(self, held: Held) -> None:
        """Conclude a late session without waiting for what is missing."""
        held.running.give_up(time.monotonic())
        self._loop.remove(held.running)
        self._end([held.running])

    def run_alone(self, session: Session, limits: Limits) -> Outcome:
        """Run a session beside none but the late ones, and those that are apart."""
        (outcome,) = self.run_together([session], limits)
        return outcome

    def run_together(self, sessions: Sequence[Session], limits: Limits) -> list[Outcome]:
        """Run sessions at the same time; return their outcomes in order."""
        running = [Running(session, self._connector, limits) for session in sessions]
        for one in running:
            self._loop.add(one)
        while any(one.outcome is None for one in running):
            self._turn(time.monotonic() + _TICK)
        return [one.outcome for one in running if one.outcome is not None]

    def close(self) -> None:
        """Give up all sessions."""
        self._loop.close()
        self._held.clear()

    def _turn(self, until: float) -> None:
        self._end(self._loop.turn(until))
        now = time.monotonic()
        for held in self._held.values():
            held.late = held.late or held.running.is_late(now)

    def _end(self, done: list[Running]) -> None:
        for running in done:
            if running.outcome is not None and (held := self._held.pop(running, None)) is not None:
                held.ended = time.monotonic()
                if not held.apart:
                    self._history.append(held.session)
                self._ended.append(held)
