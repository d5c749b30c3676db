"""From one failing session to a failure: does it come again, how often, how short can it be?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from echoproto.probe.script.conversation import Await, Conversation, HalfClose, Reset, Session
from echoproto.probe.search.shrink import shrink
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["TIMED", "Reproduced", "reproduce"]

TIMED = frozenset({Fault.STALLED, Fault.NEVER_CLOSED})
"""Kinds judged by a timeout, which a busy machine can exceed too."""

Run = Callable[[Session, bool], Outcome]
"""Holds a session, patiently or not, and gives its outcome; ``NONE`` for an excluded kind."""

_FAILURES_TO_KNOW_THE_RATE = 5
_TO_BE_SURE = 5
_RUNS_AT_THE_END = 10
_MAX_RUNS_AT_THE_END = 50
_RATE_SECONDS = 5.0
_SLOW_SECONDS = 0.5
_AGAIN_SECONDS = 2.0
_SHRINK_SECONDS = 10.0
# A candidate of a failure with a known rate passes wrongly once in so many times.
_MISS = 0.01


@dataclass(frozen=True)
class Reproduced:
    """What is known of a failure in the end.

    Attributes:
        session: the shortest found.
        outcome: of one of its failing runs.
        reproduced: how often it failed ...
        runs: ... in so many runs.
        shrink_runs: sessions held on the way.
    """

    session: Session
    outcome: Outcome
    reproduced: int
    runs: int
    shrink_runs: int


def reproduce(
    outcome: Outcome,
    run: Run,
    *,
    history: Sequence[Session] = (),
    shrinking: bool = True,
    retries: int = 100,
    half_close: bool = True,
    deadline: float = math.inf,
) -> Reproduced | None:
    """Run a failing session again, and ever shorter ones.

    Args:
        outcome: the failure, as it was first seen.
        run: holds a session.
        history: the sessions held just before it, latest last: a path may have kept something
            of them.
        shrinking: whether to look for a shorter one.
        retries: how often to try a flaky one, at most.
        half_close: whether the end of a conversation is a FIN.
        deadline: in ``time.monotonic`` seconds; then the shortest so far is taken.

    Returns:
        None for a pause that never came again: a busy machine, not a fault.
    """
    return _Reproduction(run, retries, deadline).reproduce(outcome, history, shrinking, half_close)


def comes_again(outcome: Outcome, run: Run, history: Sequence[Session], retries: int) -> bool:
    """Whether a failure is seen again, patiently: alone, or after what was held before it."""
    session = outcome.session
    until = time.monotonic() + _AGAIN_SECONDS
    for tried in range(retries):
        if not run(session, True).ok:
            return True
        if tried and time.monotonic() > until:
            break
    return any(
        not run(_in_turn([*history[-before:], session]), True).ok
        for before in (1, 3, len(history))
        if history
    )


class _Reproduction:
    def __init__(self, run: Run, retries: int, deadline: float) -> None:
        self._run_once = run
        self._retries = retries
        self._deadline = deadline
        self._patient = False
        self._runs = 0
        self._tries = 1
        # Twice in a row: what one run leaves behind in the path must not speak for another.
        self._needed = 2
        self._failed: dict[Session, Outcome] = {}

    def reproduce(
        self, first: Outcome, history: Sequence[Session], shrinking: bool, half_close: bool
    ) -> Reproduced | None:
        session = first.session
        rate = self._rate(session)
        if not rate:
            for before in (1, 3, len(history)):
                session = _in_turn([*history[-before:], first.session])
                if history and (rate := self._rate(session, at_most=3)):
                    break
            else:
                return self._never_again(first)
        start = session
        if shrinking:
            session = self._shrink(start, rate)
            if self._failed[session].kind in TIMED and not self._fails_patiently(session):
                # The short timeout took something else for this fault: once more, patiently.
                self._patient = True
                if not (rate := self._rate(start)):
                    return self._never_again(first)
                session = self._shrink(start, rate)
            if half_close:
                session = self._with_its_fin(session)
        failed, runs = self._count(session)
        if shrinking and rate == 1 and failed < runs and time.monotonic() < self._deadline:
            failed_first, runs_first = self._count(start)
            if failed_first == runs_first:
                # Shrunk into a race, while the longer one shows the fault every time.
                self._needed = _TO_BE_SURE
                surer = self._shrink(start, rate)
                again = self._count(surer)
                if again[0] * runs > failed * again[1]:
                    session, (failed, runs) = surer, again
            else:
                # Flaky after all: candidates that passed once may fail as well.
                rate = max(failed_first, 1) / runs_first
                session = self._shrink(session, rate)
                if half_close:
                    session = self._with_its_fin(session)
                failed, runs = self._count(session)
        found = self._failed.get(session, first)
        return Reproduced(session, found, failed, runs, self._runs)

    def _count(self, session: Session) -> tuple[int, int]:
        """How often the session fails, in how many runs."""
        failed = runs = 0
        began = time.monotonic()
        # A flaky one until it has failed often enough for a rate worth telling.
        while runs < _RUNS_AT_THE_END or (
            failed < min(runs, _FAILURES_TO_KNOW_THE_RATE) and runs < _MAX_RUNS_AT_THE_END
        ):
            if runs and time.monotonic() > self._deadline:
                break
            if _is_slow_and_sure(failed, runs, began):
                break
            runs += 1
            failed += not self._run(session).ok
        return failed, runs

    def _never_again(self, first: Outcome) -> Reproduced | None:
        if first.kind in TIMED:
            return None
        return Reproduced(first.session, first, 0, self._runs, 0)

    def _run(self, session: Session) -> Outcome:
        self._runs += 1
        outcome = self._run_once(session, self._patient)
        if not outcome.ok:
            self._failed[session] = outcome
        return outcome

    def _rate(self, session: Session, at_most: int | None = None) -> float:
        """How often the session fails, from as few runs as tell; 0 if it never did."""
        failed = runs = 0
        began = time.monotonic()
        until = min(self._deadline, began + _RATE_SECONDS)
        while failed < _FAILURES_TO_KNOW_THE_RATE and runs < (at_most or self._retries):
            if (runs and time.monotonic() > until) or _is_slow_and_sure(failed, runs, began):
                break
            runs += 1
            failed += not self._run(session).ok
        return failed / max(runs, 1)

    def _shrink(self, session: Session, rate: float) -> Session:
        if rate < 1:
            # Half the rate: what so few runs tell may be twice what is true. And a part of it
            # only: of several conversations, each may be the one that fails.
            one = rate / 2 / len(session.conversations)
            tries = math.ceil(math.log(_MISS) / math.log(1 - one))
            self._tries, self._needed = max(1, min(self._retries, tries)), 1
        else:
            self._tries = self._needed
        until = min(self._deadline, time.monotonic() + _SHRINK_SECONDS)
        return shrink(session, self._fails, lambda: time.monotonic() < until)

    def _fails(self, session: Session) -> bool:
        failed = 0
        for left in reversed(range(self._tries)):
            failed += not self._run(session).ok
            if failed == self._needed:
                return True
            if failed + left < self._needed:
                break
        return False

    def _fails_patiently(self, session: Session) -> bool:
        self._patient = True
        try:
            return any(not self._run(session).ok for _ in range(self._tries))
        finally:
            self._patient = False

    def _with_its_fin(self, session: Session) -> Session:
        """The session with the FIN at its end spelled out, if it is the FIN that matters."""
        if len(session.conversations) > 1 and not session.sequential:
            return session
        *others, last = session.conversations
        if last.steps and isinstance(last.steps[-1], Await | HalfClose | Reset):
            return session
        if any(isinstance(step, HalfClose) for step in last.steps):
            return session

        def ending(step: Await | HalfClose) -> Session:
            return Session((*others, Conversation((*last.steps, step))), session.sequential)

        if any(not self._run(ending(Await())).ok for _ in range(self._tries)):
            return session
        script = ending(HalfClose())
        return script if any(not self._run(script).ok for _ in range(self._tries)) else session


def _is_slow_and_sure(failed: int, runs: int, began: float) -> bool:
    """Whether every one of some long runs failed: more of them cost more than they tell."""
    return failed == runs >= 3 and time.monotonic() - began > _SLOW_SECONDS


def _in_turn(sessions: Sequence[Session]) -> Session:
    return Session(tuple(c for session in sessions for c in session.conversations), True)
