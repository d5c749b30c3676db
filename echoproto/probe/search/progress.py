"""Keeps the books of a campaign: fills its result, and informs its observer."""

from __future__ import annotations

import time

from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase
from echoproto.probe.wire.messages import delayed_message
from echoproto.probe.wire.verdict import Outcome

__all__ = ["Progress"]

# A line for each of the first ones; the summary counts all.
_MOST_DELAYS = 5


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

    def ask(self, phase: Phase, count: int) -> None:
        """Note how many sessions a phase is to run."""
        self.result.ask(phase, count)

    def end_phase(self) -> None:
        """Add up the time of the current phase."""
        now = time.monotonic()
        self.result.spend(self.phase, now - self._began)
        self._began = now

    def count(self, outcome: Outcome, phase: Phase | None = None) -> None:
        """Count a session: of the current phase, or of the one in which it began."""
        self.result.count(phase or self.phase, outcome)

    def count_candidate(self, outcome: Outcome) -> None:
        """Count and report a session that was run to shrink another one.

        In other phases it only confirms a stall, and is not counted.
        """
        if self.phase is Phase.SHRINK:
            self.count(outcome)
            name = str(self.result.counts[Phase.SHRINK])
            self._observer.record(_as_record(Phase.SHRINK, name, "", outcome))

    def record(self, name: str, title: str, outcome: Outcome, phase: Phase | None = None) -> int:
        """Report a session, and keep its record unless it passed in the fuzz phase.

        Args:
            name: as in :class:`CaseRecord`.
            title: the same.
            outcome: of the session.
            phase: in which it began; None for the current one.

        Returns:
            the record's index in the result; -1 if it is not kept.
        """
        phase = phase or self.phase
        record = _as_record(phase, name, title, outcome)
        self._observer.record(record)
        if phase is Phase.FUZZ and outcome.ok:
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

    def ignore_transient(self, outcome: Outcome, runs: int) -> None:
        """Count and report a failing session that never failed again.

        Args:
            outcome: of the one run that failed.
            runs: how often it was tried again.
        """
        self.result.count_transient()
        verdict = outcome.verdict
        self.note(
            f"did not come again in {plural(runs, 'run')}: {verdict.kind}: {verdict.message}; "
            f"{shorten(str(outcome.session))}"
        )

    def delay(self, name: str, outcome: Outcome) -> None:
        """Count and report a session that passed, but late."""
        self.result.count_delay(outcome.wait)
        if self.result.delayed <= _MOST_DELAYS:
            self.note(f"{name}: {delayed_message(outcome.wait, outcome.waited_for)}")


def _as_record(phase: Phase, name: str, title: str, outcome: Outcome) -> CaseRecord:
    return CaseRecord(
        phase=phase,
        name=name,
        title=title,
        script=str(outcome.session),
        kind=outcome.kind,
        message=outcome.verdict.message,
        seconds=outcome.seconds,
        sent=sum(verdict.sent for verdict in outcome.verdicts),
        received=sum(verdict.received for verdict in outcome.verdicts),
    )
