"""What one process has to tell of its connections, and how that of several adds up."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from echoproto.core.factory import DURATION_BOUNDS, EchoFactory
from echoproto.status.lag import LoopLag

# So many of the sources with the most connections are told. A source's
# connections spread evenly over the workers, so that one that leads in all of
# them together is, but for chance at the end of the list, among these in each.
_SOURCES = 50


@dataclass(frozen=True)
class Report:
    """What one process has to tell, at one moment.

    :ivar pid: the process; 0 for several.
    :ivar accepted: connections there have been, with the live ones.
    :ivar live: connections there are.
    :ivar failed: connections that ended in an error.
    :ivar silent: connections that ended without a byte.
    :ivar refused: clients that were turned away, for each reason.
    :ivar ended: connections that the server ended, for each reason.
    :ivar bytes_echoed: bytes returned.
    :ivar bytes_discarded: bytes that came too late in a drain.
    :ivar bytes_unreturned: bytes of idle connections that were not taken back.
    :ivar durations: connections that are over, by how long they took; see
        :class:`echoproto.EchoFactory`.
    :ivar seconds: how long those took, in all.
    :ivar sources: live connections of the busiest sources, if they were asked for.
    :ivar lag: seconds that the event loop was late when last looked at.
    :ivar max_lag: the most seconds that it was late in the last minute.
    """

    pid: int = 0
    accepted: int = 0
    live: int = 0
    failed: int = 0
    silent: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, int] = field(default_factory=dict)
    bytes_echoed: int = 0
    bytes_discarded: int = 0
    bytes_unreturned: int = 0
    durations: Sequence[int] = (0,) * (len(DURATION_BOUNDS) + 1)
    seconds: float = 0.0
    sources: Mapping[str, int] = field(default_factory=dict)
    lag: float = 0.0
    max_lag: float = 0.0

    @classmethod
    def of(cls, factory: EchoFactory, lag: LoopLag, sources: bool) -> Report:
        """Read a factory's counters.

        :param factory: of this process.
        :param lag: of this process.
        :param sources: whether to count the sources too, which looks at each
            live connection.
        """
        return cls(
            pid=os.getpid(),
            accepted=factory.accepted,
            live=factory.live,
            failed=factory.failed,
            silent=factory.silent,
            refused=dict(factory.refused),
            ended=dict(factory.ended),
            bytes_echoed=factory.bytes_echoed,
            bytes_discarded=factory.bytes_discarded,
            bytes_unreturned=factory.bytes_unreturned,
            durations=tuple(factory.durations),
            seconds=factory.seconds,
            sources=dict(factory.top_sources(_SOURCES)) if sources else {},
            lag=lag.last,
            max_lag=lag.most,
        )

    def as_message(self) -> dict[str, Any]:
        """Return it as members of a message between processes, from which a new one can be made."""
        return asdict(self)

    def over(self) -> Report:
        """Return what counts of it when its process is gone."""
        return replace(self, live=0, sources={}, lag=0.0, max_lag=0.0)


def total(reports: Iterable[Report]) -> Report:
    """Add up reports; the lag is that of the latest process."""
    result = Report()
    for each in reports:
        result = Report(
            accepted=result.accepted + each.accepted,
            live=result.live + each.live,
            failed=result.failed + each.failed,
            silent=result.silent + each.silent,
            refused=Counter(result.refused) + Counter(each.refused),
            ended=Counter(result.ended) + Counter(each.ended),
            bytes_echoed=result.bytes_echoed + each.bytes_echoed,
            bytes_discarded=result.bytes_discarded + each.bytes_discarded,
            bytes_unreturned=result.bytes_unreturned + each.bytes_unreturned,
            durations=[a + b for a, b in zip(result.durations, each.durations, strict=True)],
            seconds=result.seconds + each.seconds,
            sources=Counter(result.sources) + Counter(each.sources),
            lag=max(result.lag, each.lag),
            max_lag=max(result.max_lag, each.max_lag),
        )
    return result
