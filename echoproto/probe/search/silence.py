"""From a connection that failed after a silence to the shortest silence that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from echoproto.probe.script.conversation import Conversation, Pause, Send, Session
from echoproto.probe.search.background import silent
from echoproto.probe.search.explain.explanation import Effect, Explanation, Need
from echoproto.probe.search.explain.needs import roundest
from echoproto.probe.search.explain.suspects import suspects_of
from echoproto.probe.search.reproduce import NotAgain, Reproduced
from echoproto.probe.wire.verdict import Action, Fault, Outcome

__all__ = ["Silence", "Together", "shortest_silence"]

Together = Callable[[Sequence[Session]], list[Outcome]]
"""Runs sessions at the same time, or in turn if the path bears few, and returns their outcomes."""

_ROUNDS = 2
_LENGTHS = 8
# A silence is found to this part of it; a path that closes shows it at once.
_CLOSE = 0.02
_EFFECTS = {
    Fault.RESET: Effect.RESET,
    Fault.TRUNCATED: Effect.TRUNCATED,
    Fault.STALLED: Effect.WITHHELD,
    Fault.NEVER_CLOSED: Effect.WITHHELD,
}


@dataclass(frozen=True)
class Silence:
    """What is known of a failure that needs a silence: how it recurs, and what it is."""

    found: Reproduced
    explanation: Explanation | None


def shortest_silence(
    first: Outcome, together: Together, passes_ms: int, deadline: float
) -> Silence | NotAgain | None:
    """Find out after how long a silence a path forgets a connection.

    Several lengths are tried at the same time, so that each round takes as long as one.

    Args:
        first: the failing session: a send, a pause, a send.
        together: runs sessions.
        passes_ms: a silence that is known to pass, in milliseconds.
        deadline: when to begin no more, in ``time.monotonic`` seconds.

    Returns:
        None if it fails without the silence too, so that it is another failure.
    """
    return _Search(first, together, passes_ms, deadline).run()


class _Search:
    def __init__(self, first: Outcome, together: Together, passes_ms: int, deadline: float) -> None:
        (conversation,) = first.session.conversations
        self._send = next(step for step in conversation.steps if isinstance(step, Send))
        self._first = first
        self._together = together
        self._high = _pause(first.session)
        self._low = passes_ms if passes_ms < self._high else 0
        self._deadline = deadline
        self._runs = self._failed = self._ran = 0

    def run(self) -> Silence | NotAgain | None:
        if time.monotonic() + self._high / 1000 > self._deadline:
            return Silence(Reproduced(self._first.session, self._first, 1, 1, 0), None)
        shortest = [Session((Conversation((Pause(self._high),)),))]
        shortest.append(Session((Conversation((Pause(self._high), Send(b"\0"))),)))
        without = silent(self._send, 0)
        *others, control = self._round([*shortest, self._first.session, without])
        if not control.ok:
            return None
        failing = [outcome for outcome in others if not outcome.ok]
        if not failing:
            return NotAgain(self._ran)
        best = failing[0]
        measured = _closed_after(best)
        for _ in range(_ROUNDS):
            if measured or self._high - self._low <= _CLOSE * self._high:
                break
            if time.monotonic() + self._high / 1000 > self._deadline:
                break
            best = self._narrow(best)
        found = Reproduced(best.session, best, self._failed, self._runs, self._ran)
        return Silence(found, self._explanation(best, measured))

    def _round(self, sessions: list[Session]) -> list[Outcome]:
        outcomes = self._together(sessions)
        self._ran += len(outcomes)
        fails = [not o.ok for o in outcomes if _pause(o.session) == self._high]
        # What the path does not do to a connection without a byte is no contradiction.
        self._failed, self._runs = self._failed + sum(fails), self._runs + sum(fails)
        return outcomes

    def _narrow(self, best: Outcome) -> Outcome:
        """Try lengths between one that passes and one that fails; return the shortest failing."""
        part = (self._high - self._low) / _LENGTHS
        lengths = [round(self._low + number * part) for number in range(1, _LENGTHS + 1)]
        sessions = [_with_pause(best.session, ms) for ms in lengths]
        outcomes = self._together(sessions)
        self._ran += len(outcomes)
        failing = None
        for ms, outcome in reversed(list(zip(lengths, outcomes, strict=True))):
            if outcome.ok:
                self._low = ms
                break
            failing = outcome
            self._high = ms
            self._failed, self._runs = self._failed + 1, self._runs + 1
        return failing or best

    def _explanation(self, best: Outcome, measured: int | None) -> Explanation | None:
        effect = _EFFECTS.get(best.kind)
        if effect is None:
            return None
        low, high = (measured - measured // 50, measured) if measured else (self._low, self._high)
        pause = roundest(low, high)
        if measured:
            what = "closes" if effect is Effect.TRUNCATED else "resets"
            text = f"{what} the connection after {_time(pause)} without a byte"
        else:
            does = {Effect.RESET: "resets the connection", Effect.TRUNCATED: "has closed it"}
            does_ = does.get(effect, "sends nothing back")
            text = (
                f"forgets a silent connection: {does_} when the client sends after "
                f"{_time(pause)} ({_time(self._low)} pass)"
            )
        explanation = Explanation(
            text=text,
            effect=effect,
            needs=(Need.PAUSE,),
            pause_ms=pause,
            rate=(self._failed, self._runs),
            conversations=self._ran,
        )
        return replace(explanation, suspects=suspects_of(explanation))


def _pause(session: Session) -> int:
    steps = session.conversations[0].steps
    return sum(step.ms for step in steps if isinstance(step, Pause))


def _with_pause(session: Session, ms: int) -> Session:
    steps = session.conversations[0].steps
    changed = tuple(Pause(ms) if isinstance(step, Pause) else step for step in steps)
    return Session((Conversation(changed),))


def _closed_after(outcome: Outcome) -> int | None:
    """Return after how many milliseconds without a byte the path itself closed, if it did."""
    events = outcome.timelines[0]
    paused = next((e.at for e in events if e.action is Action.PAUSED), None)
    ends = [e.at for e in events if e.action in (Action.GOT_EOF, Action.GOT_RESET)]
    if paused is None or not ends or ends[0] - paused >= _pause(outcome.session) / 1000:
        return None
    return round(1000 * (ends[0] - paused))


def _time(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:g} s"
