"""Whether a shrunk failure of several connections mixes up their bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.explain.frame import marked
from echoproto.probe.search.reproduced import Reproduced
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["told_by_marks"]


def told_by_marks(found: Reproduced, hold: Callable[[Session], Outcome]) -> Reproduced:
    """Return a failure as cross-talk if it is, which shrinking leaves too few bytes to see.

    Args:
        found: the shrunk failure.
        hold: runs a session.
    """
    wrong = (Fault.CORRUPT, Fault.EXTRA)
    if len(found.session.conversations) == 1 or found.outcome.kind not in wrong:
        return found
    if hold(marked(found.session)).kind is not Fault.CROSS_TALK:
        return found
    outcome, index = found.outcome, found.outcome.index
    verdicts = list(outcome.verdicts)
    verdicts[index] = dataclasses.replace(verdicts[index], kind=Fault.CROSS_TALK)
    return dataclasses.replace(
        found, outcome=dataclasses.replace(outcome, verdicts=tuple(verdicts))
    )
