"""Log lines that do not become a flood.

What happens once is worth a line; what happens ten thousand times a second,
as in an overload or an attack, is worth one that counts.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

# Seconds between two lines of one kind.
_INTERVAL = 1.0


class Tally:
    """Logs the first event of a kind at once, and those of the next second in one line."""

    def __init__(self, log: Logger, clock: IReactorTime) -> None:
        """Make a tally that has seen nothing.

        :param log: where the lines go, as warnings.
        :param clock: what counts the time.
        """
        self._log = log
        self._clock = clock
        # For each kind told in this second: how many more there were, and the last one's line.
        self._more: dict[str, tuple[int, dict[str, Any]]] = {}

    def tell(self, kind: str, line: str, **members: Any) -> None:
        """Log an event, or count it if one of its kind was logged within a second.

        :param kind: what it is counted under.
        :param line: the line, as for ``twisted.logger``.
        :param members: what the line names.
        """
        if kind in self._more:
            count, _ = self._more[kind]
            self._more[kind] = (count + 1, {"line": line, **members})
            return
        self._log.warn(line, **members)
        self._watch(kind)

    def _watch(self, kind: str) -> None:
        self._more[kind] = (0, {})
        self._clock.callLater(_INTERVAL, self._sum_up, kind)

    def _sum_up(self, kind: str) -> None:
        count, members = self._more.pop(kind)
        if not count:
            return
        line = members.pop("line")
        if count > 1:
            line += " (and {more} more of this kind within a second)"
            members["more"] = count - 1
        self._log.warn(line, **members)
        self._watch(kind)
