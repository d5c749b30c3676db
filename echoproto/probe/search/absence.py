"""From a connection that failed after a time without any to the shortest such time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from echoproto.probe.script.conversation import Absent, Conversation, Session
from echoproto.probe.search.explain.explanation import Effect, Explanation, Need
from echoproto.probe.search.explain.needs import roundest
from echoproto.probe.search.explain.suspects import suspects_of
from echoproto.probe.search.reproduced import NotAgain, Reproduced
from echoproto.probe.search.silence import Silence
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["shortest_absence"]

Run = Callable[[Session], Outcome]

# What fails without the time needs to fail once in so many runs, which are quick.
_CONTROLS = 3
# The time is found to this part of it, in so many seconds of waiting.
_CLOSE, _SECONDS = 0.07, 10.0
_DOES = {
    Fault.RESET: (Effect.RESET, "resets"),
    Fault.REFUSED: (Effect.REFUSED, "refuses"),
    Fault.TRUNCATED: (Effect.TRUNCATED, "closes"),
    Fault.STALLED: (Effect.WITHHELD, "sends nothing back on"),
    Fault.NEVER_CLOSED: (Effect.WITHHELD, "does not close"),
}


def shortest_absence(
    first: Outcome, run: Run, deadline: float, explaining: bool
) -> Silence | NotAgain | None:
    """Find out after how long without a connection a path fails the next one.

    Each run takes as long as the time itself, and nothing can be run beside it.

    Args:
        first: the failing session: conversations in turn, one of which has such a time before it.
        run: runs a session, while there is no other connection.
        deadline: when to begin no more, in ``time.monotonic`` seconds.
        explaining: whether to look for the shortest time.

    Returns:
        None if it fails without the time too, so that it is another failure.
    """
    return _Search(first, run, deadline, explaining).run()


class _Search:
    def __init__(self, first: Outcome, run: Run, deadline: float, explaining: bool) -> None:
        self._best = first
        self._run_one = run
        self._until = min(deadline, time.monotonic() + _SECONDS) if explaining else 0.0
        self._high = max(c.absent_ms for c in first.session.conversations)
        self._low = 0
        self._failed = self._runs = self._ran = 0

    def run(self) -> Silence | NotAgain | None:
        whole = self._best.session
        if any(not self._run(_with(whole, 0)).ok for _ in range(_CONTROLS)):
            return None
        for session in (_shortest(self._high), whole):
            self._runs += 1
            outcome = self._run(session)
            if not outcome.ok:
                self._best, self._failed = outcome, 1
                self._runs = 1  # what is too short to show it is no contradiction
                break
        if not self._failed:
            return NotAgain(self._ran)
        self._narrow()
        found = Reproduced(self._best.session, self._best, self._failed, self._runs, self._ran)
        return Silence(found, self._explanation())

    def _run(self, session: Session) -> Outcome:
        self._ran += 1
        return self._run_one(session)

    def _narrow(self) -> None:
        middle = self._high // 2
        while self._high - self._low > _CLOSE * self._high:
            if time.monotonic() + middle / 1000 > self._until:
                return
            outcome = self._run(_with(self._best.session, middle))
            if outcome.ok:
                self._low = middle
            else:
                self._high, self._best = middle, outcome
                self._failed, self._runs = self._failed + 1, self._runs + 1
            middle = (self._low + self._high) // 2

    def _explanation(self) -> Explanation | None:
        if self._best.kind not in _DOES or not self._until:
            return None
        effect, does = _DOES[self._best.kind]
        time_ = roundest(self._low, self._high)
        passes = f" ({self._low / 1000:g} s pass)" if self._low else ""
        explanation = Explanation(
            text=f"{does} the first connection after {time_ / 1000:g} s without any{passes}",
            effect=effect,
            needs=(Need.NO_CONNECTION,),
            pause_ms=time_,
            rate=(self._failed, self._runs),
            conversations=self._ran,
        )
        return replace(explanation, suspects=suspects_of(explanation))


def _shortest(ms: int) -> Session:
    """Return the shortest session with such a time; without a connection before, none begins."""
    return Session((Conversation(), Conversation((Absent(ms),))), sequential=True)


def _with(session: Session, ms: int) -> Session:
    """Return a session with another time, or none."""

    def changed(conversation: Conversation) -> Conversation:
        if not conversation.absent_ms:
            return conversation
        steps = conversation.steps[1:]
        return Conversation((Absent(ms), *steps) if ms else steps)

    return replace(session, conversations=tuple(map(changed, session.conversations)))
