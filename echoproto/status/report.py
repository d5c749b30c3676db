"""What one process reports of its connections, and how several reports add up."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from echoproto.core.factory import EchoFactory
from echoproto.core.stats import Stats
from echoproto.net import passed_descriptors
from echoproto.status.lag import LoopLag


@dataclass(frozen=True)
class Report:
    """What one process reports at one moment.

    :ivar pid: the process; 0 for several.
    :ivar live: open connections.
    :ivar stats: what was counted, open connections included.
    :ivar sources: open connections of the busiest sources, as last counted, if they were
        asked for.
    :ivar descriptors: messages with which clients of UNIX sockets passed descriptors to
        the process.
    :ivar lag: seconds that the event loop was late when last measured.
    :ivar max_lag: the most seconds that it was late in the last minute.
    """

    pid: int = 0
    live: int = 0
    stats: Stats = field(default_factory=Stats)
    sources: Mapping[str, int] = field(default_factory=dict)
    descriptors: int = 0
    lag: float = 0.0
    max_lag: float = 0.0

    @classmethod
    def of(cls, factory: EchoFactory, lag: LoopLag, sources: Mapping[str, int]) -> Report:
        """Report on this process.

        :param factory: its connections.
        :param lag: of its event loop.
        :param sources: its busiest sources.
        """
        return cls(
            pid=os.getpid(),
            live=factory.live,
            stats=factory.stats,
            sources=sources,
            descriptors=passed_descriptors.total(),
            lag=lag.last,
            max_lag=lag.most,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**vars(self), "stats": self.stats.as_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """Return the report that :meth:`as_dict` gave, in this process or another."""
        return cls(**{**values, "stats": Stats.from_dict(values["stats"])})

    def ended(self) -> Report:
        """Return what still counts of it when its process has ended."""
        return replace(self, live=0, sources={}, lag=0.0, max_lag=0.0)

    def __add__(self, other: Report) -> Report:
        """Return the sum; the lag is that of the latest process."""
        return Report(
            live=self.live + other.live,
            stats=self.stats + other.stats,
            sources=Counter(self.sources) + Counter(other.sources),
            descriptors=self.descriptors + other.descriptors,
            lag=max(self.lag, other.lag),
            max_lag=max(self.max_lag, other.max_lag),
        )


def total(reports: Iterable[Report]) -> Report:
    """Add reports up."""
    return sum(reports, Report())
