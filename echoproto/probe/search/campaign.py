"""A whole run of the probe: preflight, saved failures, catalogue, fuzz, and shrinking between.

The campaign fills a :class:`CampaignResult` as it goes and tells an :class:`Observer`; it prints
nothing and writes nothing but the saved failures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
import time
import warnings
from collections import deque

from hypothesis import HealthCheck, Verbosity, given, seed, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis.errors import HypothesisWarning

from echoproto.probe.script.catalogue import catalogue
from echoproto.probe.script.conversation import Session
from echoproto.probe.script.strategies import sessions
from echoproto.probe.search.failures import SavedFailures, SavedFailuresError
from echoproto.probe.search.preflight import FIRST_STALLS, preflight
from echoproto.probe.search.reproduce import TIMED, Reproduced, comes_again, reproduce
from echoproto.probe.search.result import (
    CampaignResult,
    CaseRecord,
    Failure,
    Observer,
    Phase,
    Preflight,
    Settings,
)
from echoproto.probe.search.shrink import contains, length
from echoproto.probe.wire.channel import Connector, LocalError
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Campaign", "limits", "preflight"]

# A path that fails everything would take a timeout for each conversation still to come, and
# tell nothing new.
_IN_A_ROW = 25
_KNOWN_AGAIN = 10
_MAX_FAILURES = 10
_SHRINK_SECONDS = 30.0

_MAX_ROUND_TRIPS = 5000
_HISTORY = 8
_SAVED_TRIES = 20


def limits(known: Preflight, stall: float) -> Limits:
    """The limits of an exchange on a path of which the preflight is known.

    Args:
        known: what the preflight found.
        stall: seconds without progress that end a wait.
    """
    trips = sorted(known.round_trips)
    grace = max(3 * trips[len(trips) // 2], 0.002) if trips else known.timeout
    return Limits(stall=stall, half_close=known.half_close, grace=grace)


class _EnoughError(Exception):
    """Ends the drawing; Hypothesis has no other way out."""


@dataclasses.dataclass(frozen=True)
class _Pending:
    """A failing session that is not explained yet."""

    record: int
    outcome: Outcome
    found_by: str
    history: tuple[Session, ...] = ()
    saved: bool = False


def _cost(pending: _Pending) -> tuple[int, ...]:
    """By what is quick to hold, then by what is short: shrinking starts where it is cheap."""
    sent = sum(len(conversation.payload) for conversation in pending.outcome.session.conversations)
    return (sent // 10_000, *length(pending.outcome.session))


class Campaign:
    """One run.

    Args:
        target: where to.
        settings: what to do.
        observer: is told what happens.
        saved: the failures on disk.
    """

    def __init__(
        self,
        target: Target,
        settings: Settings,
        observer: Observer | None = None,
        saved: SavedFailures | None = None,
    ) -> None:
        self.result = CampaignResult(target=target.words, settings=settings)
        self._target = target
        self._settings = settings
        self._observer = observer or Observer()
        self._saved = saved or SavedFailures()
        self._began = time.monotonic()
        self._deadline = self._began + (settings.max_time or math.inf)
        self._phase = Phase.PREFLIGHT
        self._phase_began = self._began
        self._history: deque[Session] = deque(maxlen=_HISTORY)
        self._pending: list[_Pending] = []
        self._stall_confirmed = False
        self._connector: Connector
        self._known: Preflight

    def run(self) -> CampaignResult:
        """All phases. Whatever happens is in the result; also when the user interrupts it."""
        result = self.result
        try:
            self._run_phases()
        except KeyboardInterrupt:
            result.interrupted = True
            for pending in self._pending:
                if not self._is_explained(pending):
                    as_seen = Reproduced(pending.outcome.session, pending.outcome, 1, 1, 0)
                    self._explain(pending, as_seen)
        except (TargetError, LocalError) as error:
            result.error = str(error)
        self._end_phase()
        result.seconds = time.monotonic() - self._began
        if (spent := result.phase_seconds.get(Phase.FUZZ, 0.0)) > 0:
            result.rate = result.counts[Phase.FUZZ] / spent
        return result

    def _run_phases(self) -> None:
        self._enter(Phase.PREFLIGHT, None)
        self._connector, self._known = preflight(self._target, self._settings.rate)
        self.result.preflight = self._known
        trips = sorted(self._known.round_trips)
        self._observer.note(
            f"{self._known.address}: round trip {1000 * trips[len(trips) // 2]:.3g} ms, "
            f"{self._known.half_close_in_words}"
        )
        if not self._settings.cases:
            self._replay_saved()
        self._run_catalogue()
        self._shrink_pending()
        if self._settings.examples and not self._settings.cases:
            self._fuzz()
            self._shrink_pending()

    # Phases.

    def _replay_saved(self) -> None:
        saved, wrong = self._saved.load()
        for line in wrong:
            self._observer.note(f"saved failure skipped: {line}")
        if not saved:
            return
        self._enter(Phase.SAVED, len(saved))
        for failure in saved:
            if self._out_of_time():
                return
            # As often as it takes to see one in ten: a flaky failure that passes once is not
            # mended.
            for _ in range(min(_SAVED_TRIES, self._settings.retries) + 1):
                outcome = self._run_session(failure.session)
                if failed := self._failed(outcome):
                    break
            index = self._record(failure.id, failure.comment, outcome)
            try:
                self._saved.mark(failure, passed=not failed)
            except SavedFailuresError as error:
                self._observer.note(f"not marked: {error}")
            if failed:
                self._pending.append(_Pending(index, outcome, failure.id, saved=True))
            else:
                self.result.passing.append(failure.id)
                self._observer.note(f"saved failure {failure.id} passes now: {failure.session}")

    def _run_catalogue(self) -> None:
        chosen = [
            case
            for case in catalogue()
            if not self._settings.cases or case.number in self._settings.cases
        ]
        skipped = [case.number for case in chosen if case.parallel > self._settings.parallel]
        chosen = [case for case in chosen if case.parallel <= self._settings.parallel]
        if skipped:
            self._observer.note(f"more than --parallel connections: {', '.join(skipped)} left out")
        self._enter(Phase.CATALOGUE, len(chosen))
        in_a_row = 0
        for number, case in enumerate(chosen, 1):
            if self._out_of_time():
                return
            history = tuple(self._history)
            outcome = self._run_session(case.session)
            index = self._record(case.number, case.name, outcome)
            in_a_row = in_a_row + 1 if (failed := self._failed(outcome)) else 0
            if failed:
                self._pending.append(_Pending(index, outcome, case.number, history))
            if in_a_row == _IN_A_ROW and number < len(chosen):
                self._observer.note(f"{in_a_row} cases in a row failed: the rest is left out")
                return

    def _fuzz(self) -> None:
        examples = self._settings.examples
        self._enter(Phase.FUZZ, examples)
        strategy = sessions(
            self._settings.tokens,
            self._settings.sizes,
            half_close=self._known.half_close,
            parallel=self._settings.parallel,
        )
        enough = False

        # Only the drawing is Hypothesis's: what to hold again and what is shorter is decided
        # in reproduce.py and shrink.py, for every failure alike.
        @seed(self._settings.seed)
        @settings(
            max_examples=examples,
            phases=(HypothesisPhase.generate,),
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(strategy)
        def draw(session: Session) -> None:
            nonlocal enough
            # Hypothesis asks for a failing example once more: the answer must be the same.
            enough = enough or not self._fuzz_one(session)
            if enough:
                raise _EnoughError

        with warnings.catch_warnings(), contextlib.suppress(_EnoughError):
            # It thinks that the session that ends the drawing will be printed.
            warnings.simplefilter("ignore", HypothesisWarning)
            draw()

    def _fuzz_one(self, session: Session) -> bool:
        """Hold what was drawn; whether to go on."""
        if self._out_of_time():
            return False
        history = tuple(self._history)
        outcome = self._run_session(session)
        index = self._record(str(self.result.counts[Phase.FUZZ]), "", outcome)
        if not self._failed(outcome):
            return True
        pending = _Pending(index, outcome, "fuzz", history)
        if not self._is_explained(pending):
            self._pending.append(pending)
            return False
        self.result.known += 1
        if self.result.known >= _KNOWN_AGAIN:
            self._observer.note(
                f"{self.result.known} conversations ran into a failure found before: "
                "mend it, or --exclude its kind, to look further"
            )
            return False
        return True

    def _shrink_pending(self) -> None:
        if not self._pending:
            return
        self._enter(Phase.SHRINK, None)
        self._pending.sort(key=_cost)
        until = time.monotonic() + _SHRINK_SECONDS
        while self._pending:
            # It stays in the list until it is explained, for the user who interrupts.
            pending = self._pending[0]
            if not self._is_explained(pending):
                if len(self.result.failures) >= _MAX_FAILURES or time.monotonic() > until:
                    self._observer.note(f"{len(self._pending)} more are not told apart")
                    self._pending.clear()
                    return
                self._reproduce(pending)
            del self._pending[0]

    def _reproduce(self, pending: _Pending) -> None:
        began = time.monotonic()
        found = reproduce(
            pending.outcome,
            self._run_candidate,
            history=pending.history,
            shrinking=self._settings.shrink and not pending.saved,
            retries=self._settings.retries,
            half_close=self._known.half_close,
            deadline=self._deadline,
        )
        if found is None:
            self._ignore_transient(pending.outcome)
        elif (same := self._index(found.session)) is not None:
            self._set_explained(pending.record, same)
        else:
            self._explain(pending, found, time.monotonic() - began)

    # What was found.

    def _explain(self, pending: _Pending, found: Reproduced, seconds: float = 0.0) -> None:
        """Add a failure, and save it."""
        verdict = found.outcome.verdict
        saved = None
        try:
            saved = self._saved.save(
                found.session,
                [
                    f"{verdict.kind}: {verdict.message}",
                    f"found by {pending.found_by}, reproduced {found.reproduced} of {found.runs}",
                ],
                shlex.join(self._target.words),
            )
        except SavedFailuresError as error:
            self._observer.note(f"not saved: {error}")
        failure = Failure(
            kind=verdict.kind,
            session=found.session,
            outcome=found.outcome,
            found=pending.outcome.session,
            found_by=pending.found_by,
            reproduced=found.reproduced,
            runs=found.runs,
            shrink_runs=found.shrink_runs,
            seconds=seconds,
            id=saved,
            target=self._target.words,
        )
        self.result.failures.append(failure)
        self._set_explained(pending.record, len(self.result.failures) - 1)
        self._observer.failure(failure)

    def _is_explained(self, pending: _Pending) -> bool:
        """Whether the session contains a failure already found; noted in its record.

        One that never came again explains nothing: it may have been another's doing.
        """
        for index, failure in enumerate(self.result.failures):
            if failure.reproduced and contains(pending.outcome.session, failure.session):
                self._set_explained(pending.record, index)
                return True
        return False

    def _index(self, session: Session) -> int | None:
        """The index of the failure with just this session, if any."""
        sessions = [failure.session for failure in self.result.failures]
        return sessions.index(session) if session in sessions else None

    def _set_explained(self, record: int, by: int) -> None:
        records = self.result.records
        records[record] = dataclasses.replace(records[record], explained_by=by)

    def _failed(self, outcome: Outcome) -> bool:
        """Whether any verdict of the session counts as a failure."""
        excluded = self._settings.exclude
        return any(not v.ok and v.kind not in excluded for v in outcome.verdicts)

    def _ignore_transient(self, outcome: Outcome) -> None:
        self.result.transients += 1
        self._observer.note(
            f"one pause that did not come again is not counted: {outcome.verdict.message}"
        )

    # Holding one.

    def _run_session(self, session: Session) -> Outcome:
        """Hold a session of a phase.

        A busy machine, here or there, looks like a stall; so the first one must come again,
        with more patience.
        """
        before = tuple(self._history)
        outcome = self._run_once(session)
        if self._stall_confirmed or outcome.kind not in TIMED or not self._failed(outcome):
            self._history.append(session)
            return self._count(outcome)
        if not comes_again(outcome, self._run_candidate, before, self._settings.retries):
            self._ignore_transient(outcome)
            outcome = self._run_once(session)
        else:
            self._stall_confirmed = True
        self._history.append(session)
        return self._count(outcome)

    def _run_once(self, session: Session) -> Outcome:
        timeouts = 2 if self._stall_confirmed else FIRST_STALLS
        stall = timeouts * self._known.timeout
        return run(session, self._connector, limits(self._known, stall))

    def _run_candidate(self, session: Session, patient: bool) -> Outcome:
        """Hold a session in order to reproduce or shrink; excluded kinds are no failure."""
        stall = self._known.patience if patient else self._known.timeout
        outcome = run(session, self._connector, limits(self._known, stall))
        if self._phase is Phase.SHRINK:
            self._count(outcome)
            record = self._as_record(str(self.result.counts[Phase.SHRINK]), "", outcome)
            self._observer.record(record)
        excluded = self._settings.exclude
        if not any(verdict.kind in excluded for verdict in outcome.verdicts):
            return outcome
        verdicts = (
            dataclasses.replace(v, kind=Fault.NONE) if v.kind in excluded else v
            for v in outcome.verdicts
        )
        return dataclasses.replace(outcome, verdicts=tuple(verdicts))

    def _count(self, outcome: Outcome) -> Outcome:
        result = self.result
        result.counts[self._phase] += 1
        result.kinds[outcome.kind] += 1
        result.bytes_sent += sum(verdict.sent for verdict in outcome.verdicts)
        room = _MAX_ROUND_TRIPS - len(result.round_trips)
        result.round_trips += outcome.round_trips[:room]
        return outcome

    def _record(self, name: str, title: str, outcome: Outcome) -> int:
        """Note a session held; its index among the records, if it is kept, else -1."""
        record = self._as_record(name, title, outcome)
        self._observer.record(record)
        if self._phase is Phase.FUZZ and outcome.ok:
            return -1
        self.result.records.append(record)
        return len(self.result.records) - 1

    def _as_record(self, name: str, title: str, outcome: Outcome) -> CaseRecord:
        return CaseRecord(
            phase=self._phase,
            name=name,
            title=title,
            script=str(outcome.session),
            kind=outcome.kind,
            message=outcome.verdict.message,
            seconds=outcome.seconds,
            sent=sum(verdict.sent for verdict in outcome.verdicts),
            received=sum(verdict.received for verdict in outcome.verdicts),
        )

    # Time.

    def _enter(self, phase: Phase, total: int | None) -> None:
        self._end_phase()
        self._phase, self._phase_began = phase, time.monotonic()
        self._observer.phase(phase, total)

    def _end_phase(self) -> None:
        spent = time.monotonic() - self._phase_began
        seconds = self.result.phase_seconds
        seconds[self._phase] = seconds.get(self._phase, 0.0) + spent
        self._phase_began = time.monotonic()

    def _out_of_time(self) -> bool:
        return time.monotonic() >= self._deadline
