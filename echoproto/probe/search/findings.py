"""From failing sessions to failures: each is reproduced, shrunk, saved, and told once."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.absence import shortest_absence
from echoproto.probe.search.availability import DEAD
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.contains import contains
from echoproto.probe.search.explain.explanation import Explanation
from echoproto.probe.search.failures import SavedFailure, SavedFailures
from echoproto.probe.search.known import Known, Left
from echoproto.probe.search.marks import told_by_marks
from echoproto.probe.search.pending import Pending, passed, with_what_went_before
from echoproto.probe.search.pool import Held
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.progress import Progress
from echoproto.probe.search.recorder import Recorder
from echoproto.probe.search.reproduce import TIMED, reproduce
from echoproto.probe.search.reproduced import NotAgain, PathGoneError, Reproduced
from echoproto.probe.search.runner import Runner
from echoproto.probe.search.settings import Settings
from echoproto.probe.search.silence import shortest_silence
from echoproto.probe.search.trigger import find_trigger, silence_trigger
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Findings"]

_MAX_FAILURES = 10
# How long to shrink, and how much longer until there is any failure.
_SHRINK_SECONDS, _MORE_SECONDS = 30.0, 60.0

# One that passes so often is analysed after the others: they are not to pay for its many runs.
_SELDOM = 2


class Findings:
    """The failing sessions of a campaign, and the failures that explain them.

    Args:
        target: where the path is.
        settings: of the campaign.
        progress: where failures are recorded.
        saved: the failures on disk.
        deadline: when the campaign ends, in ``time.monotonic`` seconds.
        known: what the preflight found.
        runner: runs sessions.
    """

    def __init__(
        self,
        target: Target,
        settings: Settings,
        progress: Progress,
        saved: SavedFailures,
        deadline: float,
        known: Preflight,
        runner: Runner,
    ) -> None:
        self.pending: list[Pending] = []
        self._shrink_until = 0.0  # when no other one is shrunk, by ``_working_time``
        self._end: int | None = None  # the failure after which nothing worked
        self._current: Pending | None = None  # what is analysed
        self._settings = settings
        self._progress = progress
        self._result = progress.result
        self._deadline = deadline
        self._known = known
        self._runner = runner
        self._faults = Known()
        self._recorder = Recorder(target, settings, progress, saved, deadline, runner, self._faults)

    def assume(self, saved: SavedFailure) -> bool:
        """Avoid a saved failure from now on, unreported; return whether it still fails."""
        start = Candidate(saved.session, self._known.half_close)
        outcome = self._runner.run_candidate(saved.session, True)
        found = reproduce(
            outcome,
            functools.partial(self._hold_apart, start, outcome.kind),
            shrinking=False,
            retries=self._settings.retries,
            deadline=self._deadline,
        )
        if isinstance(found, NotAgain):
            return False
        rate = found.reproduced / found.runs
        trigger = find_trigger(start, found.outcome.kind, self._hold, rate)
        self._recorder.learn(trigger, self._recorder.explanation(found, start.fin), found, None)
        return True

    def add(self, pending: Pending) -> bool:
        """Add a failing session; return whether it may show something new."""
        if self._end is not None:
            self._result.explain(pending.record, self._end)
            return False
        candidate, kind = pending.candidate, pending.outcome.kind
        if self._faults.explains(candidate, kind) and not self._faults.can_show(candidate):
            self._note_known(pending, self._faults.index(candidate, kind))
            return False
        self.pending.append(pending)
        return True

    @property
    def known(self) -> bool:
        """Whether any failure is known."""
        return bool(self._faults)

    def avoided(self, candidate: Candidate) -> Candidate:
        """Return a candidate in which no known failure shows, as far as they can be avoided."""
        return self._faults.avoided(candidate)

    def may_be_known(self, candidate: Candidate) -> bool:
        """Return whether a known failure can show in a candidate."""
        return self._faults.is_in(candidate)

    def shrink(self, analysing: bool = True) -> None:
        """Reproduce and shrink what no known failure explains, the most telling first.

        Args:
            analysing: whether there is time for that; else it is listed as not analysed.
        """
        self.pending.sort(key=lambda pending: pending.order)
        self._shrink_until = self._working_time() + _SHRINK_SECONDS
        left_out: list[Pending] = []
        seldom: list[Pending] = []
        try:
            while self.pending:
                # It stays in the list until it is explained, in case the user interrupts.
                self._current = pending = self.pending[0]
                left = self._what_is_left(pending)
                if left is None:
                    pass
                elif not analysing or self._is_enough():
                    left_out.append(pending)
                elif pending not in seldom and self._passes_now(pending, left):
                    seldom.append(pending)
                    self.pending.append(pending)
                elif self._reproduce(pending, left):
                    # It may have more than this one.
                    continue
                del self.pending[0]
        finally:
            self._list(left_out)

    def _is_enough(self) -> bool:
        """Return whether no more is analysed; it takes longer before there is no failure."""
        failures, over = len(self._result.failures), self._working_time() - self._shrink_until
        return failures >= _MAX_FAILURES or over > (0 if failures else _MORE_SECONDS)

    def _working_time(self) -> float:
        """Return the time, in seconds, without what explanations take."""
        return time.monotonic() - self._recorder.spent

    def _passes_now(self, pending: Pending, left: Left) -> bool:
        """Return whether others are to be analysed first, as this one does not fail again."""
        if pending.saved or pending.silence or len(self.pending) == 1:
            return False
        start, kind = left.candidate, (left.outcome or pending.outcome).kind
        return all(self._hold_apart(start, kind, start.session, False).ok for _ in range(_SELDOM))

    def _list(self, left_out: Sequence[Pending]) -> None:
        """Report the failures that there was no time for."""
        if left_out and not self._result.left_out:
            self._progress.note("no time to analyse all that failed; the summary lists the rest")
        for pending in left_out:
            self._result.leave_out(pending.record)

    def were_cut_off(self, failed: Sequence[Held]) -> None:
        """Note that sessions failed as the path went away, whatever was under way with them."""
        cut_off = {id(held.outcome) for held in failed}
        for index, pending in enumerate(self.pending):
            if id(pending.outcome) in cut_off:
                self.pending[index] = dataclasses.replace(pending, beside=(), cut_off=True)

    def tell_as_seen(self) -> None:
        """Make failures of all that is not explained, without running it again."""
        self.pending.sort(key=lambda pending: pending.order)
        for pending in self.pending:
            session = pending.outcome.session
            # Nothing is run any more, so that only their texts can be compared.
            for index, failure in enumerate(self._result.failures):
                if contains(session, failure.session, self._known.half_close):
                    self._result.explain(pending.record, index)
                    break
            else:
                if len(self._result.failures) < _MAX_FAILURES:
                    self._recorder.add(pending, _as_seen(pending))
                else:
                    self._list([pending])
        self.pending.clear()

    def tell_the_end(
        self, failed: Sequence[Held], remark: str, explanation: Explanation | None = None
    ) -> None:
        """Make one failure of a path on which nothing works any more.

        Args:
            failed: the sessions that failed since then, the first one first.
            remark: what is known of it, in a sentence.
            explanation: if it is the number of connections, after how many.
        """
        since = {id(held.outcome) for held in failed}
        ended = [pending for pending in self.pending if id(pending.outcome) in since]
        self.pending = [pending for pending in self.pending if id(pending.outcome) not in since]
        # What was seen before cannot be run again.
        self.tell_as_seen()
        for pending in ended:
            if pending.outcome is failed[0].outcome:
                alone, before = pending.outcome.alone, with_what_went_before(failed[0])
                seen = before if explanation is None else alone
                found = Reproduced(seen.session, seen, 1, 1, 0)
                self._end = self._recorder.add(pending, found, 0.0, remark, explanation=explanation)
        for pending in ended:
            if self._end is not None:
                self._result.explain(pending.record, self._end)

    def tell_gone(self, gone: PathGoneError) -> None:
        """Make failures of what was seen of a path that went away during an experiment.

        Args:
            gone: what the experiment raised.
        """
        seen = (pending for pending in self.pending if pending.outcome is gone.outcome)
        current = next(seen, self._current)
        self._end = gone.told
        told = current is None or self._is_told(current) or _is_of_the_end(current, gone)
        if self._end is None and current is not None and not told:
            self._end = self._tell_current(current, gone)
        if self._end is None:
            record = self._progress.record("experiment", "", gone.outcome)
            end = Pending(record, gone.outcome, "an experiment")
            self._end = self._add_end(end, _as_seen(end), gone)
        for pending in self.pending:
            if _is_of_the_end(pending, gone):
                self._result.explain(pending.record, self._end)
        self.pending = [pending for pending in self.pending if not self._is_told(pending)]
        self.tell_as_seen()

    def _is_told(self, pending: Pending) -> bool:
        return self._result.records[pending.record].explained_by is not None

    def _tell_current(self, current: Pending, gone: PathGoneError) -> int | None:
        """Tell what was looked at; return its index if nothing worked after it."""
        found = gone.found or _as_seen(current)
        if current.outcome.kind in DEAD:
            return self._add_end(current, found, gone)
        self._recorder.add(current, found)
        return None

    def _add_end(self, pending: Pending, found: Reproduced, gone: PathGoneError) -> int:
        explanation = gone.explanation if pending.outcome is gone.outcome else None
        return self._recorder.add(pending, found, 0.0, str(gone), explanation=explanation)

    def _what_is_left(self, pending: Pending) -> Left | None:
        """Return what fails without any known failure; None if known ones explain it."""
        if not self._faults:
            return Left(pending.candidate)
        candidate, kind = pending.candidate, pending.outcome.kind
        why = self._faults.why(candidate, kind, self._hold)
        if isinstance(why, Left) and why.candidate == candidate:
            together = [Candidate(session, pending.fin) for session in pending.together]
            why = self._faults.why_beside(candidate, kind, together, self._hold)
        if isinstance(why, Left):
            return dataclasses.replace(why, candidate=self._faults.ending(why.candidate))
        self._note_known(pending, why)
        return None

    def _note_known(self, pending: Pending, index: int | None) -> None:
        if index is not None:
            self._result.explain(pending.record, index)
        if pending.found_by == "fuzz":
            self._result.count_known()

    # Runs.

    def _hold(self, candidate: Candidate) -> Outcome:
        return self._runner.run_candidate(candidate.session, False, fin=candidate.fin)

    def _hold_apart(
        self, start: Candidate, kind: Fault, session: Session, patient: bool
    ) -> Outcome:
        """Run a candidate; what a known failure explains, or may, passes."""
        candidate = Candidate(session, start.fin)
        if candidate != start and self._faults.can_show(candidate, kind):
            return passed(session)
        began = time.monotonic()
        outcome = self._runner.run_candidate(session, patient, fin=start.fin)
        if patient:
            # To be sure of a stall takes the whole patience, which is no reason to stop.
            self._shrink_until += time.monotonic() - began
        if not outcome.ok and self._faults.explains(candidate, outcome.kind, candidate != start):
            return passed(session)
        return outcome

    # Failures.

    def _reproduce(self, pending: Pending, left: Left) -> bool:
        """Shrink what is left of a failing session; return whether that is a new failure."""
        began = time.monotonic()
        start = left.candidate
        whole = start == pending.candidate
        shrinking = self._settings.shrink and not pending.saved
        if self._settings.shrink and self._needs_time(pending, began):
            return False
        first = left.outcome or pending.outcome
        found = reproduce(
            first,
            functools.partial(self._hold_apart, start, first.kind),
            beside=pending.beside if whole else (),
            history=pending.history if whole else (),
            shrinking=shrinking,
            retries=self._settings.retries,
            half_close=self._known.half_close and start.fin,
            deadline=self._deadline,
        )
        if isinstance(found, NotAgain):
            if not self._is_told(pending):
                self._progress.ignore_transient(pending.outcome, found.runs)
            return False
        try:
            return self._add_found(pending, start, found, shrinking, time.monotonic() - began)
        except PathGoneError as gone:
            gone.found = gone.found or found
            raise

    def _add_found(
        self, pending: Pending, start: Candidate, found: Reproduced, shrinking: bool, seconds: float
    ) -> bool:
        """Add what was reproduced, unless it is known; return whether there may be more."""
        found = told_by_marks(found, lambda one: self._hold(Candidate(one, start.fin)))
        candidate = Candidate(found.session, start.fin)
        if shrinking and (ended := self._faults.without_fin(candidate, self._hold)) is not None:
            return self._reproduce(pending, ended)
        rate = found.reproduced / found.runs
        trigger = find_trigger(candidate, found.outcome.kind, self._hold, rate)
        sessions = [failure.session for failure in self._result.failures]
        exact = found.session in sessions
        same = sessions.index(found.session) if exact else self._faults.same(trigger)
        if same is None:
            same = self._faults.same_race(trigger, self._hold)
        if same is not None:
            self._note_known(pending, same)
            return False
        self._recorder.add(pending, found, seconds, trigger=trigger, fin=start.fin)
        return shrinking

    def _needs_time(self, pending: Pending, began: float) -> bool:
        """Return whether a failure is that of a silence, or none, and explain it."""
        outcome, deadline = pending.outcome, self._deadline
        silence = trigger = None
        if outcome.session.has_absence:
            hold, explain_ = self._runner.run_candidate, self._settings.explain
            silence = shortest_absence(outcome, lambda s: hold(s, False), deadline, explain_)
        elif pending.silence:
            passes = self._result.longest_silence
            silence = shortest_silence(outcome, self._runner.run_together, passes, deadline)
        if silence is None:
            return False
        if isinstance(silence, NotAgain):
            self._progress.ignore_transient(pending.outcome, silence.runs)
            return True
        seconds = time.monotonic() - began
        self._shrink_until += seconds
        found = silence.found
        if pending.silence:
            trigger = silence_trigger(Candidate(found.session), found.outcome.kind)
        self._recorder.add(
            pending, found, seconds, explanation=silence.explanation, trigger=trigger
        )
        return True


def _as_seen(pending: Pending) -> Reproduced:
    return Reproduced(pending.outcome.session, pending.outcome, 1, 1, 0)


def _is_of_the_end(pending: Pending, gone: PathGoneError) -> bool:
    """Return whether a session that failed before a path was gone may show just that.

    Of those that were under way together as it went away, none can be told from the others.
    """
    kind, used_up = pending.outcome.kind, gone.explanation is not None
    return pending.cut_off or kind in (Fault.REFUSED, *TIMED) or (used_up and kind in DEAD)
