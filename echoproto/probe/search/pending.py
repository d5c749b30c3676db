"""Failing sessions that are to be explained, and the order in which that is done."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.edits import joined
from echoproto.probe.search.pool import Held
from echoproto.probe.search.shrink import length
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

__all__ = ["Pending", "passed", "with_what_went_before"]

# Of a path's faults, those come first that a path seldom has for another reason: every other
# fault closes something late, few mix connections up.
_TELLING = (
    Fault.CROSS_TALK,
    Fault.CORRUPT,
    Fault.EXTRA,
    Fault.TRUNCATED,
    Fault.RESET,
    Fault.STALLED,
    Fault.REFUSED,
    Fault.DELAYED,
    Fault.NEVER_CLOSED,
)


# A session that waits so long by itself is reproduced after the others, the longest ones last.
_WAITS, _LONG = 0.5, 12.0


@dataclass(frozen=True)
class Pending:
    """A failing session that is not explained yet.

    Attributes:
        record: the index of its record in the result.
        outcome: of its first run.
        found_by: as in :class:`Failure`.
        beside: the sessions that were under way with it.
        history: the sessions that ended just before it began.
        saved: whether it is a saved failure, which is not shrunk again.
        silence: whether it is that of a connection without a byte for a while.
        fin: as in :class:`Candidate`.
        cut_off: whether it failed as the path went away, with others.
    """

    record: int
    outcome: Outcome
    found_by: str
    beside: tuple[Session, ...] = ()
    history: tuple[Session, ...] = ()
    saved: bool = False
    silence: bool = False
    fin: bool = True
    cut_off: bool = False

    @property
    def candidate(self) -> Candidate:
        """The session, as it was run."""
        return Candidate(self.outcome.session, self.fin)

    @property
    def together(self) -> tuple[Session, ...]:
        """The session with those beside it, and after those before it."""
        session = self.outcome.session
        return (
            joined([session, *self.beside]),
            joined([*self.history, session], sequential=True),
        )

    @property
    def order(self) -> tuple[int, ...]:
        """The key by which shrinking begins: the most telling, then the quickest to run.

        What waits comes later; of this a silence first, as it may explain the others.
        """
        conversations = self.outcome.session.conversations
        sent = sum(len(conversation.payload) for conversation in conversations)
        waits = max(conversation.own_seconds for conversation in conversations)
        waits = 0 if waits < _WAITS else waits if waits > _LONG else 1
        telling = _TELLING.index(self.outcome.kind)
        return (
            not self.saved,
            int(waits),
            not self.silence,
            telling,
            sent // 10_000,
            *length(self.outcome.session),
        )


def passed(session: Session) -> Outcome:
    """Return the outcome of a session that counts as passed without being run."""
    verdicts = (Verdict(Fault.NONE, "a known failure explains it"),) * len(session.conversations)
    return Outcome(session, verdicts, ((),) * len(verdicts), 0.0)


def with_what_went_before(held: Held) -> Outcome:
    """Return the outcome, as that of a session that begins with the one before it.

    A session that could not even send broke nothing: what ended just before it may have.
    """
    outcome = held.outcome
    if any(verdict.sent for verdict in outcome.verdicts) or not held.history:
        return outcome
    before = held.history[-1].conversations
    passed = Verdict(Fault.NONE, "this one passed")
    return dataclasses.replace(
        outcome,
        session=Session((*before, *outcome.session.conversations), sequential=True),
        verdicts=(passed,) * len(before) + outcome.verdicts,
        timelines=((),) * len(before) + outcome.timelines,
    )
