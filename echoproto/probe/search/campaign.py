"""A whole run of the probe: preflight, saved failures, catalogue, fuzz, and shrinking between.

The campaign fills a :class:`CampaignResult` and informs an :class:`Observer` as it goes. It
prints nothing, and writes nothing but the saved failures.
"""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import dataclass

from echoproto.probe.script.catalogue import Case, catalogue
from echoproto.probe.script.conversation import Session
from echoproto.probe.script.strategies import sessions
from echoproto.probe.search.contains import contains
from echoproto.probe.search.draw import draw
from echoproto.probe.search.failures import SavedFailure, SavedFailures, SavedFailuresError
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.preflight import Preflight, preflight
from echoproto.probe.search.progress import Progress
from echoproto.probe.search.reproduce import Reproduced, reproduce
from echoproto.probe.search.result import CampaignResult, Failure, Phase
from echoproto.probe.search.runner import Runner
from echoproto.probe.search.settings import Settings
from echoproto.probe.search.shrink import length
from echoproto.probe.wire.channel import LocalError
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Outcome

__all__ = ["Campaign"]

# On a path that fails everything, each further conversation would take a timeout and show
# nothing new.
_IN_A_ROW = 25
_KNOWN_AGAIN = 10
_MAX_FAILURES = 10
_SHRINK_SECONDS = 30.0

_SAVED_TRIES = 20


@dataclass(frozen=True)
class _Pending:
    """A failing session that is not explained yet.

    Attributes:
        record: the index of its record in the result.
        outcome: of its first run.
        found_by: as in :class:`Failure`.
        history: the sessions run just before it.
        saved: whether it is a saved failure, which is not shrunk again.
    """

    record: int
    outcome: Outcome
    found_by: str
    history: tuple[Session, ...] = ()
    saved: bool = False

    @property
    def cost(self) -> tuple[int, ...]:
        """The key by which shrinking begins where it is cheap: quick to run, then short."""
        conversations = self.outcome.session.conversations
        sent = sum(len(conversation.payload) for conversation in conversations)
        return (sent // 10_000, *length(self.outcome.session))


class Campaign:
    """One run.

    Args:
        target: where to connect.
        settings: what to do.
        observer: informed of what happens.
        saved: the failures on disk.
        command: the command line that repeats the run, for the result.
    """

    def __init__(
        self,
        target: Target,
        settings: Settings,
        observer: Observer | None = None,
        saved: SavedFailures | None = None,
        command: str = "",
    ) -> None:
        self.result = CampaignResult(target.words, settings, command)
        self._target = target
        self._settings = settings
        self._saved = saved or SavedFailures()
        self._progress = Progress(self.result, observer or Observer())
        self._began = time.monotonic()
        self._deadline = self._began + (settings.max_time or math.inf)
        self._pending: list[_Pending] = []
        self._known: Preflight
        self._runner: Runner

    def run(self) -> CampaignResult:
        """Run all phases.

        Returns:
            the result, also of a campaign that could not test or was interrupted.
        """
        try:
            self._run_phases()
        except KeyboardInterrupt:
            self.result.interrupt()
            for pending in self._pending:
                if not self._is_explained(pending):
                    as_seen = Reproduced(pending.outcome.session, pending.outcome, 1, 1, 0)
                    self._explain(pending, as_seen)
        except (TargetError, LocalError) as error:
            self.result.fail(str(error))
        self._progress.end_phase()
        self.result.end(time.monotonic() - self._began)
        return self.result

    def _run_phases(self) -> None:
        self._progress.enter(Phase.PREFLIGHT)
        connector, self._known = preflight(self._target, self._settings.rate)
        self._runner = Runner(connector, self._known, self._settings, self._progress)
        self.result.reached(self._known)
        self._progress.note(str(self._known))
        if not self._settings.cases:
            self._replay_saved()
        self._run_catalogue()
        self._shrink_pending()
        if self._settings.examples and not self._settings.cases:
            self._fuzz()
            self._shrink_pending()

    # Phases.

    def _replay_saved(self) -> None:
        saved, unreadable = self._saved.load()
        for line in unreadable:
            self._progress.note(f"skipped a saved failure: {line}")
        if not saved:
            return
        self._progress.enter(Phase.SAVED, len(saved))
        for failure in saved:
            if self._out_of_time():
                return
            self._replay(failure)

    def _replay(self, failure: SavedFailure) -> None:
        # Often enough to see one that fails in one run of ten: a flaky failure that passes
        # once is not fixed.
        for _ in range(min(_SAVED_TRIES, self._settings.retries) + 1):
            outcome = self._runner.run(failure.session)
            if failed := self._runner.failed(outcome):
                break
        index = self._progress.record(failure.id, failure.comment, outcome)
        try:
            self._saved.mark(failure, passed=not failed)
        except SavedFailuresError as error:
            self._progress.note(f"cannot mark a saved failure: {error}")
        if failed:
            self._pending.append(_Pending(index, outcome, failure.id, saved=True))
        else:
            self.result.passing.append(failure.id)
            self._progress.note(f"saved failure {failure.id} passes now: {failure.session}")

    def _run_catalogue(self) -> None:
        chosen = self._chosen_cases()
        self._progress.enter(Phase.CATALOGUE, len(chosen))
        in_a_row = 0
        for number, case in enumerate(chosen, 1):
            if self._out_of_time():
                return
            history = self._runner.history
            outcome = self._runner.run(case.session)
            index = self._progress.record(case.number, case.name, outcome)
            in_a_row = in_a_row + 1 if (failed := self._runner.failed(outcome)) else 0
            if failed:
                self._pending.append(_Pending(index, outcome, case.number, history))
            if in_a_row == _IN_A_ROW and number < len(chosen):
                self._progress.note(f"{in_a_row} cases in a row failed; skipped the others")
                return

    def _chosen_cases(self) -> list[Case]:
        """Return the cases to run: those asked for that need no more than ``parallel``."""
        wanted, parallel = self._settings.cases, self._settings.parallel
        cases = [case for case in catalogue() if not wanted or case.number in wanted]
        skipped = ", ".join(case.number for case in cases if case.parallel > parallel)
        if skipped:
            self._progress.note(f"skipped {skipped}: more connections than --parallel allows")
        return [case for case in cases if case.parallel <= parallel]

    def _fuzz(self) -> None:
        settings = self._settings
        self._progress.enter(Phase.FUZZ, settings.examples)
        strategy = sessions(
            settings.tokens,
            settings.sizes,
            half_close=self._known.half_close,
            parallel=settings.parallel,
        )
        draw(strategy, settings.examples, settings.seed, self._fuzz_one)

    def _fuzz_one(self, session: Session) -> bool:
        """Run a session that was drawn; return whether to continue."""
        if self._out_of_time():
            return False
        history = self._runner.history
        outcome = self._runner.run(session)
        index = self._progress.record(str(self.result.counts[Phase.FUZZ]), "", outcome)
        if not self._runner.failed(outcome):
            return True
        pending = _Pending(index, outcome, "fuzz", history)
        if not self._is_explained(pending):
            self._pending.append(pending)
            return False
        self.result.count_known()
        if self.result.known >= _KNOWN_AGAIN:
            self._progress.note(
                f"{self.result.known} conversations contained a failure already found; "
                "fix it, or --exclude its kind, to search further"
            )
            return False
        return True

    def _shrink_pending(self) -> None:
        if not self._pending:
            return
        self._progress.enter(Phase.SHRINK)
        self._pending.sort(key=lambda pending: pending.cost)
        until = time.monotonic() + _SHRINK_SECONDS
        while self._pending:
            # It stays in the list until it is explained, in case the user interrupts.
            pending = self._pending[0]
            if not self._is_explained(pending):
                if len(self.result.failures) >= _MAX_FAILURES or time.monotonic() > until:
                    count = len(self._pending)
                    self._progress.note(
                        f"{count} more failure{'s' if count > 1 else ''} not analysed"
                    )
                    self._pending.clear()
                    return
                self._reproduce(pending)
            del self._pending[0]

    def _out_of_time(self) -> bool:
        return time.monotonic() >= self._deadline

    # Explanations.

    def _reproduce(self, pending: _Pending) -> None:
        began = time.monotonic()
        found = reproduce(
            pending.outcome,
            self._runner.run_candidate,
            history=pending.history,
            shrinking=self._settings.shrink and not pending.saved,
            retries=self._settings.retries,
            half_close=self._known.half_close,
            deadline=self._deadline,
        )
        if found is None:
            self._progress.ignore_transient(pending.outcome)
        elif (same := self._index(found.session)) is not None:
            self.result.explain(pending.record, same)
        else:
            self._explain(pending, found, time.monotonic() - began)

    def _explain(self, pending: _Pending, found: Reproduced, seconds: float = 0.0) -> None:
        """Add a failure, and save it."""
        index = self._progress.failure(
            Failure(
                kind=found.outcome.kind,
                session=found.session,
                outcome=found.outcome,
                found=pending.outcome.session,
                found_by=pending.found_by,
                reproduced=found.reproduced,
                runs=found.runs,
                shrink_runs=found.shrink_runs,
                seconds=seconds,
                id=self._save(pending, found),
                target=self._target.words,
            )
        )
        self.result.explain(pending.record, index)

    def _save(self, pending: _Pending, found: Reproduced) -> str | None:
        verdict = found.outcome.verdict
        comments = [
            f"{verdict.kind}: {verdict.message}",
            f"found by {pending.found_by}, reproduced in {found.reproduced} of {found.runs} runs",
        ]
        try:
            return self._saved.save(found.session, comments, shlex.join(self._target.words))
        except SavedFailuresError as error:
            self._progress.note(f"not saved: {error}")
            return None

    def _is_explained(self, pending: _Pending) -> bool:
        """Return whether the session contains a failure already found; note it in its record.

        A failure that never recurred explains nothing: something else may have caused it.
        """
        session, half_close = pending.outcome.session, self._known.half_close
        for index, failure in enumerate(self.result.failures):
            if failure.reproduced and contains(session, failure.session, half_close):
                self.result.explain(pending.record, index)
                return True
        return False

    def _index(self, session: Session) -> int | None:
        """Return the index of the failure with exactly this session, if any."""
        sessions = [failure.session for failure in self.result.failures]
        return sessions.index(session) if session in sessions else None
