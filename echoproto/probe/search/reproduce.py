"""From one failing session to a failure: does it recur, how often, how short can it be?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from echoproto.probe.script.conversation import Await, Conversation, HalfClose, Reset, Session
from echoproto.probe.search.shrink import shrink
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["TIMED", "Reproduced", "Run", "recurs", "reproduce"]

TIMED = frozenset({Fault.STALLED, Fault.NEVER_CLOSED})
"""Kinds judged by a timeout, which a busy machine can exceed too."""

Run = Callable[[Session, bool], Outcome]
"""Runs a session, patiently or not, and returns its outcome; ``NONE`` for an excluded kind."""

_FAILURES_FOR_A_RATE = 5
_NEEDED_TO_BE_SURE = 5
_FINAL_RUNS = 10
_MAX_FINAL_RUNS = 50
_RATE_SECONDS = 5.0
_SLOW_SECONDS = 0.5
_RECUR_SECONDS = 2.0
_SHRINK_SECONDS = 10.0
# How often a candidate of a failure with a known rate passes by chance, at most.
_MISS = 0.01


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
        run: runs a session.
        history: the sessions run just before it, latest last: the path may remember something
            of them.
        shrinking: whether to look for a shorter one.
        retries: how often to try a flaky one, at most.
        half_close: whether the end of a conversation is a FIN.
        deadline: in ``time.monotonic`` seconds; then the shortest so far is taken.

    Returns:
        None for a stall that never recurred: a busy machine, not a fault.
    """
    return _Reproduction(run, retries, deadline, half_close).reproduce(outcome, history, shrinking)


def recurs(outcome: Outcome, run: Run, history: Sequence[Session], retries: int) -> bool:
    """Return whether a failure is seen again with the long timeout.

    Args:
        outcome: the failure.
        run: runs a session.
        history: the sessions run before it: it is also tried after them.
        retries: how often to try it alone, at most.
    """
    session = outcome.session
    until = time.monotonic() + _RECUR_SECONDS
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
    def __init__(self, run: Run, retries: int, deadline: float, half_close: bool) -> None:
        self._run_once = run
        self._retries = retries
        self._deadline = deadline
        self._half_close = half_close
        self._patient = False
        self._runs = 0
        self._tries = 1
        # Twice in a row: the path may still be in the state that one run left it in.
        self._needed = 2
        self._failed: dict[Session, Outcome] = {}

    def reproduce(
        self, first: Outcome, history: Sequence[Session], shrinking: bool
    ) -> Reproduced | None:
        start, rate = self._seen_again(first.session, history)
        if not rate:
            return self._never_again(first)
        session = start
        if shrinking:
            shrunk = self._shrink_and_check(start, rate)
            if shrunk is None:
                return self._never_again(first)
            session, rate = shrunk
        failed, runs = self._count(session)
        if shrinking and rate == 1 and failed < runs and time.monotonic() < self._deadline:
            session, failed, runs = self._surer(start, session, failed, runs)
        found = self._failed.get(session, first)
        return Reproduced(session, found, failed, runs, self._runs)

    def _seen_again(self, first: Session, history: Sequence[Session]) -> tuple[Session, float]:
        """Return the session that fails again, with its rate: alone, or after others.

        The rate is 0 if it never failed again.
        """
        if rate := self._rate(first):
            return first, rate
        for before in (1, 3, len(history)):
            session = _in_turn([*history[-before:], first])
            if history and (rate := self._rate(session, at_most=3)):
                return session, rate
        return first, 0

    def _never_again(self, first: Outcome) -> Reproduced | None:
        if first.kind in TIMED:
            return None
        return Reproduced(first.session, first, 0, self._runs, 0)

    def _shrink_and_check(self, start: Session, rate: float) -> tuple[Session, float] | None:
        """Return the shortest session with the rate of ``start``; None if it never recurs."""
        session = self._shrink(start, rate)
        if self._failed[session].kind in TIMED and not self._fails_patiently(session):
            # The short timeout found something else: once more, with the long one.
            self._patient = True
            if not (rate := self._rate(start)):
                return None
            session = self._shrink(start, rate)
        return self._with_its_fin(session), rate

    def _surer(
        self, start: Session, session: Session, failed: int, runs: int
    ) -> tuple[Session, int, int]:
        """Return a session that fails more often than ``session`` did, if there is one.

        Args:
            start: the session that was shrunk, and failed every time.
            session: the shortest, which now passed sometimes.
            failed: how often ``session`` failed.
            runs: in how many runs.
        """
        failed_first, runs_first = self._count(start)
        if failed_first == runs_first:
            # It was shrunk into a race, while the longer one shows the fault every time.
            self._needed = _NEEDED_TO_BE_SURE
            surer = self._shrink(start, 1)
            again, runs_again = self._count(surer)
            if again * runs > failed * runs_again:
                return surer, again, runs_again
            return session, failed, runs
        # It is flaky after all: candidates that passed once may fail as well.
        session = self._shrink(session, max(failed_first, 1) / runs_first)
        session = self._with_its_fin(session)
        return (session, *self._count(session))

    def _count(self, session: Session) -> tuple[int, int]:
        """Return how often the session fails, in how many runs."""
        failed = runs = 0
        began = time.monotonic()
        # A flaky one is run until it has failed often enough for a rate worth reporting.
        while runs < _FINAL_RUNS or (
            failed < min(runs, _FAILURES_FOR_A_RATE) and runs < _MAX_FINAL_RUNS
        ):
            if runs and time.monotonic() > self._deadline:
                break
            if _is_slow_and_sure(failed, runs, began):
                break
            runs += 1
            failed += not self._run(session).ok
        return failed, runs

    def _run(self, session: Session) -> Outcome:
        self._runs += 1
        outcome = self._run_once(session, self._patient)
        if not outcome.ok:
            self._failed[session] = outcome
        return outcome

    def _rate(self, session: Session, at_most: int | None = None) -> float:
        """Return how often the session fails, from as few runs as possible; 0 for never."""
        failed = runs = 0
        began = time.monotonic()
        until = min(self._deadline, began + _RATE_SECONDS)
        while failed < _FAILURES_FOR_A_RATE and runs < (at_most or self._retries):
            if (runs and time.monotonic() > until) or _is_slow_and_sure(failed, runs, began):
                break
            runs += 1
            failed += not self._run(session).ok
        return failed / max(runs, 1)

    def _shrink(self, session: Session, rate: float) -> Session:
        if rate < 1:
            # Half the rate: so few runs may show twice the true one. And a part of it only: of
            # several conversations, each may be the one that fails.
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
        """Return the session with the FIN at its end written out, if it fails because of it."""
        if not self._half_close or (len(session.conversations) > 1 and not session.sequential):
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
        with_fin = ending(HalfClose())
        return with_fin if any(not self._run(with_fin).ok for _ in range(self._tries)) else session


def _is_slow_and_sure(failed: int, runs: int, began: float) -> bool:
    """Return whether each of some long runs failed: more of them would cost more than they show."""
    return failed == runs >= 3 and time.monotonic() - began > _SLOW_SECONDS


def _in_turn(sessions: Sequence[Session]) -> Session:
    return Session(tuple(c for session in sessions for c in session.conversations), True)
