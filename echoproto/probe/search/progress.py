"""Keeps the books of a campaign: fills its result, and informs its observer."""

from __future__ import annotations

import time

from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase
from echoproto.probe.wire.verdict import Outcome

__all__ = ["Progress"]


class Progress:
    """The current phase, and everything that is recorded in it.

    Args:
        result: to fill.
        observer: to inform.
    """

    def __init__(self, result: CampaignResult, observer: Observer) -> None:
        self.result = result
        self.phase = Phase.PREFLIGHT
        self._observer = observer
        self._began = time.monotonic()

    def enter(self, phase: Phase, total: int | None = None) -> None:
        """End the current phase and begin another.

        Args:
            phase: which.
            total: how many sessions it will run; None if that is not known.
        """
        self.end_phase()
        self.phase = phase
        self._observer.phase(phase, total)

    def end_phase(self) -> None:
        """Add up the time of the current phase."""
        now = time.monotonic()
        self.result.spend(self.phase, now - self._began)
        self._began = now

    def count(self, outcome: Outcome) -> None:
        """Count a session of the current phase."""
        self.result.count(self.phase, outcome)

    def count_candidate(self, outcome: Outcome) -> None:
        """Count and report a session that was run to shrink another one.

        In other phases it only confirms a stall, and is not counted.
        """
        if self.phase is Phase.SHRINK:
            self.count(outcome)
            name = str(self.result.counts[Phase.SHRINK])
            self._observer.record(self._as_record(name, "", outcome))

    def record(self, name: str, title: str, outcome: Outcome) -> int:
        """Report a session, and keep its record unless it passed in the fuzz phase.

        Returns:
            the record's index in the result; -1 if it is not kept.
        """
        record = self._as_record(name, title, outcome)
        self._observer.record(record)
        if self.phase is Phase.FUZZ and outcome.ok:
            return -1
        self.result.records.append(record)
        return len(self.result.records) - 1

    def failure(self, failure: Failure) -> int:
        """Add and report a failure; return its index in the result."""
        self.result.failures.append(failure)
        self._observer.failure(failure)
        return len(self.result.failures) - 1

    def note(self, text: str) -> None:
        """Report a line."""
        self._observer.note(text)

    def ignore_transient(self, outcome: Outcome) -> None:
        """Count and report a stall that did not recur."""
        self.result.count_transient()
        self.note(f"ignored one stall that did not recur: {outcome.verdict.message}")

    def _as_record(self, name: str, title: str, outcome: Outcome) -> CaseRecord:
        return CaseRecord(
            phase=self.phase,
            name=name,
            title=title,
            script=str(outcome.session),
            kind=outcome.kind,
            message=outcome.verdict.message,
            seconds=outcome.seconds,
            sent=sum(verdict.sent for verdict in outcome.verdicts),
            received=sum(verdict.received for verdict in outcome.verdicts),
        )
