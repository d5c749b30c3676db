"""A whole run of the probe: preflight, saved failures, catalogue, fuzz, and shrinking between.

The campaign fills a :class:`CampaignResult` and informs an :class:`Observer` as it goes. It
prints nothing, and writes nothing but the saved failures.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
import time
from collections.abc import Callable, Iterator, Sequence

from echoproto.probe.script.catalogue import Case, catalogue, sized
from echoproto.probe.script.words import plural
from echoproto.probe.search.background import (
    held_sessions,
    idle_lengths,
    idle_sessions,
    not_held,
)
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.failures import SavedFailures, SavedFailuresError
from echoproto.probe.search.findings import Findings
from echoproto.probe.search.holding import IN_A_ROW, Holding
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.plan import Plan, Planned
from echoproto.probe.search.preflight import Preflight, StoppedError, preflight
from echoproto.probe.search.progress import Progress
from echoproto.probe.search.replays import Replays
from echoproto.probe.search.reproduced import PathGoneError
from echoproto.probe.search.result import CampaignResult, Phase
from echoproto.probe.search.runner import Runner
from echoproto.probe.search.settings import Settings
from echoproto.probe.search.stopped import stopped_failure
from echoproto.probe.wire.connector import LocalError
from echoproto.probe.wire.target import Target, TargetError

__all__ = ["Campaign"]

# What takes longer than this is announced.
_LONG_SECONDS = 30.0
_SAMPLE = 32
# What is drawn while there is no connection, and kept.
_DRAWN_BYTES = 32_000_000

# So many failing conversations of the fuzz phase are listed; more would show nothing new.
_MOST_LEFT_OUT = 25

# With fewer connections allowed, what waits takes its place in the window.
_SPARE = 32


class Campaign:
    """One run.

    Args:
        target: where to connect.
        settings: what to do.
        observer: informed of what happens.
        saved: the failures on disk; those of this target by default.
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
        self._saved = saved or SavedFailures(target=target)
        self._progress = Progress(self.result, observer or Observer())
        self._began = time.monotonic()
        self._deadline = self._began + (settings.max_time or math.inf)
        self._known: Preflight
        self._runner: Runner | None = None
        self._findings: Findings
        self._holding: Holding
        self._idle: list[Planned] = []
        self._aside: list[Planned] = []  # to be held apart, and these
        self._absent: Sequence[Planned] = []  # to be held while there is no connection
        self._begun = False

    def run(self) -> CampaignResult:
        """Run all phases.

        Returns:
            the result, also of a campaign that could not test or was interrupted.
        """
        try:
            try:
                self._run_phases()
            except StoppedError as stopped:
                self._progress.failure(stopped_failure(stopped, self._target))
            except PathGoneError as gone:
                self._findings.tell_gone(gone)
        except KeyboardInterrupt as stop:
            self.result.interrupt(getattr(stop, "exit_code", 130))
            if self._runner is not None:
                self._findings.tell_as_seen()
        except (TargetError, LocalError, SavedFailuresError) as error:
            self.result.fail(str(error))
        finally:
            if self._runner is not None:
                self._runner.pool.close()
        self._progress.end_phase()
        self.result.end(time.monotonic() - self._began)
        return self.result

    def _run_phases(self) -> None:
        settings, progress = self._settings, self._progress
        runner = self._reach()
        fin = self._known.half_close
        replays = Replays(self._saved, settings, runner, self._findings, progress, fin)
        replays.assume_known()
        if not settings.cases:
            replays.hold(self._deadline)
            self._shrink_pending()
        cases, draws = self._chosen_cases(), 0 if settings.cases else settings.examples
        if not settings.cases:
            self._idle = self._waiting()
        progress.ask(Phase.CATALOGUE, len(cases))
        progress.ask(Phase.FUZZ, draws)
        self._run_catalogue(cases)
        if draws and self._holding.goes_on:
            self._fuzz(draws)
        elif self._holding.goes_on:
            self._begin_background()
        self._end_background()
        self._end_late()

    def _reach(self) -> Runner:
        """Connect, and find out what all verdicts depend on."""
        settings, progress = self._settings, self._progress
        progress.enter(Phase.PREFLIGHT)
        connector, self._known = preflight(
            self._target,
            settings.rate,
            timeout=settings.timeout,
            connect_timeout=settings.connect_timeout,
            patience=settings.patience,
        )
        self._runner = Runner(connector, self._known, settings, progress)
        self._findings = Findings(
            self._target,
            settings,
            progress,
            self._saved,
            self._deadline,
            self._known,
            self._runner,
        )
        self._holding = Holding(self._runner, self._findings, progress, self._deadline)
        self.result.reached(self._known)
        progress.note(str(self._known))
        return self._runner

    # Phases.

    def _run_catalogue(self, cases: list[Case]) -> None:
        most = Plan(self._known).most_bytes
        fin = self._known.half_close
        planned = [Planned(Phase.CATALOGUE, c.number, c.name, c.session, fin) for c in cases]
        fitting = [one for one in planned if one.size <= most]
        self._absent = [one for one in fitting if one.absent]
        waiting = [one for one in fitting if one.waits and not one.absent]
        at_once = [one for one in fitting if not one.waits]
        self._progress.enter(Phase.CATALOGUE, len(at_once))
        self._announce(fitting, len(fitting))
        if too_large := [one.name for one in planned if one.size > most]:
            self._progress.note(
                f"skipped {', '.join(too_large)}: more than {most:.0f} bytes each, which take "
                "too long on this path"
            )
            self._progress.ask(Phase.CATALOGUE, len(fitting))
        self._hold_catalogue(self._without_two_at_once(at_once))
        if self._holding.bears_more and self._settings.parallel >= _SPARE:
            self._shrink_pending()
            self._aside = [*waiting, *self._idle]
        else:
            self._hold_catalogue(waiting)
            self._shrink_pending()

    def _without_two_at_once(self, cases: list[Planned]) -> list[Planned]:
        """Hold the first case of several connections by itself, and return the others.

        On a path that serves one connection at a time, sessions that are under way together wait
        for one another: so that is to be known before.
        """
        first = next((one for one in cases if one.parallel > 1), None)
        if first is None:
            return cases
        self._holding.hold_all(self._avoiding(iter([first])))
        self._holding.wait_for_late()
        if self._findings.pending:
            self._shrink_pending()
            self._progress.enter(Phase.CATALOGUE, len(cases) - 1)
        return [one for one in cases if one is not first]

    def _hold_catalogue(self, cases: list[Planned]) -> None:
        """Hold cases; whenever there is no use in more, first look at what failed."""
        holding, left = self._holding, iter(cases)
        following = self._avoiding(left)
        holding.hold_all(following)
        while holding.in_a_row or holding.was_away:
            # Perhaps the others pass without what these have in common.
            found = len(self.result.failures)
            self._shrink_pending()
            if holding.in_a_row and len(self.result.failures) == found:
                self._progress.note(f"{IN_A_ROW} cases in a row failed; skipped the others")
                return
            self._progress.enter(Phase.CATALOGUE, operator.length_hint(left))
            holding.hold_all(following)

    def _avoiding(self, planned: Iterator[Planned]) -> Iterator[Planned]:
        """Yield what is planned, without what the failures need that are known by then."""
        for one in planned:
            if not self._findings.known:
                yield one
                continue
            avoided = self._findings.avoided(Candidate(one.session, one.fin))
            yield dataclasses.replace(one, session=avoided.session, fin=avoided.fin)

    def _begin_background(self) -> None:
        """Begin what waits by itself; nothing that takes this process long may come next."""
        if self._aside:
            self._holding.begin_apart(self._aside)
            self._begun = True

    def _chosen_cases(self) -> list[Case]:
        """Return the cases to run: those asked for that need no more than ``parallel``."""
        wanted, parallel = self._settings.cases, self._settings.parallel
        cases = [case for case in catalogue() if not wanted or case.number in wanted]
        cases = [sized(case, self._settings.crowd, parallel) for case in cases]
        skipped = ", ".join(case.number for case in cases if case.parallel > parallel)
        if skipped:
            self._progress.note(f"skipped {skipped}: more connections than --parallel allows")
        return [case for case in cases if case.parallel <= parallel]

    def _fuzz(self, count: int) -> None:
        self._progress.enter(Phase.FUZZ, count)
        drawn = itertools.islice(self._drawn(), count)
        sample: list[Planned] = []
        self._hold_absent(lambda: _take(drawn, sample))
        if self._findings.pending:
            self._shrink_pending()
            self._progress.enter(Phase.FUZZ, count)
        sample += itertools.islice(drawn, max(0, _SAMPLE - len(sample)))
        self._announce(sample, count)
        self._begin_background()
        planned = self._avoiding(itertools.chain(sample, drawn))
        before = left_out = len(self.result.left_out)
        while self._holding.hold_all(planned):
            # Something new failed. Drawing goes on without what it needs. Once there was no time to
            # analyse all of it, the rest is held, and what fails of it is listed.
            self._shrink_pending(analysing=left_out == before)
            left_out = len(self.result.left_out)
            if self._out_of_time() or left_out >= before + _MOST_LEFT_OUT:
                return
            self._progress.enter(Phase.FUZZ, count - self.result.counts[Phase.FUZZ])

    def _drawn(self) -> Iterator[Planned]:
        """Yield sessions to hold, without end; none that the path cannot carry in time."""
        # They import Hypothesis, which a campaign of single cases does not need.
        from echoproto.probe.script.strategies import sessions
        from echoproto.probe.search.draw import drawn

        settings, most = self._settings, Plan(self._known).most_bytes
        strategy = sessions(
            settings.tokens,
            settings.sizes,
            half_close=self._known.half_close,
            parallel=settings.parallel,
        )
        count = itertools.count(1)
        for session in drawn(strategy, settings.seed):
            planned = Planned(Phase.FUZZ, "", "", session)
            if planned.size <= most:
                yield Planned(Phase.FUZZ, str(next(count)), "", session, self._known.half_close)

    def _end_background(self) -> None:
        """Wait for what is apart: the catalogue, and silences that were asked for."""
        holding, idle, asked = self._holding, self._idle, self._settings.idle is not None
        holding.wait_apart(Phase.CATALOGUE)
        if not idle:
            return
        if asked and holding.goes_on:
            self._progress.enter(Phase.IDLE)
            if not self._begun:
                holding.hold_all(iter(idle))
            left, why = holding.wait_apart(Phase.IDLE, self._deadline), "the time is up"
        else:
            left = holding.drop_apart(Phase.IDLE) if self._begun else idle
            why = f"--idle {idle_lengths(None)[-1]:g} waits for them"
        if left:
            self._progress.note(not_held(left, why))

    def _shrink_pending(self, *, analysing: bool = True) -> None:
        if self._findings.pending:
            # A crowd is counted without those that are apart.
            sessions = [pending.outcome.session for pending in self._findings.pending]
            crowded = any(len(s.conversations) > 1 and not s.sequential for s in sessions)
            again = self._holding.drop_apart() if crowded else []
            self._progress.enter(Phase.SHRINK)
            self._findings.shrink(analysing)
            self._holding.begin_apart(again)

    def _end_late(self) -> None:
        """Wait for what is late; then there is no connection any more."""
        self._holding.wait_for_late()
        self._hold_absent()
        self._shrink_pending()

    def _hold_absent(self, meanwhile: Callable[[], bool] = lambda: False) -> None:
        """Hold the cases that need a time without any connection, if there is none now."""
        if not self._out_of_time():
            self._absent = self._holding.hold_absent(self._absent, meanwhile)

    def _waiting(self) -> list[Planned]:
        """Return the sessions in which nothing happens for a while."""
        known, most = self._known, self._settings.idle
        held = held_sessions(known, most, Plan(known).bytes_at_once)
        return [*idle_sessions(known, most), *held]

    def _announce(self, sample: list[Planned], count: int) -> None:
        """Say how long a phase takes, if that is long."""
        seconds = Plan(self._known).seconds(sample, count)
        if seconds > _LONG_SECONDS:
            minutes = math.ceil(seconds / 60)
            self._progress.note(
                f"{self._progress.phase}: about {plural(minutes, 'minute')} on this path"
            )

    def _out_of_time(self) -> bool:
        return time.monotonic() >= self._deadline


def _take(drawn: Iterator[Planned], sample: list[Planned]) -> bool:
    """Draw one more session, to be held later; return whether to draw another."""
    one = next(drawn, None)
    if one is None:
        return False
    sample.append(one)
    return sum(planned.size for planned in sample) < _DRAWN_BYTES
