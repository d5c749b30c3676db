"""Bytes on a long way: each leaves at its time, in order, and FIN behind them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from echoproto.probe.relay.connection import Direction
from echoproto.probe.relay.stage import Stage

__all__ = ["DelayLine"]


class DelayLine:
    """Holds back what goes in one direction; it counts for the backpressure.

    Args:
        stage: whose timers are used.
        direction: where the bytes count.
        deliver: passes bytes on.
        end: passes FIN on.

    Attributes:
        free: when the last of what is held back leaves, in the time of the stage.
        waiting: how many bytes are held back.
    """

    def __init__(
        self,
        stage: Stage,
        direction: Direction,
        deliver: Callable[[bytes], None],
        end: Callable[[], None],
    ) -> None:
        self._stage, self._direction = stage, direction
        self._deliver, self._end = deliver, end
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self.free = 0.0
        self.waiting = 0

    def put(self, data: bytes, due: float) -> None:
        """Send these bytes at a time, or later, if what came before leaves later."""
        self.waiting += len(data)
        self._direction.hold_back(len(data))
        self._add(data, due)

    def end(self, due: float = 0.0) -> None:
        """Send FIN at a time, or later; everything else has left by then."""
        self._add(None, due)

    def _add(self, data: bytes | None, due: float) -> None:
        self.free = max(self.free, due)
        self._queue.append((self.free, data))
        if len(self._queue) == 1:
            self._advance()

    def _advance(self) -> None:
        while self._queue:
            due, data = self._queue[0]
            left = due - self._stage.now()
            if left > 0:
                self._stage.later(1000 * left, self._advance)
                return
            self._queue.popleft()
            if data is None:
                self._end()
            else:
                self.waiting -= len(data)
                self._deliver(data)
                self._direction.hold_back(-len(data))
