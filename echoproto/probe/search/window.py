"""How many independent sessions are held at the same time. Pure logic."""

from __future__ import annotations

from collections import deque

__all__ = ["Window"]

_FIRST = 4
_MOST = 64

# The shortest of so many round trips says whether they grow: one by itself may be late for any
# reason. What grows by so much has waited for other sessions, on the path or at its end.
_RECENT = 12
_SLOWER = 2.0
_SLOWER_SECONDS = 0.005


class Window:
    """The number of sessions that may be under way.

    It grows by one for each session that passes, up to twice its size at a time, as long as
    round trips stay as they were. It shrinks to half when they do not, and when a connection
    fails that a single one would not have: the path bears fewer.

    Args:
        size: a fixed number; None to find it.
        most: the largest number.

    Attributes:
        alone: whether one session is held after the other for now, whatever the size.
        bears: how many connections at once the path is known to refuse; None if it is not.
    """

    def __init__(self, size: int | None = None, most: int = _MOST) -> None:
        self._fixed = size is not None
        self._most = most if size is None else size
        self.alone = False
        self._size = min(_FIRST, most) if size is None else size
        self.bears: int | None = None
        self._passed = 0
        self._usual = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    @property
    def size(self) -> int:
        """How many may be under way now."""
        return 1 if self.alone else self._size

    def passed(self, round_trips: list[float]) -> None:
        """Take a session that passed into account, with its round trips in seconds."""
        if self._fixed:
            return
        self._recent.extend(round_trips)
        self._passed += 1
        if self._passed < self._size:
            return
        self._passed = 0
        if self._is_slower():
            self._size = max(1, self._size // 2)
            self._recent.clear()
        elif self.bears is None:
            self._size = min(2 * self._size, self._most)
        else:
            # Past what was refused it never goes.
            self._size = min(self._size + 1, max(1, self.bears - 1))

    def refused(self, under_way: int) -> None:
        """Shrink: a connection failed beside others that passes alone.

        Args:
            under_way: how many connections there were.
        """
        self.bears = min(self.bears or under_way, under_way)
        if not self._fixed:
            self._size = max(1, min(self._size, under_way) // 2)
        self._passed = 0

    def close(self) -> None:
        """From now on, hold one after the other: the path mixes its connections up."""
        self._fixed = True
        self._size = 1

    def _is_slower(self) -> bool:
        if len(self._recent) < _RECENT:
            return False
        now = min(self._recent)
        if not self._usual or now < self._usual:
            self._usual = now
        return now > _SLOWER * self._usual + _SLOWER_SECONDS
