"""Warnings that do not become a flood.

An event that happens once is worth a line. One that happens ten thousand times a
second, as in an overload or an attack, is worth one line that counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

# Seconds between two lines of one kind.
_INTERVAL = 1.0
# How many sources a line names.
_NAMED = 3


@dataclass
class _Repeated:
    """The events of one kind since its last line."""

    timer: IDelayedCall
    count: int = 0
    line: str = ""
    members: dict[str, Any] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)


class RateLimitedLog:
    """Logs the first event of a kind at once, and those of the next second in one line."""

    def __init__(self, log: Logger, clock: Callable[[], IReactorTime]) -> None:
        """Make a log that has seen nothing.

        :param log: where the warnings go.
        :param clock: returns what counts the time.
        """
        self._log = log
        self._clock = clock
        self._repeated: dict[str, _Repeated] = {}

    def warn(self, kind: str, line: str, source: str | None = None, **members: Any) -> None:
        """Log an event, or count it if one of its kind was logged within a second.

        :param kind: what it is counted under.
        :param line: the line, as for ``twisted.logger``.
        :param source: the client's; a line that counts names those with the most events.
        :param members: what the line names.
        """
        repeated = self._repeated.get(kind)
        if repeated is None:
            self._log.warn(line, **members)
            self._start_interval(kind)
            return
        repeated.count += 1
        repeated.line, repeated.members = line, members
        if source is not None:
            repeated.sources[source] += 1

    def flush(self) -> None:
        """Log now what would be summed up later."""
        repeated, self._repeated = self._repeated, {}
        for each in repeated.values():
            each.timer.cancel()
            self._sum_up(each)

    def _start_interval(self, kind: str) -> None:
        self._repeated[kind] = _Repeated(
            self._clock().callLater(_INTERVAL, self._end_interval, kind)
        )

    def _end_interval(self, kind: str) -> None:
        repeated = self._repeated.pop(kind)
        if repeated.count:
            self._sum_up(repeated)
            self._start_interval(kind)

    def _sum_up(self, repeated: _Repeated) -> None:
        line = repeated.line
        if repeated.count > 1:
            repeated.members["more"] = repeated.count - 1
            line += " (and {more} more in the last second"
            if repeated.sources:
                repeated.members["sources"] = _enumerated(repeated.sources)
                line += "; in total {sources}"
            line += ")"
        if repeated.count:
            self._log.warn(line, **repeated.members)


def _enumerated(sources: Counter[str]) -> str:
    named = [f"{count} from {source}" for source, count in sources.most_common(_NAMED)]
    others = len(sources) - len(named)
    return ", ".join(named) + (f", and others from {others} more sources" if others else "")
