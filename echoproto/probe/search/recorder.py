"""Adds a reproduced failure to the result: explained, saved, and avoided from then on."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import time

from echoproto.probe.script.conversation import Session
from echoproto.probe.script.words import plural
from echoproto.probe.search.availability import DEAD
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.explain.explain import explain
from echoproto.probe.search.explain.explanation import Explanation
from echoproto.probe.search.explain.lab import Budget, room_for
from echoproto.probe.search.explain.suspects import CRASHES
from echoproto.probe.search.failures import SavedFailures, SavedFailuresError
from echoproto.probe.search.known import Known
from echoproto.probe.search.mask import find_mask
from echoproto.probe.search.pending import Pending
from echoproto.probe.search.progress import Progress
from echoproto.probe.search.reproduced import PathGoneError, Reproduced
from echoproto.probe.search.result import Failure
from echoproto.probe.search.runner import Runner
from echoproto.probe.search.settings import Settings
from echoproto.probe.search.trigger import Trigger, refined
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Outcome

__all__ = ["Recorder"]


class Recorder:
    """Adds failures to the result of a campaign.

    Args:
        target: where the path is.
        settings: of the campaign.
        progress: where failures are recorded.
        saved: the failures on disk.
        deadline: when the campaign ends, in ``time.monotonic`` seconds.
        runner: runs sessions.
        faults: the failures that are known, to which others are added.

    Attributes:
        spent: seconds spent on explanations, which have a budget of their own.
    """

    def __init__(
        self,
        target: Target,
        settings: Settings,
        progress: Progress,
        saved: SavedFailures,
        deadline: float,
        runner: Runner,
        faults: Known,
    ) -> None:
        self.spent = 0.0
        self._target = target
        self._settings = settings
        self._progress = progress
        self._result = progress.result
        self._saved = saved
        self._deadline = deadline
        self._runner = runner
        self._faults = faults

    def add(
        self,
        pending: Pending,
        found: Reproduced,
        seconds: float = 0.0,
        remark: str = "",
        trigger: Trigger | None = None,
        fin: bool = True,
        explanation: Explanation | None = None,
    ) -> int:
        """Explain and add a failure, and save it; return its index.

        Raises:
            PathGoneError: if nothing works any more; the failure is added all the same.
        """
        spent, stop = self.spent, None
        if not remark and explanation is None and not pending.silence:
            explanation, stop = self._explained(found, fin)
        deadly = found.outcome.kind in DEAD
        if isinstance(stop, PathGoneError) and deadly and stop.explanation is None:
            remark, stop.told = str(stop), len(self._result.failures)
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
                explanation=explanation,
                not_explained="" if explanation else _not_explained(self.spent - spent),
                remark=remark,
                away=self._runner.availability.away_after(found.session),
            )
        )
        self._result.explain(pending.record, index)
        if stop is not None:
            raise stop  # nothing is avoided any more
        self.learn(trigger, explanation, found, index)
        return index

    def learn(
        self,
        trigger: Trigger | None,
        explanation: Explanation | None,
        found: Reproduced,
        index: int | None,
    ) -> None:
        """Avoid a failure from now on, if it is known what it needs."""
        if len(found.session.conversations) > 1 and not found.session.sequential:
            # Each session beside others would fail for the same reason.
            self._runner.window.close()
        if trigger is not None:
            if self._runner.availability.away_after(found.session):
                self._runner.availability.is_explained()
            rate = found.reproduced / found.runs
            mask = find_mask(trigger, rate, self._capture)
            if mask is not None:
                self._runner.look_past(mask)
                self._progress.note(f"not compared from now on, to find other failures: {mask}")
            self._faults.add(refined(trigger, explanation), rate, index, mask is not None)

    def _explained(
        self, found: Reproduced, fin: bool
    ) -> tuple[Explanation | None, KeyboardInterrupt | PathGoneError | None]:
        """Return the explanation, or what stopped it: what is known by then is not to be lost."""
        try:
            return self.explanation(found, fin), None
        except (KeyboardInterrupt, PathGoneError) as stop:
            return None, stop

    def explanation(self, found: Reproduced, fin: bool) -> Explanation | None:
        """Find out what about a failure matters, unless it is not certain, or not asked for."""
        if not self._settings.explain or not found.reproduced or self._result.interrupted:
            return None
        if self._runner.availability.gone:
            return None
        began = time.monotonic()
        explanation = explain(
            found.session,
            functools.partial(self._hold_avoiding, fin),
            (found.reproduced, found.runs),
            Budget(seconds=min(Budget().seconds, self._deadline - began)),
        )
        self.spent += time.monotonic() - began
        if explanation is not None and self._runner.availability.away_after(found.session):
            return dataclasses.replace(explanation, suspects=(CRASHES,))
        return explanation

    def _capture(self, candidate: Candidate) -> Outcome:
        session = candidate.session
        return self._runner.run_candidate(session, False, room_for(session), candidate.fin)

    def _hold_avoiding(self, fin: bool, session: Session) -> Outcome:
        """Run an experiment, without what known failures need."""
        return self._capture(self._faults.avoided(Candidate(session, fin)))

    def _save(self, pending: Pending, found: Reproduced) -> str | None:
        verdict, runs = found.outcome.verdict, plural(found.runs, "run")
        comments = [
            f"{verdict.kind}: {verdict.message}",
            f"found by {pending.found_by}, reproduced in {found.reproduced} of {runs}",
        ]
        try:
            return self._saved.save(found.session, comments, shlex.join(self._target.words))
        except SavedFailuresError as error:
            self._progress.note(f"not saved: {error}")
            return None


def _not_explained(seconds: float) -> str:
    """Return that experiments told too little, unless there were none."""
    if not seconds:
        return ""
    return f"not explained: {seconds:.1f} s of experiments did not tell what about it matters"
