"""Log lines that do not become a flood.

What happens once is worth a line; what happens ten thousand times a second,
as in an overload or an attack, is worth one that counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

# Seconds between two lines of one kind.
_INTERVAL = 1.0

# How many a line names of those whose the events are.
_NAMED = 3


class RateLimitedLog:
    """Logs the first event of a kind at once, and those of the next second in one line."""

    def __init__(self, log: Logger, clock: IReactorTime) -> None:
        """Make a tally that has seen nothing.

        :param log: where the lines go, as warnings.
        :param clock: what counts the time.
        """
        self._log = log
        self._clock = clock
        # The kinds told within a second, and what has come since.
        self._since: dict[str, _Since] = {}

    def tell(self, kind: str, line: str, of: str | None = None, **members: Any) -> None:
        """Log an event, or count it if one of its kind was logged within a second.

        :param kind: what it is counted under.
        :param line: the line, as for ``twisted.logger``.
        :param of: whose it is; the line that counts names those with the most.
        :param members: what the line names.
        """
        since = self._since.get(kind)
        if since is None:
            self._log.warn(line, **members)
            self._watch(kind)
            return
        since.count += 1
        since.line, since.members = line, members
        if of is not None:
            since.of[of] += 1

    def flush(self) -> None:
        """Log now what would be summed up later."""
        since, self._since = self._since, {}
        for each in since.values():
            each.timer.cancel()
            self._say(each)

    def _watch(self, kind: str) -> None:
        timer = self._clock.callLater(_INTERVAL, self._sum_up, kind)
        self._since[kind] = _Since(timer)

    def _sum_up(self, kind: str) -> None:
        since = self._since.pop(kind)
        if since.count:
            self._say(since)
            self._watch(kind)

    def _say(self, since: _Since) -> None:
        if not since.count:
            return
        line = since.line
        if since.count > 1:
            since.members["more"] = since.count - 1
            line += " (and {more} more of this kind within a second"
            if since.of:
                since.members["of"] = _enumerated(since.of)
                line += ", in all {of}"
            line += ")"
        self._log.warn(line, **since.members)


@dataclass
class _Since:
    """What has come since the last line of a kind."""

    timer: IDelayedCall
    count: int = 0
    # The last one's.
    line: str = ""
    members: dict[str, Any] = field(default_factory=dict)
    of: Counter[str] = field(default_factory=Counter)


def _enumerated(counts: Counter[str]) -> str:
    named = [f"{number} of {whose}" for whose, number in counts.most_common(_NAMED)]
    others = len(counts) - len(named)
    return ", ".join(named) + (f", and those of {others} others" if others else "")
