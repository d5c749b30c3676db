"""From a connection that failed after a silence to the shortest silence that fails.

The same for a connection from which nothing was read for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Hold,
    Pause,
    Send,
    Session,
    Step,
)
from echoproto.probe.search.background import silent
from echoproto.probe.search.explain.explanation import Effect, Explanation, Need, Size, Unit
from echoproto.probe.search.explain.needs import roundest
from echoproto.probe.search.explain.suspects import suspects_of
from echoproto.probe.search.reproduced import NotAgain, Reproduced
from echoproto.probe.wire.verdict import Action, Fault, Outcome

__all__ = ["Silence", "Together", "shortest_silence"]

Together = Callable[[Sequence[Session]], list[Outcome]]
"""Runs sessions at the same time, or in turn if the path bears few, and returns their outcomes."""

# So many rounds of so many lengths; what a reader leaves takes memory of this machine and the path.
_ROUNDS, _LENGTHS = 2, 8
_HELD_ROUNDS, _HELD_LENGTHS = 3, 4
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
    """What is known of a failure that needs a time in which nothing happens."""

    found: Reproduced
    explanation: Explanation | None


def shortest_silence(
    first: Outcome, together: Together, passes_ms: int, deadline: float
) -> Silence | NotAgain | None:
    """Find out after how long a silence a path forgets a connection.

    Several lengths are tried at the same time, so that each round takes as long as one.

    Args:
        first: the failing session: a send, a pause, a send; or a reader that holds.
        together: runs sessions.
        passes_ms: a silence that is known to pass, in milliseconds.
        deadline: when to begin no more, in ``time.monotonic`` seconds.

    Returns:
        None if it fails without the silence too, so that it is another failure.
    """
    if any(isinstance(step, Hold) for step in first.session.conversations[0].steps):
        return _HeldSearch(first, together, 0, deadline).run()
    return _Search(first, together, passes_ms, deadline).run()


class _Search:
    step: type[Pause | Hold] = Pause
    rounds, lengths = _ROUNDS, _LENGTHS

    def __init__(self, first: Outcome, together: Together, passes_ms: int, deadline: float) -> None:
        (conversation,) = first.session.conversations
        self.steps = conversation.steps
        self.send = next(step for step in self.steps if isinstance(step, Send))
        self._first = first
        self._together = together
        self.high = self._ms(first.session)
        self.low = passes_ms if passes_ms < self.high else 0
        self._deadline = deadline
        self.runs = self.failed = self.ran = 0

    def run(self) -> Silence | NotAgain | None:
        if time.monotonic() + self.high / 1000 > self._deadline:
            return Silence(Reproduced(self._first.session, self._first, 1, 1, 0), None)
        *others, control = self._round([*self.shorter(), self._first.session, self.control()])
        if not control.ok:
            return None
        failing = self.failing(others)
        if not failing:
            return NotAgain(self.ran)
        best = failing[0]
        measured = self._closed_after(best)
        for _ in range(self.rounds):
            if measured or self.high - self.low <= _CLOSE * self.high:
                break
            if time.monotonic() + self.high / 1000 > self._deadline:
                break
            best = self._narrow(best)
        found = Reproduced(best.session, best, self.failed, self.runs, self.ran)
        return Silence(found, self._explanation(best, measured))

    # What differs for a reader that holds.

    def shorter(self) -> list[Session]:
        """Return shorter sessions of the same time, that may fail as well: the shortest first."""
        pause = Pause(self.high)
        return [_session(pause), _session(pause, Send(b"\0"))]

    def control(self) -> Session:
        """Return the same without the time."""
        return silent(self.send, 0)

    def failing(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Return those that show this failure: the shortest first."""
        return [outcome for outcome in outcomes if not outcome.ok]

    def explained(self, best: Outcome, effect: Effect, measured: int | None) -> Explanation:
        """Return what is known, without the figures."""
        low, high = (measured - measured // 50, measured) if measured else (self.low, self.high)
        pause = roundest(low, high)
        if measured:
            what = "closes" if effect is Effect.TRUNCATED else "resets"
            text = f"{what} the connection after {_time(pause)} without a byte"
        else:
            does = {Effect.RESET: "resets the connection", Effect.TRUNCATED: "has closed it"}
            does_ = does.get(effect, "sends nothing back")
            text = (
                f"forgets a silent connection: {does_} when the client sends after "
                f"{_time(pause)} ({_time(self.low)} pass)"
            )
        return Explanation(text=text, effect=effect, needs=(Need.PAUSE,), pause_ms=pause)

    # Runs.

    def _round(self, sessions: list[Session]) -> list[Outcome]:
        outcomes = self._together(sessions)
        self.ran += len(outcomes)
        fails = [not o.ok for o in outcomes if self._ms(o.session) == self.high]
        # What the path does not do to a connection without a byte is no contradiction.
        self.failed, self.runs = self.failed + sum(fails), self.runs + sum(fails)
        return outcomes

    def _narrow(self, best: Outcome) -> Outcome:
        """Try lengths between one that passes and one that fails; return the shortest failing."""
        part = (self.high - self.low) / self.lengths
        lengths = [round(self.low + number * part) for number in range(1, self.lengths + 1)]
        outcomes = self._together([self._with(best.session, ms) for ms in lengths])
        self.ran += len(outcomes)
        failing = None
        for ms, outcome in reversed(list(zip(lengths, outcomes, strict=True))):
            if outcome.ok:
                self.low = ms
                break
            failing = outcome
            self.high = ms
            self.failed, self.runs = self.failed + 1, self.runs + 1
        return failing or best

    def _explanation(self, best: Outcome, measured: int | None) -> Explanation | None:
        effect = _EFFECTS.get(best.kind)
        if effect is None:
            return None
        explanation = replace(
            self.explained(best, effect, measured),
            rate=(self.failed, self.runs),
            conversations=self.ran,
        )
        return replace(explanation, suspects=suspects_of(explanation))

    def _ms(self, session: Session) -> int:
        return sum(s.ms for s in session.conversations[0].steps if isinstance(s, self.step))

    def _with(self, session: Session, ms: int) -> Session:
        steps = session.conversations[0].steps
        return _session(*(self.step(ms) if isinstance(s, self.step) else s for s in steps))

    def _closed_after(self, outcome: Outcome) -> int | None:
        """Return after how many milliseconds of the time the path itself closed, if it did."""
        begins = Action.PAUSED if self.step is Pause else Action.HELD
        events = outcome.timelines[0]
        began = next((e.at for e in events if e.action is begins), None)
        ends = [e.at for e in events if e.action in (Action.GOT_EOF, Action.GOT_RESET)]
        if began is None or not ends or ends[0] - began >= self._ms(outcome.session) / 1000:
            return None
        return round(1000 * (ends[0] - began))


class _HeldSearch(_Search):
    step = Hold
    rounds, lengths = _HELD_ROUNDS, _HELD_LENGTHS

    def shorter(self) -> list[Session]:
        """Return the same with less to read; first without a FIN, if there is one.

        The reader holds from the beginning, so that nothing is read before. Without an await, a FIN
        follows at once: each is tried with one too, which tells whether the failure needs the FIN.
        """
        (hold,) = (step for step in self.steps if isinstance(step, Hold))
        made = []
        for send in self._sends():
            made += [_session(hold, send), _session(hold, send, Await())]
        if HalfClose() in self.steps:
            made += [self._sending(send) for send in self._sends()]
        return [session for session in made if session != self._first.session]

    def failing(self, outcomes: list[Outcome]) -> list[Outcome]:
        failing = super().failing(outcomes)
        kinds = {outcome.session: outcome.kind for outcome in outcomes}
        kept = [o for o in failing if kinds.get(_awaited(o.session), o.kind) is o.kind]
        return kept or failing[-1:]

    def control(self) -> Session:
        return _session(*(step for step in self.steps if not isinstance(step, Hold)))

    def explained(self, best: Outcome, effect: Effect, measured: int | None) -> Explanation:
        # The path begins to count once its buffers are full, which is later than this side.
        high = measured or self.high
        hold = roundest(round(0.95 * (measured or self.low)), high)
        (conversation,) = best.session.conversations
        fin = HalfClose() in conversation.steps
        size = len(conversation.payload)
        does = {Effect.RESET: "resets the connection", Effect.TRUNCATED: "cuts the rest off"}
        return Explanation(
            text=f"{does.get(effect, 'sends nothing back')}, with {size} bytes or more in flight, "
            f"when the client {'sends FIN and ' if fin else ''}does not read for {_time(hold)}",
            effect=effect,
            size=Size(Unit.IN_FLIGHT, size),
            needs=(Need.FIN, Need.HOLD) if fin else (Need.HOLD,),
            hold_ms=hold,
        )

    def _sends(self) -> list[Send]:
        whole = self.send.payload
        return [Send(whole[:size]) for size in (len(whole) // 4, len(whole) // 2, len(whole))]

    def _sending(self, send: Send) -> Session:
        return _session(*(send if isinstance(step, Send) else step for step in self.steps))


def _session(*steps: Step) -> Session:
    return Session((Conversation(steps),))


def _awaited(session: Session) -> Session:
    return _session(*session.conversations[0].steps, Await())


def _time(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:g} s"
