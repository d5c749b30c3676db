"""What comes of running a failing session again."""

from __future__ import annotations

from dataclasses import dataclass

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.explain.explanation import Explanation
from echoproto.probe.wire.verdict import Outcome

__all__ = ["NotAgain", "PathGoneError", "Reproduced"]


@dataclass(frozen=True)
class Reproduced:
    """What is known of a failure in the end.

    Attributes:
        session: the shortest found.
        outcome: of one of its failing runs.
        reproduced: how often it failed ...
        runs: ... in so many runs.
        shrink_runs: sessions run on the way.
    """

    session: Session
    outcome: Outcome
    reproduced: int
    runs: int
    shrink_runs: int


@dataclass(frozen=True)
class NotAgain:
    """A failure that never came again, in so many runs: not one of the path, as far as is known."""

    runs: int


class PathGoneError(Exception):
    """Nothing works on the path any more, and it did not come back.

    Args:
        outcome: of the first session since then, to which nothing came back.
        since: what is known of it, in a sentence.
        explanation: if it is the number of connections, after how many.

    Attributes:
        found: the failure that was looked at by then, as far as it was shrunk; None without one.
        told: the index of the failure that says so by now, if any.
    """

    def __init__(self, outcome: Outcome, since: str, explanation: Explanation | None) -> None:
        super().__init__(since)
        self.outcome = outcome
        self.explanation = explanation
        self.found: Reproduced | None = None
        self.told: int | None = None
