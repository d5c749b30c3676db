"""Runs the sessions of a campaign on a path whose preflight is known."""

from __future__ import annotations

import dataclasses
from collections import deque

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.preflight import FIRST_STALLS, Preflight
from echoproto.probe.search.progress import Progress
from echoproto.probe.search.reproduce import TIMED, recurs
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.channel import Connector
from echoproto.probe.wire.run import run
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Runner"]

_HISTORY = 8


class Runner:
    """Runs sessions, and confirms the first stall before it counts.

    Args:
        connector: where to connect.
        known: what the preflight found.
        settings: of the campaign.
        progress: where the sessions are counted.
    """

    def __init__(
        self, connector: Connector, known: Preflight, settings: Settings, progress: Progress
    ) -> None:
        self._connector = connector
        self._known = known
        self._settings = settings
        self._progress = progress
        self._history: deque[Session] = deque(maxlen=_HISTORY)
        self._stall_confirmed = False

    @property
    def history(self) -> tuple[Session, ...]:
        """The last sessions run, latest last: the path may remember something of them."""
        return tuple(self._history)

    def failed(self, outcome: Outcome) -> bool:
        """Return whether any verdict of the session counts as a failure."""
        excluded = self._settings.exclude
        return any(not v.ok and v.kind not in excluded for v in outcome.verdicts)

    def run(self, session: Session) -> Outcome:
        """Run and count a session of a phase.

        A busy machine, at either end, looks like a stall. So the first stall must recur, with
        a longer timeout.
        """
        before = self.history
        outcome = self._run_once(session)
        if outcome.kind in TIMED and self.failed(outcome) and not self._stall_confirmed:
            if recurs(outcome, self.run_candidate, before, self._settings.retries):
                self._stall_confirmed = True
            else:
                self._progress.ignore_transient(outcome)
                outcome = self._run_once(session)
        self._history.append(session)
        self._progress.count(outcome)
        return outcome

    def run_candidate(self, session: Session, patient: bool) -> Outcome:
        """Run a session in order to reproduce or shrink another.

        Args:
            session: to run.
            patient: whether to use the long timeout.

        Returns:
            the outcome, in which excluded kinds are no failure.
        """
        stall = self._known.patience if patient else self._known.timeout
        outcome = run(session, self._connector, self._known.limits(stall))
        self._progress.count_candidate(outcome)
        excluded = self._settings.exclude
        if not any(verdict.kind in excluded for verdict in outcome.verdicts):
            return outcome
        verdicts = (
            dataclasses.replace(v, kind=Fault.NONE) if v.kind in excluded else v
            for v in outcome.verdicts
        )
        return dataclasses.replace(outcome, verdicts=tuple(verdicts))

    def _run_once(self, session: Session) -> Outcome:
        timeouts = 2 if self._stall_confirmed else FIRST_STALLS
        limits = self._known.limits(timeouts * self._known.timeout)
        return run(session, self._connector, limits)
