"""What one test finds out about one target: it confirms a failure, and shrinks it once.

Hypothesis would shrink a failure too, but each of its attempts costs the network a connection, and
where bytes are missing a timeout. So the first failure that a test draws is shrunk here, as
``echoproto fuzz`` does it. From then on the test is a question without a network, namely whether a
conversation contains the shortest failure, which Hypothesis answers in a second.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.availability import Availability
from echoproto.probe.search.contains import contains
from echoproto.probe.search.edits import joined
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.reproduce import TIMED, reproduce
from echoproto.probe.search.reproduced import NotAgain, PathGoneError, Reproduced
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.open_session import OpenSession
from echoproto.probe.wire.run import run
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Checks", "Failed", "without"]

_HISTORY = 8
_RETRIES = 100
_RECUR_SECONDS = 2.0
_SHRINK_SECONDS = 30.0


@dataclass(frozen=True)
class Failed:
    """A failure, to be reported.

    Attributes:
        outcome: of a run of the shortest conversation known.
        reproduced: how often it failed again; None if it was not tried.
        runs: in how many runs.
        away: how long nothing worked after it, in seconds at most; 0 if the path works on.
        remark: that nothing has worked since, in a sentence; else empty.
    """

    outcome: Outcome
    reproduced: int | None = None
    runs: int = 0
    away: float = 0.0
    remark: str = ""


class Checks:
    """The checks of one test, with one target.

    Args:
        connector: where to connect.
        known: what the preflight found.
        availability: whether the target works at all; all tests share what is known of it.

    Attributes:
        ignored_stalls: how many stalls did not recur.
    """

    def __init__(self, connector: Connector, known: Preflight, availability: Availability) -> None:
        self.ignored_stalls = 0
        self._connector = connector
        self._known = known
        self._availability = availability
        self._history: deque[Session] = deque(maxlen=_HISTORY)
        self._first: Session | None = None
        self._shortest: Reproduced | None = None
        self._remark = ""  # on it
        self._needs_more = False  # than a session alone, to fail again

    def check(self, session: Session, excluded: Collection[Fault]) -> Outcome | Failed:
        """Run a session; a stall must recur to count.

        Args:
            session: to run.
            excluded: the kinds of fault that are no failure.

        Returns:
            the outcome if it passed, else the failure as it was seen.
        """
        history = tuple(self._history)
        outcome = self._run_once(session, True, excluded)
        try:
            if self._availability.look_after(outcome, not outcome.ok):
                outcome = self._run(session, True, excluded)
            if outcome.kind in TIMED and not self._recurs(session, excluded, history):
                self.ignored_stalls += 1
                outcome = self._run(session, True, excluded)
        except PathGoneError as gone:
            return Failed(outcome, remark=str(gone))
        self._history.append(session)
        return outcome if outcome.ok else Failed(outcome)

    def check_drawn(self, session: Session, excluded: Collection[Fault]) -> Outcome | Failed | None:
        """Run a session that Hypothesis drew, and shrink the first failure.

        Args:
            session: to run.
            excluded: the kinds of fault that are no failure.

        Returns:
            the outcome if it passed, else the shortest failure. None for a session that was not
            run, since a failure of this test is known and the session does not contain it.
        """
        if self.has_failed:
            return self.known_failure(session)
        return self.judge_drawn(self._run_once(session, True, excluded), excluded, session)

    @property
    def has_failed(self) -> bool:
        """Whether the shortest failure of this test is known, so that nothing more is run."""
        return self._shortest is not None

    def known_failure(self, session: Session) -> Failed | None:
        """Return the shortest failure of this test if a session contains it."""
        found = self._shortest
        if found is None or not self._is_known(session, found):
            return None
        return self._failed(found)

    def judge_drawn(
        self, outcome: Outcome, excluded: Collection[Fault], drawn: Session, alone: bool = True
    ) -> Outcome | Failed:
        """Shrink what Hypothesis drew if it failed.

        Args:
            outcome: of what was run, with the whole patience.
            excluded: the kinds of fault that are no failure.
            drawn: the session that Hypothesis drew; it fails again if it is drawn again.
            alone: whether nothing but the session was run. If not, a failure that does not recur
                without the rest is left for Hypothesis to shrink.

        Returns:
            the outcome if it passed, else the shortest failure known.
        """
        outcome, session = without(outcome, excluded), outcome.session
        history = tuple(self._history)
        self._history.append(session)
        if outcome.ok:
            self._availability.look_after(outcome, failed=False)
            return outcome
        if self._needs_more and not alone:
            return Failed(outcome)
        remark = ""
        try:
            if self._availability.look_after(outcome, failed=True):
                outcome = self._run(session, True, excluded)
                if outcome.ok:
                    return outcome  # nothing listened for a moment
            found = self._reproduce(outcome, excluded, history)
        except PathGoneError as gone:
            found, remark = gone.found or Reproduced(session, outcome, 1, 1, 0), str(gone)
        if isinstance(found, NotAgain):
            if not alone:
                self._needs_more = True
                return Failed(outcome)
            if outcome.kind in TIMED:
                self.ignored_stalls += 1
                return without(outcome, (*excluded, *TIMED))
            # Wrong bytes are wrong, however seldom.
            found = Reproduced(session, outcome, 0, found.runs, found.runs)
        self._first, self._shortest, self._remark = drawn, found, remark
        return self._failed(found)

    def passed(self, session: Session) -> None:
        """Note a session that was taken step by step, and passed."""
        self._history.append(session)

    def open(self) -> OpenSession:
        """Return a session to take step by step, with the whole patience."""
        if self._availability.goes_away:
            self._availability.wait()
        return OpenSession(self._connector, self._known.limits(self._known.patience))

    def _recurs(
        self, session: Session, excluded: Collection[Fault], history: Sequence[Session]
    ) -> bool:
        """Return whether a session fails again with the long timeout, alone or after others."""
        until = time.monotonic() + _RECUR_SECONDS
        for tried in range(_RETRIES):
            if not self._run(session, True, excluded).ok:
                return True
            if tried and time.monotonic() > until:
                break
        counts = sorted({1, 3, len(history)}) if history else []
        in_turn = [joined([*history[-count:], session], sequential=True) for count in counts]
        return any(not self._run(one, True, excluded).ok for one in in_turn)

    def _is_known(self, session: Session, found: Reproduced) -> bool:
        if session == self._first:
            return True
        # What never failed again says nothing about others.
        return bool(found.reproduced) and contains(session, found.session, self._known.half_close)

    def _reproduce(
        self, outcome: Outcome, excluded: Collection[Fault], history: Sequence[Session]
    ) -> Reproduced | NotAgain:
        return reproduce(
            outcome,
            lambda candidate, patient: self._run(candidate, patient, excluded),
            history=history,
            half_close=self._known.half_close,
            deadline=time.monotonic() + _SHRINK_SECONDS,
        )

    def _failed(self, found: Reproduced) -> Failed:
        away = self._availability.away_after(found.session)
        return Failed(found.outcome, found.reproduced, found.runs, away, self._remark)

    def _run(self, session: Session, patient: bool, excluded: Collection[Fault]) -> Outcome:
        """Run a session; once more if the path was away.

        Raises:
            PathGoneError: if nothing works any more.
        """
        (outcome,) = self._availability.run(
            lambda: [self._run_once(session, patient, excluded)], lambda one: not one.ok
        )
        return outcome

    def _run_once(self, session: Session, patient: bool, excluded: Collection[Fault]) -> Outcome:
        stall = self._known.patience if patient else self._known.timeout
        return without(run(session, self._connector, self._known.limits(stall)), excluded)


def without(outcome: Outcome, excluded: Collection[Fault]) -> Outcome:
    """Return the outcome, in which faults of the excluded kinds are none."""
    if not any(verdict.kind in excluded for verdict in outcome.verdicts):
        return outcome
    verdicts = tuple(
        dataclasses.replace(verdict, kind=Fault.NONE) if verdict.kind in excluded else verdict
        for verdict in outcome.verdicts
    )
    return dataclasses.replace(outcome, verdicts=verdicts)
