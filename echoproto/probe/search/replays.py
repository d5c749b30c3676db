"""Holds the saved failures of a target again."""

from __future__ import annotations

import time

from echoproto.probe.search.failures import SavedFailure, SavedFailures, SavedFailuresError
from echoproto.probe.search.findings import Findings
from echoproto.probe.search.pending import Pending
from echoproto.probe.search.plan import Planned
from echoproto.probe.search.progress import Progress
from echoproto.probe.search.reproduced import PathGoneError
from echoproto.probe.search.result import Phase
from echoproto.probe.search.runner import Runner
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Outcome

__all__ = ["Replays"]

_TRIES = 20


class Replays:
    """The first sessions of a campaign: those that failed in an earlier one.

    Args:
        saved: the failures on disk.
        settings: of the campaign.
        runner: holds the sessions.
        findings: gets those that fail.
        progress: where they are recorded.
        fin: as in :class:`Candidate`.
    """

    def __init__(
        self,
        saved: SavedFailures,
        settings: Settings,
        runner: Runner,
        findings: Findings,
        progress: Progress,
        fin: bool,
    ) -> None:
        self._saved = saved
        self._settings = settings
        self._runner = runner
        self._findings = findings
        self._progress = progress
        self._fin = fin

    def assume_known(self) -> None:
        """Find out what the failures need that are not to be reported."""
        for id_ in self._settings.known:
            saved = self._saved.get(id_)
            if not self._findings.assume(saved):
                self._progress.note(
                    f"known failure {id_} passes now, and is not avoided: {saved.session}"
                )

    def hold(self, deadline: float) -> None:
        """Hold the others; those that pass are noted.

        Args:
            deadline: when to begin no more, in ``time.monotonic`` seconds.
        """
        saved, unreadable = self._saved.load()
        saved = [failure for failure in saved if failure.id not in self._settings.known]
        for line in unreadable:
            self._progress.note(f"skipped a saved failure: {line}")
        if not saved:
            return
        self._progress.enter(Phase.SAVED, len(saved))
        for failure in saved:
            if time.monotonic() >= deadline:
                return
            self._replay(failure)

    def _replay(self, failure: SavedFailure) -> None:
        try:
            outcome = self._failing_again(failure)
        except PathGoneError as gone:
            self._add(failure, gone.outcome)
            raise
        failed = self._runner.failed(outcome)
        if failed:
            self._add(failure, outcome)
        else:
            self._record(failure, outcome)
            self._progress.result.passing.append(failure.id)
            self._progress.note(f"saved failure {failure.id} passes now: {failure.session}")
        try:
            self._saved.mark(failure, passed=not failed)
        except SavedFailuresError as error:
            self._progress.note(f"cannot mark a saved failure: {error}")

    def _failing_again(self, failure: SavedFailure) -> Outcome:
        """Return the outcome of a run that fails again; of the last one if none does.

        It is run often enough to see one that fails in one run of ten: a flaky failure that passes
        once is not fixed.
        """
        waits = Planned(Phase.SAVED, failure.id, "", failure.session).waits
        for _ in range(1 if waits else min(_TRIES, self._settings.retries) + 1):
            outcome = self._runner.run_candidate(failure.session, False)
            if not outcome.ok:
                # The short timeout only saves time where the failure is fixed.
                outcome = self._runner.run_candidate(failure.session, True)
            if self._runner.failed(outcome):
                break
        return outcome

    def _add(self, failure: SavedFailure, outcome: Outcome) -> None:
        index = self._record(failure, outcome)
        self._findings.add(Pending(index, outcome, failure.id, saved=True, fin=self._fin))

    def _record(self, failure: SavedFailure, outcome: Outcome) -> int:
        self._progress.count(outcome)
        return self._progress.record(failure.id, failure.comment, outcome)
