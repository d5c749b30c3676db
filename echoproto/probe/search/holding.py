"""Holds the sessions of a phase in the window, and decides what their outcomes mean."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from echoproto.probe.script.conversation import Pause
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.availability import DEAD
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.findings import Findings
from echoproto.probe.search.pending import Pending
from echoproto.probe.search.plan import Planned
from echoproto.probe.search.pool import Held
from echoproto.probe.search.progress import Progress
from echoproto.probe.search.reproduce import TIMED
from echoproto.probe.search.result import Phase
from echoproto.probe.search.runner import Runner
from echoproto.probe.wire.verdict import Fault

__all__ = ["IN_A_ROW", "Holding"]

# On a path that fails everything, each further conversation shows nothing new.
IN_A_ROW = 25
_KNOWN_AGAIN = 25

# So many failures in a row, and it is asked whether the path still works.
_SUSPECT = 3

# A path that has borne so many at the same time bears a few more.
_WIDE = 16

# A line for each of the first ones.
_MOST_OUTAGES = 5

# How often a session that failed beside others has to pass alone, before it is their number.
_ALONE = 3


class Holding:
    """The sessions of the phases, from the plan to their records.

    Args:
        runner: holds them.
        findings: gets those that fail.
        progress: where they are recorded.
        deadline: when to begin no more, in ``time.monotonic`` seconds.

    Attributes:
        goes_on: whether there is any use in holding more.
        in_a_row: whether the catalogue was stopped because so many in a row failed.
        was_away: whether it was stopped because the path went away, and came back.
    """

    def __init__(
        self, runner: Runner, findings: Findings, progress: Progress, deadline: float
    ) -> None:
        self.goes_on = True
        self.in_a_row = self.was_away = False
        self._runner = runner
        self._availability = runner.availability
        self._pool = runner.pool
        self._findings = findings
        self._progress = progress
        self._result = progress.result
        self._deadline = deadline
        self._new = False  # whether something failed that is not explained
        self._enough = False  # whether more of this phase shows nothing new
        self._again: list[Held] = []  # failed beside others; to be held alone
        self._in_outage: list[Held] = []  # failed while the path was gone
        self._fail_alone: set[Fault] = set()  # the kinds that need no others, in this phase
        self._failed: list[Held] = []  # since the last one that passed
        self._asked = 0  # how many of these there were when the path was asked
        self._outages = 0

    def hold_all(self, planned: Iterator[Planned]) -> bool:
        """Hold sessions until there are no more, or there is no use in more.

        In the fuzz phase, that is when one fails and no failure explains it.

        Returns:
            whether the phase may go on once what failed is explained.
        """
        self._new = self._enough = self.in_a_row = self.was_away = False
        # What is held from now on avoids what was found of them.
        self._fail_alone.clear()
        stopped = False
        while not stopped:
            following = next(planned, None) if self._make_room() else None
            if following is None:
                stopped = True
            else:
                while not self._pool.has_room(following):
                    self._collect()
                self._runner.hold(following)
                stopped = self._progress.phase is Phase.FUZZ and self._new
        self._settle()
        return self._new and self.goes_on and not self._enough

    @property
    def bears_more(self) -> bool:
        """Whether the path has borne many sessions at the same time, and bears a few more."""
        window = self._runner.window
        wide = window.size >= _WIDE and window.bears is None
        return wide and self.goes_on and not self._failed and not self._enough

    def begin_apart(self, planned: Sequence[Planned]) -> None:
        """Begin sessions that wait by themselves, beside whatever else is held."""
        for one in planned:
            self._runner.hold(one, apart=True)

    def hold_absent(
        self, planned: Sequence[Planned], meanwhile: Callable[[], bool] = lambda: False
    ) -> Sequence[Planned]:
        """Hold sessions with a time without any connection, one after the other.

        Args:
            planned: which.
            meanwhile: called while there is no connection; does a little, and returns whether there
                is more.

        Returns:
            those that were not held, because there is a connection.
        """
        left, more = list(planned), True
        while left and self.goes_on and self._pool.is_empty:
            self._runner.hold(left.pop(0), apart=True)
            while not self._pool.is_empty:
                # An open connection would be silent while this process works.
                working = more and not self._pool.has_connection
                if working:
                    more = meanwhile()
                for held in self._runner.ended(wait=not working):
                    self._ended(held)
        return left

    def wait_apart(self, phase: Phase, until: float = math.inf) -> list[Planned]:
        """Wait for the sessions of a phase that are apart; return those not held in the time.

        Args:
            phase: catalogue or idle.
            until: in ``time.monotonic`` seconds.
        """
        while self.goes_on and time.monotonic() < until:
            if not any(held.planned.phase is phase for held in self._pool.apart):
                break
            self._collect()
        return self.drop_apart(phase)

    def drop_apart(self, phase: Phase | None = None) -> list[Planned]:
        """Give up the sessions that are apart and still wait, of one phase or all; return them."""
        dropped = [h for h in self._pool.apart if phase is None or h.planned.phase is phase]
        for held in dropped:
            self._pool.drop(held)
        return [held.planned for held in dropped]

    def wait_for_late(self) -> None:
        """Wait for the sessions that are late, as long as their patience lasts.

        One that contains a failure already found shows nothing new, and is not waited for.
        """
        for held in self._pool.late:
            if self._findings.may_be_known(Candidate(held.session, held.planned.fin)):
                self._pool.give_up(held)
        for held in self._runner.ended():
            self._ended(held)
        if self._pool.late:
            self._progress.note(f"waiting for {plural(len(self._pool.late), 'late conversation')}")
        while self._pool.late and self.goes_on:
            self._collect()

    def _make_room(self) -> bool:
        """Wait for a place in the window; return whether to begin another session."""
        while self.goes_on and not self._enough and time.monotonic() < self._deadline:
            if self._pool.has_ended:
                self._collect()  # some end as they begin: a missing socket file, say
            elif self._is_suspect:
                self._ask()
            elif self._again and not self._pool.in_time:
                self._hold_again()
            elif self._again or len(self._pool.in_time) >= self._runner.window.size:
                self._collect()
            else:
                return not (self._progress.phase is Phase.FUZZ and self._new)
        return False

    def _settle(self) -> None:
        """Wait for the sessions under way, except the late ones."""
        while self._pool.in_time or (self._again and self.goes_on):
            if self._pool.in_time:
                self._collect()
            elif self._is_suspect:
                self._ask()
            else:
                self._hold_again()
        if len(self._failed) > self._asked and self.goes_on:
            self._ask()

    @property
    def _is_suspect(self) -> bool:
        """Whether so many have failed that the path is to be asked, for the first time or again."""
        suspect = 1 if self._availability.goes_away else _SUSPECT
        return len(self._failed) >= max(suspect, 2 * self._asked)

    def _hold_again(self) -> None:
        """Hold the first one that failed beside others by itself."""
        held = self._again.pop(0)
        self._runner.hold(held.planned, first=held)
        while self._pool.in_time:
            self._collect()

    def _collect(self) -> None:
        for held in self._runner.ended():
            self._ended(held)

    # What an outcome means.

    def _ended(self, held: Held) -> None:
        if self._runner.failed(held.outcome):
            self._ended_failing(held)
            return
        if held.first is not None and held.first not in self._in_outage:
            held.first.passed_alone += 1
            if held.first.passed_alone == _ALONE:
                self._too_many(held.first)
            else:
                self._again.append(held.first)
        if held.first not in self._again:
            self._record(held)
        if held.planned.phase is Phase.IDLE:
            # Of a reader that holds, this is 0.
            steps = held.session.conversations[0].steps
            self._result.passed_silence(sum(s.ms for s in steps if isinstance(s, Pause)))
        # One that was under way already does not show that the path works still, nor one that sees
        # nothing come back.
        if any(held.outcome.answered):
            began = held.running.began
            self._failed = [other for other in self._failed if other.ended > began]
        self._asked = min(self._asked, len(self._failed))
        if held.outcome.ok and held.late and held.outcome.wait > self._runner.clock.late:
            self._progress.delay(held.planned.name, held.outcome)

    def _ended_failing(self, held: Held) -> None:
        if held.apart:
            # It shows nothing of what is under way in the window, nor that the path is gone.
            self._add(held)
            return
        if held.first is None:
            self._failed.append(held)
            if self._may_be_crowded(held):
                self._again.append(held)
                return
        else:
            self._fail_alone.add(held.outcome.kind)
            if held.outcome.kind is Fault.REFUSED:
                # Where nothing can connect any more, the first time says more.
                held = held.first
            elif held.first in self._failed:
                self._failed[self._failed.index(held.first)] = held
            if held not in self._failed:
                self._failed.append(held)
        self._add(held)
        self._give_up()

    def _record(self, held: Held) -> int:
        """Count a session, and return the index of its record."""
        planned = held.planned
        self._progress.count(held.outcome, planned.phase)
        return self._progress.record(planned.name, planned.title, held.outcome, planned.phase)

    def _may_be_crowded(self, held: Held) -> bool:
        """Return whether a session failed only because there were others, perhaps."""
        if held.outcome.kind in self._fail_alone or held.under_way == held.planned.parallel:
            return False
        return all(verdict.ok or not verdict.received for verdict in held.outcome.verdicts)

    def _too_many(self, held: Held) -> None:
        """Note that the path refuses what it bears alone."""
        window = self._runner.window
        if window.bears is None:
            self._progress.note(
                f"one of {plural(held.under_way, 'connection')} at the same time failed "
                f"({held.outcome.kind}), and passes alone; holding fewer"
            )
        window.refused(held.under_way)

    def _add(self, held: Held) -> None:
        record = self._record(held)
        names = {Phase.FUZZ: "fuzz", Phase.IDLE: f"idle {held.planned.name}"}
        pending = Pending(
            record,
            held.outcome,
            names.get(held.planned.phase, held.planned.name),
            # What waits by itself waited for longer than any of these were under way.
            beside=() if held.apart else tuple(other.session for other in held.beside),
            history=() if held.apart else held.history,
            fin=held.planned.fin,
            silence=held.planned.phase is Phase.IDLE,
        )
        if self._findings.add(pending):
            self._new = self._new or not held.apart
        elif held.planned.phase is Phase.FUZZ:
            self._result.count_known()

    def _give_up(self) -> None:
        """Stop a phase in which nothing new is to be expected."""
        known, held = self._result.known, self._result.counts[Phase.FUZZ]
        if self._progress.phase is Phase.FUZZ:
            if known >= _KNOWN_AGAIN and 2 * known > held and not self._enough:
                self._enough = True
                self._progress.note(
                    f"{known} conversations contained a failure already found; "
                    "fix it, or --exclude its kind, to search further"
                )
        elif len(self._failed) >= IN_A_ROW and not self._enough:
            self._enough = self.in_a_row = True

    # Paths that die.

    def _ask(self) -> None:
        """Find out whether the path still works; if not, that is the failure."""
        while self._pool.in_time:
            self._collect()
        self._asked = len(self._failed)
        if not self._failed:
            return
        gone = self._availability.wait()
        if gone is None:
            self._end()
        elif gone:
            self._came_back(gone)
        if self._availability.outages:
            self._failed.clear()
            self._asked = 0

    def _came_back(self, gone: float) -> None:
        """Note that the path was away, and what that means for what failed."""
        self._outages += 1
        if self._outages <= _MOST_OUTAGES:
            self._progress.note(f"the path was gone for {gone:.1f} s, {self._since()}")
        self._in_outage += self._again
        self._findings.were_cut_off(self._failed[1:])
        if self._progress.phase is Phase.CATALOGUE and self._findings.pending:
            # If one of them did it, the others are held without what it needs.
            self._enough = self.was_away = True

    def _end(self) -> None:
        """Make one failure of all that nothing came back to any more."""
        self.goes_on = False
        for held in self._again:
            self._add(held)
        self._again.clear()
        # Wrong bytes came from a path that worked.
        self._failed = [h for h in self._failed if h.outcome.kind in DEAD] or self._failed
        # One that was silent before the last answered connection was silent for another reason.
        count = self._runner.answers.stopped_after or 0
        late = [h for h in self._failed if h.outcome.kind in TIMED and _number(h) <= count]
        since = [held for held in self._failed if held not in late] or self._failed
        first = min(since, key=_number)
        verdicts = [v for held in since for v in held.outcome.verdicts if not v.ok]
        explanation = self._availability.used_up(verdicts, first.history[-1:], len(since))
        culprit = first if explanation is not None else self._culprit()
        self._failed.remove(culprit)
        self._failed.insert(0, culprit)
        self._findings.tell_the_end(
            self._failed, f"nothing has worked {self._since()}", explanation
        )

    def _culprit(self) -> Held:
        """Return the one of those that failed with which it began.

        That is the first session, of which something was sent if possible. One that was late has
        waited since before.
        """
        first = min(self._failed, key=lambda held: held.late)
        together = [h for h in self._failed if h is first or h in first.beside or first in h.beside]
        return min(together, key=lambda held: (held.late, held.outcome.kind is Fault.REFUSED))

    def _since(self) -> str:
        """Return what failed first, in words, and what failed with it."""
        first = self._failed[0]
        planned = first.planned
        what = planned.title or shorten(str(planned.session), 60)
        number = first.running.connection
        text = f"since {_name(planned)} ({what}: {first.outcome.kind}), connection {number}"
        # Each of these may be the cause as well.
        beside = [_name(held.planned) for held in self._failed[1:] if held in first.beside]
        return f"{text}, beside {', '.join(beside)}" if beside else text


def _number(held: Held) -> int:
    return held.running.connection


def _name(planned: Planned) -> str:
    return planned.name if planned.title else f"conversation {planned.name}"
