"""What a campaign is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from echoproto.probe.wire.limits import CONNECT_TIMEOUT, PATIENCE
from echoproto.probe.wire.verdict import Fault

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The options of a campaign; the defaults are those of the command line.

    Attributes:
        examples: how many sessions to draw in the fuzz phase.
        seed: the same seed and version of Hypothesis draw the same sessions.
        max_time: seconds for the whole campaign; None for no limit.
        shrink: whether to look for the shortest session that fails.
        explain: whether to find out by experiment what about a failure matters.
        retries: how often a candidate that passes is tried again while shrinking a flaky
            failure, at most.
        rate: maximum connections per second; None for no limit.
        parallel: maximum number of simultaneous connections.
        exclude: kinds that do not count as failures.
        tokens: byte strings to draw more often, in addition to the built-in ones.
        sizes: payload sizes to draw more often, in addition to the built-in ones.
        window: how many independent sessions to hold at the same time; None to find it.
        timeout: seconds that every wait for an answer takes at least.
        connect_timeout: seconds that connecting may take.
        patience: seconds after which silence is a fault; what comes before is late.
        max_delay: seconds after which what comes is a failure, too; None for no limit.
        known: ids of saved failures that are not reported, and whose causes are avoided.
        idle: seconds that a connection is silent at most, or its reader holds, in the background;
            the campaign waits for it. None for 5, without waiting.
        crowd: how many connections one case opens at once; None for that of the catalogue.
        cases: numbers of the catalogue to run instead of everything, e.g. ``("E-017",)``.
    """

    examples: int = 1000
    seed: int = 0
    max_time: float | None = None
    shrink: bool = True
    explain: bool = True
    retries: int = 100
    rate: float | None = None
    parallel: int = 64
    exclude: frozenset[Fault] = frozenset()
    tokens: tuple[bytes, ...] = ()
    sizes: tuple[int, ...] = ()
    window: int | None = None
    timeout: float = 0.0
    connect_timeout: float = CONNECT_TIMEOUT
    patience: float = PATIENCE
    max_delay: float | None = None
    known: tuple[str, ...] = ()
    idle: float | None = None
    crowd: int | None = None
    cases: tuple[str, ...] = ()
