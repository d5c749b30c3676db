"""From one failing session to a failure: does it recur, how often, how short can it be?"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Session,
    SlowRead,
)
from echoproto.probe.search.edits import joined
from echoproto.probe.search.reproduced import NotAgain, PathGoneError, Reproduced
from echoproto.probe.search.shrink import length, shrink
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["TIMED", "Run", "reproduce", "without_fin"]

TIMED = frozenset({Fault.STALLED, Fault.NEVER_CLOSED})
"""Kinds judged by a timeout, which a busy machine can exceed too."""

_CUT_OFF = frozenset({Fault.TRUNCATED, Fault.RESET, Fault.STALLED})

Run = Callable[[Session, bool], Outcome]
"""Runs a session, patiently or not, and returns its outcome; ``NONE`` for an excluded kind.

Raises PathGoneError if nothing works any more.
"""

_FAILURES_FOR_A_RATE = 5
_NEEDED_TO_BE_SURE = 5
_FINAL_RUNS = 10
_MAX_FINAL_RUNS = 50
_RATE_SECONDS = 5.0
_SLOW_SECONDS = 0.5
_SHRINK_SECONDS = 10.0
_COUNT_SECONDS = 20.0
# Timeouts do not count as time for shrinking until they add up to this, in seconds: on a slow path
# two of them would be all.
_MOST_WAITED = 30.0
_MOST_AT_ONCE = 64
# A candidate of a flaky failure has to fail so often, in as many runs as would fail thrice as often
# at the rate of the original: one with half of it is mostly kept, one with a tenth hardly ever.
# One that waits less has to fail at half the rate, in twice as many runs.
_NEEDED_TO_KEEP = 3
_EXPECTED = 9
# What passed in so many runs of the original's rate fails less often, or not at all.
_HOPELESS = 5


def reproduce(
    outcome: Outcome,
    run: Run,
    *,
    beside: Sequence[Session] = (),
    history: Sequence[Session] = (),
    shrinking: bool = True,
    retries: int = 100,
    half_close: bool = True,
    deadline: float = math.inf,
) -> Reproduced | NotAgain:
    """Run a failing session again, and ever shorter ones.

    It is run alone first, then beside the sessions that were under way, then after those that
    went before.

    Args:
        outcome: the failure, as it was first seen.
        run: runs a session.
        beside: the sessions that were under way at the same time, latest last.
        history: the sessions run just before it, latest last: the path may remember something
            of them.
        shrinking: whether to look for a shorter one.
        retries: how often to try a flaky one, at most.
        half_close: whether the end of a conversation is a FIN.
        deadline: in ``time.monotonic`` seconds; then the shortest so far is taken.

    Raises:
        PathGoneError: as ``run``, with the shortest so far.
    """
    others = [*_at_once(outcome.session, beside), *_after(outcome.session, history)]
    reproduction = _Reproduction(run, retries, deadline, half_close)
    try:
        return reproduction.reproduce(outcome, others, shrinking)
    except PathGoneError as gone:
        gone.found = reproduction.so_far(outcome)
        raise


def without_fin(kind: Fault) -> frozenset[Fault]:
    """Return what a fault of this kind can look like in the same session without its FIN."""
    return _CUT_OFF if kind in _CUT_OFF - TIMED else frozenset(Fault) - {Fault.NONE}


class _Reproduction:
    def __init__(self, run: Run, retries: int, deadline: float, half_close: bool) -> None:
        self._run_once = run
        self._retries = retries
        self._deadline = deadline
        self._half_close = half_close
        self._quick_until = time.monotonic() + _SHRINK_SECONDS
        self._patient = False
        self._runs = 0
        self._waited = 0.0  # for what did not come, in seconds
        # Twice in a row: the path may still be in the state that one run left it in.
        self._needed = 2
        self._needed_to_keep, self._expected = _NEEDED_TO_KEEP, _EXPECTED
        self._rate_of_one: float | None = None  # of one conversation, while a flaky one is shrunk
        self._kept: Session | None = None  # the shortest one so far
        self._kinds: Counter[tuple[Session, Fault]] = Counter()
        self._alike: dict[tuple[Session, Fault], Outcome] = {}
        self._failed: dict[Session, Outcome] = {}
        self._sure: dict[Session, Outcome] = {}  # those that failed with the whole patience

    def reproduce(
        self, first: Outcome, others: Sequence[Session], shrinking: bool
    ) -> Reproduced | NotAgain:
        start, rate = self._seen_again(first.session, others)
        if not rate:
            return NotAgain(self._runs)
        session = start
        if shrinking:
            shrunk = self._shrink_and_check(start, rate)
            if shrunk is None:
                return NotAgain(self._runs)
            session, rate = shrunk
        elif self._failed[session].kind in TIMED and not self._fails_patiently(session):
            return NotAgain(self._runs)
        failed, runs = self._count(session)
        if shrinking and time.monotonic() < self._deadline:
            if rate == 1 and failed < runs:
                session, failed, runs = self._surer(start, session, failed, runs)
            elif rate < 1 and time.monotonic() < self._quick_until:
                if failed / runs < rate / 2:
                    session, failed, runs = self._as_often(start, session, failed, runs)
                session, failed, runs = self._shorter(session, failed, runs)
        if not failed:
            return NotAgain(self._runs)
        # A wait of the whole patience says more than one of a trial.
        found = self._sure.get(session) or self._failed.get(session, first)
        return Reproduced(session, found, failed, runs, self._runs)

    def so_far(self, first: Outcome) -> Reproduced | None:
        """Return what is known of the shortest session so far; None if it never failed again."""
        session = self._kept or first.session
        failed = self._kinds[session, first.kind]
        if not failed:
            return None
        runs = failed + self._kinds[session, Fault.NONE]
        return Reproduced(session, self._alike[session, first.kind], failed, runs, self._runs)

    def _seen_again(self, first: Session, others: Sequence[Session]) -> tuple[Session, float]:
        """Return the session that fails again, with its rate: alone, or with others.

        The rate is 0 if it never failed again.
        """
        if rate := self._rate(first):
            return first, rate
        for session in others:
            if rate := self._rate(session, at_most=3):
                return session, rate
        return first, 0

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

    def _as_often(
        self, start: Session, session: Session, failed: int, runs: int
    ) -> tuple[Session, int, int]:
        """Return a session that fails at least half as often as ``start`` does now, if there is.

        The arguments are those of :meth:`_surer`, of a flaky failure. Of many candidates that fail
        seldom, one is kept by chance.
        """
        failed_first, runs_first = self._count(start)
        if 2 * failed * runs_first >= failed_first * runs:
            return session, failed, runs  # the path has changed
        self._needed_to_keep, self._expected = 2 * _NEEDED_TO_KEEP, _EXPECTED + _NEEDED_TO_KEEP
        shrunk = self._with_its_fin(self._shrink(start, failed_first / runs_first))
        again, runs_again = self._count(shrunk)
        if again * runs > failed * runs_again:
            return shrunk, again, runs_again
        return session, failed, runs

    def _shorter(self, session: Session, failed: int, runs: int) -> tuple[Session, int, int]:
        """Return a session that is shorter than the shortest of a flaky failure, if there is one.

        What passed by chance is tried again, by a rate that is known better now.
        """
        shrunk = self._with_its_fin(self._shrink(session, max(failed, 1) / runs))
        if length(shrunk) >= length(session):
            return session, failed, runs
        again, runs_again = self._count(shrunk)
        if 2 * again * runs < failed * runs_again:
            return session, failed, runs
        return shrunk, again, runs_again

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
            if runs >= _NEEDED_TO_BE_SURE and time.monotonic() - began > _COUNT_SECONDS:
                break
            runs += 1
            failed += not self._run(session).ok
        return failed, runs

    def _run(self, session: Session) -> Outcome:
        self._runs += 1
        outcome = self._run_once(session, self._patient)
        self._kinds[session, outcome.kind] += 1
        self._alike[session, outcome.kind] = outcome
        if outcome.kind in TIMED:
            self._waited += outcome.seconds
        if not outcome.ok:
            hasty = outcome.kind in TIMED and not self._patient
            # What came back wrong says more than a short timeout, which this machine's load can
            # exceed as well.
            if not hasty or self._failed.get(session, outcome).kind in TIMED:
                self._failed[session] = outcome
            if self._patient:
                self._sure[session] = outcome
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
        # Of several conversations, each may be the one that fails.
        self._rate_of_one = 1 - (1 - rate) ** (1 / len(session.conversations)) if rate < 1 else None
        self._kept = session
        until, waited = time.monotonic() + _SHRINK_SECONDS, self._waited

        def more() -> bool:
            now = time.monotonic()
            extra = min(self._waited - waited, _MOST_WAITED)
            return now < min(self._deadline, until + extra)

        return shrink(session, self._fails, more)

    def _fails(self, session: Session) -> bool:
        """Return whether a candidate fails, of a flaky failure at least half as often."""
        needed, tries, hopeless = self._needed_of(session)
        failed = 0
        began = time.monotonic()
        for left in reversed(range(tries)):
            if time.monotonic() - began > _SHRINK_SECONDS:
                break  # seconds for each run, and dozens of them
            failed += not self._run(session).ok
            if failed == needed:
                self._kept = session
                return True
            if failed + left < needed or (not failed and tries - left >= hopeless):
                break
        return False

    def _needed_of(self, session: Session) -> tuple[int, int, int]:
        """Return how often a candidate has to fail, in how many runs, and when to give up."""
        if self._rate_of_one is None:
            # What needs time fails by a race without it, too.
            needed = self._needed
            if self._kept is not None and _waits(session) < _waits(self._kept):
                needed = _NEEDED_TO_BE_SURE
            return needed, needed, needed
        rate = 1 - (1 - self._rate_of_one) ** len(session.conversations)
        needed, expected = self._needed_to_keep, self._expected
        if self._kept is not None and _waits(session) < _waits(self._kept):
            needed, expected = _EXPECTED, 2 * _EXPECTED
        tries = max(needed, min(self._retries, math.ceil(expected / rate)))
        return needed, tries, math.ceil(_HOPELESS / rate)

    def _again(self, session: Session) -> bool:
        """Return whether a session fails again, in as many runs as that may take."""
        return self._kind_again(session) is not Fault.NONE

    def _kind_again(self, session: Session) -> Fault:
        """Return how it fails again; ``NONE`` if it does not."""
        tries = 1 if self._rate_of_one is None else self._needed_of(session)[2]
        kinds = (self._run(session).kind for _ in range(min(tries, self._retries)))
        return next((kind for kind in kinds if kind is not Fault.NONE), Fault.NONE)

    def _fails_patiently(self, session: Session) -> bool:
        self._patient = True
        try:
            return self._again(session)
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

        if self._kind_again(ending(Await())) in without_fin(self._failed[session].kind):
            return session
        with_fin = ending(HalfClose())
        return with_fin if self._again(with_fin) else session


def _waits(session: Session) -> tuple[int, int, float]:
    """Return how much a session waits: slow readers, pauses, and how long both take."""
    steps = [step for conversation in session.conversations for step in conversation.steps]
    slow = sum(isinstance(step, SlowRead | Hold) for step in steps)
    pauses = sum(step.ms for step in steps if isinstance(step, Pause))
    fastest = min((step.rate for step in steps if isinstance(step, SlowRead)), default=0)
    return slow, pauses, -fastest


def _is_slow_and_sure(failed: int, runs: int, began: float) -> bool:
    """Return whether each of some long runs failed: more of them would cost more than they show."""
    return failed == runs >= 3 and time.monotonic() - began > _SLOW_SECONDS


def _at_once(first: Session, beside: Sequence[Session]) -> list[Session]:
    """Return sessions of ``first`` and of what was under way with it, all at once."""
    made = []
    for count in sorted({1, 3, len(beside)}) if beside else ():
        others = beside[-count:]
        made += [joined([first, *others]), joined([*others, first])]
    return [session for session in made if len(session.conversations) <= _MOST_AT_ONCE]


def _after(first: Session, history: Sequence[Session]) -> list[Session]:
    """Return sessions of what went before, and ``first``, in turn."""
    counts = sorted({1, 3, len(history)}) if history else []
    return [joined([*history[-count:], first], sequential=True) for count in counts]
