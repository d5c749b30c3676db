"""The counters of a factory: each is written down once, here.

Workers report them, metrics export them, and the status page shows them, all by these fields.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

# ruff: noqa: RUF009 (the helpers make fields)

# The upper bounds of the histogram of durations, in seconds.
DURATION_BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)


def _number(metric: str, meaning: str) -> Any:
    return field(default=0, metadata={"metric": metric, "meaning": meaning})


def _by_reason(metric: str, meaning: str) -> Any:
    return field(default_factory=Counter, metadata={"metric": metric, "meaning": meaning})


@dataclass
class Stats:
    """What was counted; two of them add up.

    The ``metadata`` of a field holds the name of its metric and what it counts.

    :ivar refused: by reason: ``source`` (its source is at its limit), ``proxy`` (no valid PROXY
        header), ``slots`` (no slot is free, on a port that cannot leave clients in its queue).
    :ivar ended: by reason: ``idle``.
    :ivar durations: closed connections by duration: for each of :data:`DURATION_BOUNDS` those that
        lasted up to it and longer than the one before; last, those that lasted longer than all.
    :ivar seconds: how long the closed connections lasted in total.
    """

    accepted: int = _number("connections_accepted", "Connections accepted, open ones included.")
    failed: int = _number(
        "connections_failed", "Connections that ended in an error: a reset, a timeout, an abort."
    )
    silent: int = _number(
        "connections_silent", "Connections that ended without a byte, as health checks do."
    )
    refused: Counter[str] = _by_reason("connections_refused", "Connections refused.")
    ended: Counter[str] = _by_reason("connections_ended", "Connections closed by the server.")
    dropped: int = _number(
        "connections_dropped", "Connections that had not closed when the service gave up on them."
    )
    bytes_echoed: int = _number("echoed_bytes", "Bytes returned.")
    bytes_discarded: int = _number(
        "discarded_bytes", "Bytes that arrived after the drain deadline and were not returned."
    )
    bytes_unreturned: int = _number(
        "unreturned_bytes",
        "Bytes not returned on idle connections because the client did not read.",
    )
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS) + 1))
    seconds: float = 0.0

    def add_duration(self, seconds: float) -> None:
        """Count a closed connection's duration.

        :param seconds: from accept to close.
        """
        self.seconds += seconds
        self.durations[bisect_left(DURATION_BOUNDS, seconds)] += 1

    def __add__(self, other: Stats) -> Stats:
        """Return the sums."""
        sums: dict[str, Any] = {}
        for each in fields(self):
            ours, theirs = getattr(self, each.name), getattr(other, each.name)
            both_lists = isinstance(ours, list)
            sums[each.name] = list(map(operator.add, ours, theirs)) if both_lists else ours + theirs
        return Stats(**sums)

    def as_dict(self) -> dict[str, Any]:
        """Return the counters as JSON can hold them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Stats:
        """Return the counters that :meth:`as_dict` gave.

        :param values: from this process or another.
        """
        counters: dict[str, Any] = {
            name: Counter(value) if isinstance(value, dict) else value
            for name, value in values.items()
        }
        return cls(**counters)
