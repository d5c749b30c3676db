"""What a campaign is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

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
        retries: how often a candidate that passes is tried again while shrinking a flaky
            failure, at most.
        rate: maximum connections per second; None for no limit.
        parallel: maximum number of simultaneous connections.
        exclude: kinds that do not count as failures.
        tokens: byte strings to draw more often, in addition to the built-in ones.
        sizes: payload sizes to draw more often, in addition to the built-in ones.
        cases: numbers of the catalogue to run instead of everything, e.g. ``("E-017",)``.
    """

    examples: int = 1000
    seed: int = 0
    max_time: float | None = None
    shrink: bool = True
    retries: int = 100
    rate: float | None = None
    parallel: int = 32
    exclude: frozenset[Fault] = frozenset()
    tokens: tuple[bytes, ...] = ()
    sizes: tuple[int, ...] = ()
    cases: tuple[str, ...] = ()
